"""Image folders: class/*.jpg, or train|validation|test/class/*, with any depth of sub-folders."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gendataagent.config import AUTO
from gendataagent.core.errors import DataError
from gendataagent.core.files import file_state, open_regular
from gendataagent.core.text import counted
from gendataagent.data.formats.nesting import FIRST, Nesting, find_nesting
from gendataagent.data.formats.unpacking import is_archive
from gendataagent.data.formats.walk import Found, posix_path
from gendataagent.data.index import (
    TRAIN,
    DatasetIndex,
    Item,
    Quarantined,
    first_few,
    normalise_name,
    split_of,
)
from gendataagent.data.labels import UNLABELLED, is_unlabelled

FOLDER = "folder"  # as data.layout


@dataclass(frozen=True, slots=True)
class FolderStore:
    """Image files below one folder; `files` are relative, with the file system's spelling."""

    root: str
    files: tuple[str, ...]

    def open(self, row: int) -> BinaryIO:
        return open_regular(self.path(row))

    def path(self, row: int) -> str:
        """Return the path of the image file."""
        return os.path.join(self.root, self.files[row])

    def name(self, row: int) -> str:
        return posix_path(self.files[row])

    @property
    def location(self) -> str:
        """The absolute path of the folder."""
        return normalise_name(os.path.realpath(self.root))

    def state(self, row: int) -> str:
        """Return size, times and inode: another file of the same size and age differs too."""
        return file_state(os.path.join(self.root, self.files[row]))


def index_folder(
    root: Path, found: Found, class_folder: str = AUTO, *, need_train: bool = True
) -> DatasetIndex:
    """Return the items of an image folder, sorted by id, one class per folder.

    Args:
        class_folder: which folder of an image is its class; see `nesting`.
        need_train: whether test/ or validation/ without train/ is an error.

    Raises:
        DataError: no images, no class folders, or ambiguous splits.
    """
    _require_images(root, found)
    splits = _split_folders(root, found, need_train=need_train)
    inside = [path for path in found.images if not splits or path.split(os.sep)[0] in splits]
    nesting = find_nesting(inside, class_folder, below_splits=bool(splits), need_train=need_train)
    notes = list(nesting.notes)
    items: dict[str, Item] = {}
    quarantined = list(found.quarantined)
    files: list[str] = []
    stray: list[str] = []
    outside: list[str] = []
    unlabelled: list[str] = []
    for path in sorted(found.images, key=lambda path: (posix_path(path), path)):
        parts, source_id = path.split(os.sep), posix_path(path)
        if splits and parts[0] not in splits:
            outside.append(source_id)
        elif len(parts) < nesting.depth + 2:
            stray.append(source_id)
        elif is_unlabelled(name := nesting.class_of(parts[:-1])):
            unlabelled.append(source_id)
        elif source_id in items:
            reason = "same path as another file after Unicode normalisation (accents)"
            quarantined.append(Quarantined(source_id, reason))
        else:
            split = splits[parts[0]] if splits else TRAIN
            if nesting.inner_splits:
                split = split_of(parts[nesting.depth + 1]) or TRAIN
            items[source_id] = Item(len(files), source_id, name, split)
            files.append(path)
    if stray:
        notes.append(f"Ignored {_images(stray)} outside a class folder: {first_few(stray)}.")
    if unlabelled:
        notes.append(
            f"Ignored {_images(unlabelled)} without a label (a class folder named "
            f"{UNLABELLED}): {first_few(unlabelled)}."
        )
    if outside:
        notes.append(f"Ignored {_images(outside)} outside the split folders: {first_few(outside)}.")
    return DatasetIndex(
        store=FolderStore(str(root), tuple(files)),
        items=tuple(items.values()),
        class_names=_class_names(found.folders, splits, nesting, items.values()),
        quarantined=tuple(quarantined),
        notes=(*found.notes(), *notes),
    )


def _images(paths: Sequence[str]) -> str:
    return counted(len(paths), "image", "images")


def _class_names(
    folders: Iterable[str], splits: dict[str, str], nesting: Nesting, items: Iterable[Item]
) -> tuple[str, ...]:
    """Return the classes of items, and where the first folder is the class, those without any."""
    names = {item.class_name for item in items}
    for folder in folders:
        parts = folder.split(os.sep)
        if len(parts) == nesting.depth + 1 and (not splits or parts[0] in splits):
            names |= {nesting.class_of(parts)} if nesting.how == FIRST else set()
    return tuple(sorted(name for name in names if not is_unlabelled(name)))


def _require_images(root: Path, found: Found) -> None:
    expected = (
        "Expected class/*.jpg, or train/class/*.jpg with optional validation/ and test/, or "
        "parquet files"
    )
    if not found.images:
        seen = " ".join(found.notes()) or "It is empty."
        unreadable = [f"{bad.name} ({bad.reason})" for bad in found.quarantined]
        if unreadable:
            seen += f" Unreadable: {first_few(unreadable)}."
        if archives := sorted(name for name in found.others if is_archive(Path(name))):
            expected = f"Unpack {first_few(archives)} here, or give one as data.path"
        raise DataError(f"no images in {root}. {seen} {expected}")
    if all(os.sep not in path for path in found.images):
        raise DataError(
            f"no image in {root} is in a class folder, so their classes are unknown "
            f"({_images(found.images)}). {expected}: make one folder per class and move them there"
        )


def _split_folders(root: Path, found: Found, *, need_train: bool) -> dict[str, str]:
    """Return {top folder: split}; {} if the top folders are classes (one may be named "train")."""
    direct: Counter[str] = Counter()
    nested: Counter[str] = Counter()
    for path in found.images:
        parts = path.split(os.sep)
        if len(parts) > 1:
            (direct if len(parts) == 2 else nested)[parts[0]] += 1
    top = set(direct) | set(nested)
    named: dict[str, list[str]] = defaultdict(list)
    for name in sorted(top):
        if split := split_of(name):
            named[split].append(name)
    others = sorted(name for name in top if split_of(name) is None)
    if not named:
        return {}
    deep = [split for split, names in named.items() if any(nested[name] for name in names)]
    if others and TRAIN not in named and deep:
        pass  # val/class/* beside my_images/class/*: not classes, an error below
    elif others and (TRAIN not in deep or (len(deep) == 1 and direct[named[TRAIN][0]])):
        return {}
    if others and deep == [TRAIN]:
        raise DataError(
            f"{named[TRAIN][0]}/ in {root} has sub-folders like a split, but {first_few(others)} "
            "beside it are not splits. If the top folders are classes, put the images of the class "
            f"{named[TRAIN][0]!r} directly into its folder; if not, move the others out"
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
        )
    if twice := [names for names in named.values() if len(names) > 1]:
        raise DataError(f"{' and '.join(twice[0])} in {root} name the same split; keep one")
    return {names[0]: split for split, names in named.items()}
