"""Images that belong together: frames of one video, crops of one photograph, copies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from gendataagent.config import AUTO, DataConfig
from gendataagent.core.errors import ConfigError
from gendataagent.core.text import counted
from gendataagent.data.duplicates.likeness import Likeness, joined
from gendataagent.data.index import SPLITS, DatasetIndex, Item, first_few
from gendataagent.data.name_patterns import names_by, names_by_setting

# "IMG_12_jpg.rf.0a1b2c.jpg": Roboflow exports several augmented copies of IMG_12.jpg.
ROBOFLOW = r"((?:[^/]+/)?[^/]+)\.rf\.[^/]+$"


def group_images(
    items: Sequence[Item],
    digests: Mapping[str, bytes],
    likeness: Likeness,
    index: DatasetIndex,
    config: DataConfig,
) -> tuple[Sequence[int], list[str]]:
    """Return the number of each item's group, and notes.

    A group joins identical files, near-duplicates, boxes of one photograph, and images of one value
    under data.group_by.

    Raises:
        ConfigError: data.group_by is neither a column nor a pattern that fits any id.
    """
    named, notes = named_groups(items, index, config)
    if not index.group_column:
        notes += _mixed(items, named)
    same: dict[object, list[int]] = defaultdict(list)
    for row, item in enumerate(items):
        same[digests[item.id]].append(row)
        if (name := named.get(item.id)) is not None:
            same[name].append(row)
        if photo := index.photos.get(item.id):
            same["photo", photo].append(row)
    links = [(pair.row, pair.reference) for pair in likeness.pairs]
    links += [(rows[0], row) for rows in same.values() for row in rows[1:]]
    return joined(len(items), links), notes


def named_groups(
    items: Sequence[Item], index: DatasetIndex, config: DataConfig
) -> tuple[Mapping[str, str], list[str]]:
    """Return {id: name of its group} under data.group_by, and notes; raise as `group_images`."""
    if not config.group_by:
        return {}, []
    if index.group_column:
        return index.groups, [_note(index.groups, f"column {index.group_column!r}")]
    ids = [item.id for item in items]
    if config.group_by == AUTO:
        named = names_by(ROBOFLOW, ids)
        return named, [_note(named, "augmented copies by Roboflow's names")] if named else []
    example = "(.*)_frame, or name a column"
    named = names_by_setting("data.group_by", config.group_by, example, ids)
    if not named:
        raise ConfigError(
            f"data.group_by {config.group_by!r} is no column of the data and fits no id of an "
            f"image, as {first_few(ids, at_most=3)}; name a column, or "
            "give a pattern such as (.*)_frame"
        )
    return named, [_note(named, f"data.group_by {config.group_by!r}")]


def _note(named: Mapping[str, str], how: str) -> str:
    groups = counted(len(set(named.values())), "group", "groups")
    return f"{counted(len(named), 'image is', 'images are')} in {groups} ({how})."


def _mixed(items: Sequence[Item], named: Mapping[str, str]) -> list[str]:
    """Return a note on groups with images of several classes, whose names may be numbered anew."""
    classes: dict[str, set[str]] = defaultdict(set)
    for item in items:
        if item.id in named:
            classes[named[item.id]].add(item.class_name)
    mixed = sorted(name for name, found in classes.items() if len(found) > 1)
    if not mixed:
        return []
    return [
        f"{counted(len(mixed), 'group', 'groups')} under data.group_by: images of several classes "
        f"(first: {mixed[0]!r} of {first_few(sorted(classes[mixed[0]]), at_most=3)}). If each "
        "folder numbers its own, let the first bracket of the pattern begin with the folder: "
        "(.*)_frame"
    ]


def groups_across_splits(
    items: Sequence[Item], index: DatasetIndex, config: DataConfig
) -> list[str]:
    """Return a note on the groups that the given splits separate."""
    named, _ = named_groups(items, index, config)
    splits: dict[str, set[str]] = defaultdict(set)
    for item in items:
        if item.id in named:
            splits[named[item.id]].add(item.split)
    if not (torn := sorted(name for name, found in splits.items() if len(found) > 1)):
        return []
    return [
        f"{counted(len(torn), 'group', 'groups')} under data.group_by: images in several of "
        f"{', '.join(SPLITS)} (first: {torn[0]}): the given splits separate them, and "
        "validation and test figures may be too high."
    ]
