"""Which folders are train, validation and test: photos/train/cat/1.jpg, seg_train/..., wrapped."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gendataagent.core.errors import DataError
from gendataagent.data.index import TRAIN, first_few, split_of
from gendataagent.data.name_patterns import names_hint


@dataclass(frozen=True, slots=True)
class SplitFolders:
    """The folders that are splits.

    Args:
        depth: folders above them; one that holds everything is no class.
        splits: {folder: split}; {} = the data has no splits.
        notes: sentences for the user.
    """

    depth: int = 0
    splits: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def split_of(self, parts: Sequence[str]) -> str | None:
        """Return the split of a path by its parts; None = outside of them, or there are none."""
        folder = parts[self.depth] if len(parts) > self.depth + 1 else ""
        return self.splits.get(folder)


def find_split_folders(root: Path, images: Sequence[str], *, need_train: bool) -> SplitFolders:
    """Return the split folders of images, below any folders that hold everything.

    Args:
        images: relative paths.

    Raises:
        DataError: splits without train or without class folders, or two folders for one split.
    """
    paths = [path.split(os.sep) for path in images]
    depth = 0
    while True:
        below = [parts[depth:] for parts in paths]
        tops = {parts[0] for parts in below if len(parts) > 1}
        named = _named_splits(tops)
        if depth == 0 or any(split == TRAIN or not need_train for split in named.values()):
            here = root.joinpath(*paths[0][:depth]) if paths else root
            splits = _checked(here, below, named, need_train=need_train, strict=depth == 0)
            if splits:
                return SplitFolders(depth, splits, tuple(_said(splits)))
        if len(tops) != 1 or named or any(len(parts) < 3 for parts in below):
            return SplitFolders()
        depth += 1


def _said(splits: Mapping[str, str]) -> list[str]:
    unusual = [f"{folder}/ as {split}" for folder, split in splits.items() if not split_of(folder)]
    return [f"Read {first_few(unusual)}."] if unusual else []


def _named_splits(names: set[str]) -> dict[str, str]:
    """Return {folder: split} by the words train, val, test...; or seg_train, seg_test.

    Folders of the second form count if they are equal but for that word, and one is train.
    """
    if exact := {name: split for name in sorted(names) if (split := split_of(name))}:
        return exact
    alike: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for name in sorted(names):
        words = re.findall(r"[^\W\d_]+|\d+", name)
        found = [(split, word) for word in words if (split := split_of(word))]
        if len(found) == 1:
            ((split, said),) = found
            alike[tuple(word for word in words if word != said)][name] = split
    pairs = [named for named in alike.values() if TRAIN in named.values() and len(named) > 1]
    return pairs[0] if len(pairs) == 1 else {}


def _checked(
    root: Path,
    paths: Sequence[Sequence[str]],
    splits: Mapping[str, str],
    *,
    need_train: bool,
    strict: bool,
) -> Mapping[str, str]:
    """Return the splits; {} if the top folders are classes (one may be named "train").

    Args:
        strict: whether splits without class folders are an error, else they are none.
    """
    if not splits:
        return {}
    direct = Counter(parts[0] for parts in paths if len(parts) == 2)
    nested = Counter(parts[0] for parts in paths if len(parts) > 2)
    top = set(direct) | set(nested)
    named: dict[str, list[str]] = defaultdict(list)
    for name, split in splits.items():
        named[split].append(name)
    others = sorted(top - splits.keys())
    deep = [split for split, names in named.items() if any(nested[name] for name in names)]
    if not strict and not deep:
        return {}
    if others and TRAIN not in named and deep:
        pass  # val/class/* beside my_images/class/*: not classes, an error below
    elif others and (TRAIN not in deep or (len(deep) == 1 and direct[named[TRAIN][0]])):
        return {}
    if others and deep == [TRAIN]:
        raise DataError(
            f"{named[TRAIN][0]}/ in {root} has sub-folders like a split, but {first_few(others)} "
            "beside it are not splits. If the top folders are classes, put the images of the class "
            f"{named[TRAIN][0]!r} directly into its folder; if not, move the others out"
            f"{names_hint(['/'.join(parts) for parts in paths])}"
        )
    if need_train and TRAIN not in named:
        raise DataError(
            f"{root} holds {first_few(sorted(top))} but no train folder; name the folder of "
            "training images train"
        )
    if not deep or (need_train and TRAIN not in deep):
        (flat, *_) = named[TRAIN] if TRAIN in named else sorted(top)
        raise DataError(
            f"the images of {flat}/ in {root} are not in class folders. Expected "
            f"{flat}/class/*.jpg: make one folder per class and move them there"
            f"{names_hint(['/'.join(parts) for parts in paths])}"
        )
    if twice := [names for names in named.values() if len(names) > 1]:
        raise DataError(f"{' and '.join(twice[0])} in {root} name the same split; keep one")
    return {names[0]: split for split, names in named.items()}
