"""Which folder of animals/cat/1.jpg is the class: by rule, said in a note, or by a setting."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from gendataagent.config import AUTO
from gendataagent.core.errors import DataError
from gendataagent.core.text import counted
from gendataagent.data.index import TRAIN, first_few, normalise_name, split_of

FIRST, LAST, PATH = "first", "last", "path"
_NO_NAME = re.compile(r"[\W\d_]+")  # 2020, 01-15: no class


@dataclass(frozen=True, slots=True)
class Nesting:
    """How the folders of an image are read.

    Args:
        depth: number of folders above that of the class.
        how: which folder below is the class: "first", "last", or "path" for all of them.
        inner_splits: whether the folder below the class is the split.
        notes: sentences for the user.
    """

    depth: int
    how: str = FIRST
    inner_splits: bool = False
    notes: tuple[str, ...] = ()

    def class_of(self, folders: Sequence[str]) -> str:
        """Return the class of an image by all its folders."""
        below = [normalise_name(folder) for folder in folders[self.depth :]]
        if self.how == FIRST:
            return below[0]
        return below[-1] if self.how == LAST else "/".join(below)


def find_nesting(
    images: Sequence[str], how: str, *, below_splits: bool = False, need_train: bool = True
) -> Nesting:
    """Return how to read the folders of images; `how` is the setting data.class_folder.

    With "auto" the class is the first folder. A single folder that holds others is no class but
    their container, where two classes are needed. Where the sub-folders of each class are splits,
    they are read as such; where they may be the classes, a note says so.

    Args:
        images: relative paths.
        below_splits: whether the first folder of each is a split.

    Raises:
        DataError: with "last", folders of one name in different ones.
    """
    depth = int(below_splits)
    folders = {os.path.dirname(path) for path in images}
    parts = [found for folder in folders if len(found := folder.split(os.sep)) > depth]
    parts = [found for found in parts if found[depth]]
    if how == LAST:
        _require_one_place(parts, depth)
    if how != AUTO:
        return Nesting(depth, how)
    notes: list[str] = []
    while need_train and (inner := _inner(parts, depth)) and len(inner) == 1:
        (container, names), *_ = inner.items()
        if len(names) < 2 or all(map(split_of, names)):
            break
        depth += 1
        notes.append(
            f"{container}/ holds all class folders; it is no class (data.class_folder=first would "
            "make it one)."
        )
    inner = _inner(parts, depth)
    names = {name for some in inner.values() for name in some}
    if names and not below_splits and all(map(split_of, names)) and _have_train(inner.values()):
        notes.append(
            f"The folders below the classes ({first_few(sorted(names))}) were read as splits."
        )
        return Nesting(depth, inner_splits=True, notes=tuple(notes))
    if any(split_of(name) == TRAIN for name in names):
        others = sorted(name for name in names if split_of(name) is None)
        notes.append(
            "Folders named train or the like below the classes were not read as splits, because "
            f"others are beside them ({first_few(others)}) or some classes have none."
        )
    if _may_be_classes(inner):
        tops, below = (first_few(sorted(some), at_most=3) for some in (inner, names))
        notes.append(
            f"Read the first folders as the {counted(len(inner), 'class', 'classes')} ({tops}). If "
            f"the classes are the {counted(len(names), 'folder', 'folders')} below ({below}), set "
            f"data.class_folder=last, or path for names such as {_example(inner)}; "
            "data.class_folder=first keeps them without this note."
        )
    return Nesting(depth, notes=tuple(notes))


def _inner(parts: Collection[Sequence[str]], depth: int) -> Mapping[str, set[str]]:
    """Return folder -> names of the folders in it; {} if one has images itself, or none others."""
    inner: dict[str, set[str]] = defaultdict(set)
    for found in parts:
        if len(found) <= depth + 1:
            return {}
        inner[found[depth]].add(normalise_name(found[depth + 1]))
    return inner


def _have_train(folders: Collection[set[str]]) -> bool:
    return all(any(split_of(name) == TRAIN for name in names) for names in folders)


def _may_be_classes(inner: Mapping[str, set[str]]) -> bool:
    """Return whether sub-folders may be classes: several in one folder, with names of their own."""
    sets = list(inner.values())
    names = {name for some in sets for name in some}
    if not any(len(some) > 1 for some in sets) or all(map(_NO_NAME.fullmatch, names)):
        return False
    return len(sets) == 1 or any(some != sets[0] for some in sets)


def _example(inner: Mapping[str, set[str]]) -> str:
    top = min(inner)
    return f"{normalise_name(top)}/{min(inner[top])}"


def _require_one_place(parts: Collection[Sequence[str]], depth: int) -> None:
    places: dict[str, str] = {}
    for found in sorted(parts, key=list):
        name, place = normalise_name(found[-1]), normalise_name("/".join(found[depth:]))
        other = places.setdefault(name, place)
        if other != place:
            raise DataError(
                f"data.class_folder=last makes one class {name!r} of {other} and {place}; "
                "data.class_folder=path tells them apart"
            )
