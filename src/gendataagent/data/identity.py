"""Whether loaded images are those that a run was started with: by content, not by place or date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gendataagent.core.errors import RunFolderError
from gendataagent.data.index import TEST, TRAIN, VALIDATION, first_few
from gendataagent.data.splits import ImageSplits

Row = Mapping[str, Any]
_WHAT_DIFFERS = {"content": "other content", "class": "another class", "split": "another split"}


def as_recorded(splits: ImageSplits, rows: Sequence[Row], *, place: str, whose: str) -> ImageSplits:
    """Return `splits` with the order and the labels of the rows of `ImageSplits.to_rows`, recorded.

    Args:
        place: where the images were read, for the message.
        whose: what was made with them, for the message ("the run in runs/first").

    Raises:
        RunFolderError: they are not the same images, of the same classes, in the same splits;
            names files.
    """
    now = {row["id"]: row for row in splits.to_rows()}
    then = {row["id"]: row for row in rows}
    found = {
        words: [id_ for id_ in then if id_ in now and now[id_][key] != then[id_].get(key)]
        for key, words in _WHAT_DIFFERS.items()
    }
    found["missing"] = [id_ for id_ in then if id_ not in now]
    found["not there before"] = [id_ for id_ in now if id_ not in then]
    differences = [f"{what}: {first_few(ids)}" for what, ids in found.items() if ids]
    if differences:
        raise RunFolderError(
            f"the images at {place} are not those that {whose} was started with: "
            f"{'; '.join(differences)}. Put them back, name their new place with --data, or start "
            "a new run with --out"
        )
    label_of = {row["class"]: row["label"] for row in rows}
    names = tuple(sorted(label_of, key=label_of.__getitem__))
    number_of = {name: number for number, name in enumerate(names)}
    sets, sketches = {}, {}
    for split, images in splits.by_name().items():
        own = [row for row in rows if row["split"] == split]
        order = [images.index_of(row["id"]) for row in own]
        labels = tuple(number_of[row["class"]] for row in own)
        sets[split] = replace(images.subset(order), class_names=names, labels=labels)
        if split in splits.sketches:
            sketches[split] = splits.sketches[split][order]
    return replace(
        splits,
        train=sets[TRAIN],
        validation=sets[VALIDATION],
        test=sets[TEST],
        sketches=sketches,
    )
