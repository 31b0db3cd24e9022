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
from gendataagent.data.formats.split_folders import SplitFolders
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
        copy: a folder beside the classes that holds a second copy of them all; "" = none.
        notes: sentences for the user.
    """

    depth: int
    how: str = FIRST
    inner_splits: bool = False
    copy: str = ""
    notes: tuple[str, ...] = ()

    def class_of(self, folders: Sequence[str]) -> str:
        """Return the class of an image by all its folders."""
        below = [normalise_name(folder) for folder in folders[self.depth :]]
        if self.how == FIRST:
            return below[0]
        return below[-1] if self.how == LAST else "/".join(below)

    def is_copy(self, folders: Sequence[str]) -> bool:
        """Return whether an image is in the second copy."""
        return bool(self.copy) and folders[self.depth] == self.copy


def find_nesting(
    images: Sequence[str],
    how: str,
    splits: SplitFolders = SplitFolders(),  # noqa: B008 (immutable)
    *,
    need_train: bool = True,
) -> Nesting:
    """Return how to read the folders of images; `how` is the setting data.class_folder.

    With "auto" the class is the first folder. A single folder that holds all others, or all those
    of a split, is no class but their container; but where one class is enough, one of dates is.
    Where the sub-folders of each class are splits, they are read as such; where they may be the
    classes, a note says so.

    Args:
        images: relative paths.

    Raises:
        DataError: with "last", folders of one name in different ones.
    """
    depth = splits.depth + bool(splits.splits)
    folders = {os.path.dirname(path) for path in images}
    parts = [found for folder in folders if len(found := folder.split(os.sep)) > depth]
    parts = [found for found in parts if found[depth]]
    if how != AUTO:
        return Nesting(depth, how, notes=_joined(parts, depth) if how == LAST else ())
    notes: list[str] = []
    if splits.splits:
        holders = _containers_in_splits(parts, depth, need_train)
        if holders:
            depth += 1
            notes.append(f"{holders} hold all class folders of their split; they are no classes.")
    elif containers := _containers(parts, depth, need_train):
        depth += len(containers)
        notes.append(
            f"{'/'.join(containers)}/ holds all class folders; it is no class "
            "(data.class_folder=first would make it one)."
        )
    parts = [found for found in parts if len(found) > depth]
    inner = _inner(parts, depth)
    names = {name for some in inner.values() for name in some}
    if names and not splits.splits and all(map(split_of, names)) and _have_train(inner.values()):
        notes.append(
            f"The folders below the classes ({first_few(sorted(names))}) were read as splits."
        )
        return Nesting(depth, inner_splits=True, notes=tuple(notes))
    if copy := _copy(parts, depth):
        return Nesting(depth, copy=copy, notes=tuple(notes))
    if any(split_of(name) == TRAIN for name in names):
        others = sorted(name for name in names if split_of(name) is None)
        notes.append(
            "Folders named train or the like below the classes were not read as splits, because "
            f"others are beside them ({first_few(others)}) or some classes have none."
        )
    inner, skipped = _below_single(parts, depth)
    names = {name for some in inner.values() for name in some}
    if _may_be_classes(inner, of_their_own=skipped):
        tops, below = (first_few(sorted(some), at_most=3) for some in (inner, names))
        notes.append(
            f"Read the first folders as the {counted(len(inner), 'class', 'classes')} ({tops}). If "
            f"the classes are the {counted(len(names), 'folder', 'folders')} below ({below}), set "
            f"data.class_folder=last, or path for names such as {_example(parts, depth)}; "
            "data.class_folder=first keeps them without this note."
        )
    return Nesting(depth, notes=tuple(notes))


def _containers(parts: Collection[Sequence[str]], depth: int, need_train: bool) -> list[str]:
    """Return the folders, one in another, that each hold all others; no class is among them.

    Where one class is enough, a folder of dates and numbers is that class.
    """
    chain, containers = list[str](), list[str]()
    while len(inner := _inner(parts, depth + len(chain))) == 1:
        ((container, names),) = inner.items()
        if all(map(split_of, names)):
            break
        chain.append(normalise_name(container))
        if len(names) > 1 and (need_train or not all(map(_NO_NAME.fullmatch, names))):
            containers = list(chain)
    return containers


def _containers_in_splits(parts: Collection[Sequence[str]], depth: int, need_train: bool) -> str:
    """Return what holds all class folders in each split, as training_set/training_set/; "" = none.

    Where one class is enough, the folder must have the name of its split.
    """
    inner = _inner(parts, depth - 1)
    same = all(some == {split} for split, some in inner.items())
    if not inner or not (same or need_train) or any(len(some) > 1 for some in inner.values()):
        return ""
    classes = {found[depth + 1] for found in parts if len(found) > depth + 1}
    holders = sorted(f"{split}/{name}/" for split, (name,) in inner.items())
    return first_few(holders) if len(classes) > 1 else ""


def _copy(parts: Collection[Sequence[str]], depth: int) -> str:
    """Return the folder that holds folders of the same names as those beside it; "" for none."""
    tops = {found[depth] for found in parts}
    below: dict[str, set[str]] = defaultdict(set)
    for found in parts:
        below[found[depth]].add(found[depth + 1] if len(found) > depth + 1 else "")
    copies = [top for top, names in below.items() if len(names) > 1 and names <= tops - {top}]
    return copies[0] if len(copies) == 1 else ""


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


def _below_single(
    parts: Collection[Sequence[str]], depth: int
) -> tuple[Mapping[str, set[str]], bool]:
    """Return as `_inner` what each folder holds, below any that is alone (web/images/bike).

    Also returns whether there is such a folder.
    """
    inner, level = _inner(parts, depth), depth
    while inner and all(len(names) == 1 for names in inner.values()):
        level += 1
        if any(len(found) <= level + 1 for found in parts):
            break
        inner = defaultdict(set)
        for found in parts:
            inner[found[depth]].add(normalise_name(found[level + 1]))
    return inner, level > depth


def _may_be_classes(inner: Mapping[str, set[str]], *, of_their_own: bool) -> bool:
    """Return whether sub-folders may be classes: several in one folder, with names of their own.

    Such are `of_their_own`, those that differ from folder to folder, and any below folders that are
    only numbered (fold1, fold2).
    """
    sets = list(inner.values())
    names = {name for some in sets for name in some}
    if not any(len(some) > 1 for some in sets) or all(map(_NO_NAME.fullmatch, names)):
        return False
    numbered = len({re.sub(r"\d+", "", top) for top in inner}) == 1
    return of_their_own or numbered or any(some != sets[0] for some in sets)


def _example(parts: Collection[Sequence[str]], depth: int) -> str:
    return normalise_name("/".join(min(list(found[depth:]) for found in parts)))


def _joined(parts: Collection[Sequence[str]], depth: int) -> tuple[str, ...]:
    """Return a note where most names of folders occur in several places, as in folds or domains.

    Raises:
        DataError: only some names do, so they may mean different classes.
    """
    places: dict[str, set[str]] = defaultdict(set)
    for found in parts:
        places[normalise_name(found[-1])].add(normalise_name("/".join(found[depth:])))
    several = {name: sorted(where) for name, where in places.items() if len(where) > 1}
    if not several:
        return ()
    name, where = min(several.items())
    if 2 * len(several) <= len(places):
        raise DataError(
            f"data.class_folder=last makes one class {name!r} of {where[0]} and {where[1]}; "
            "data.class_folder=path tells them apart"
        )
    return (
        f"Put together folders of one name (data.class_folder = last): {first_few(where)} are the "
        f"class {name!r}.",
    )
