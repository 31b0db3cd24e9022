"""Image folders: class/*.jpg, or train|validation|test/class/*, with any depth of sub-folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gendataagent.config import AUTO
from gendataagent.core.errors import DataError
from gendataagent.core.files import file_state, open_regular
from gendataagent.core.text import counted
from gendataagent.data.formats.nesting import FIRST, Nesting, find_nesting
from gendataagent.data.formats.split_folders import find_split_folders
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
from gendataagent.data.name_patterns import names_hint

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
    splits = find_split_folders(root, found.images, need_train=need_train)
    inside = [p for p in found.images if not splits.splits or splits.split_of(p.split(os.sep))]
    nesting = find_nesting(inside, class_folder, splits, need_train=need_train)
    notes = [*splits.notes, *nesting.notes]
    items: dict[str, Item] = {}
    quarantined = list(found.quarantined)
    files: list[str] = []
    stray: list[str] = []
    outside: list[str] = []
    unlabelled: list[str] = []
    copies: list[str] = []
    for path in sorted(found.images, key=lambda path: (posix_path(path), path)):
        parts, source_id = path.split(os.sep), posix_path(path)
        split = splits.split_of(parts) if splits.splits else TRAIN
        if split is None:
            outside.append(source_id)
        elif len(parts) < nesting.depth + 2:
            stray.append(source_id)
        elif nesting.is_copy(parts):
            copies.append(source_id)
        elif is_unlabelled(name := nesting.class_of(parts[:-1])):
            unlabelled.append(source_id)
        elif source_id in items:
            reason = "same path as another file after Unicode normalisation (accents)"
            quarantined.append(Quarantined(source_id, reason))
        else:
            if nesting.inner_splits:
                split = split_of(parts[nesting.depth + 1]) or TRAIN
            items[source_id] = Item(len(files), source_id, name, split)
            files.append(path)
    if stray:
        notes.append(f"Ignored {_images(stray)} outside a class folder: {first_few(stray)}.")
    if copies:
        notes.append(
            f"Ignored {_images(copies)} in {nesting.copy}/, which holds folders of the same names "
            "as the classes beside it, as a second copy does (data.class_folder=first would make "
            "it a class)."
        )
    if unlabelled:
        notes.append(
            f"Ignored {_images(unlabelled)} without a label (a class folder named "
            f"{UNLABELLED} or NaN): {first_few(unlabelled)}."
        )
    if outside:
        notes.append(f"Ignored {_images(outside)} outside the split folders: {first_few(outside)}.")
    return DatasetIndex(
        store=FolderStore(str(root), tuple(files)),
        items=tuple(items.values()),
        class_names=_class_names(found.folders, files, nesting, items.values()),
        quarantined=tuple(quarantined),
        notes=(*found.notes(), *notes),
    )


def _images(paths: Sequence[str]) -> str:
    return counted(len(paths), "image", "images")


def _class_names(
    folders: Iterable[str], files: Iterable[str], nesting: Nesting, items: Iterable[Item]
) -> tuple[str, ...]:
    """Return the classes of items, and where the first folder is the class, those without any."""
    names = {item.class_name for item in items}
    above = {tuple(file.split(os.sep)[: nesting.depth]) for file in files}
    for folder in folders if nesting.how == FIRST else ():
        parts = folder.split(os.sep)
        is_class = len(parts) == nesting.depth + 1 and tuple(parts[:-1]) in above
        if is_class and parts[-1] != nesting.copy:
            names.add(nesting.class_of(parts))
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
            f"{names_hint(found.images)}"
        )
