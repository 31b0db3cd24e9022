"""Image folders: class/*.jpg, or train|validation|test/class/*, with any depth of sub-folders."""

from __future__ import annotations

import os
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from gendataagent.core.errors import DataError
from gendataagent.data.images import SUFFIXES
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

TABLE_SUFFIX = ".parquet"


@dataclass(frozen=True, slots=True)
class FolderStore:
    """Image files below one folder; `files` are relative, with the file system's spelling."""

    root: str
    files: tuple[str, ...]

    def open(self, row: int) -> BinaryIO:
        return open(self.path(row), "rb")

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
        """Return size, mtime and ctime: a change that preserves mtime still changes ctime."""
        status = os.stat(os.path.join(self.root, self.files[row]))
        return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


@dataclass(slots=True)
class Found:
    """The files below a folder; paths are relative, with the file system's spelling."""

    images: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    hidden: int = 0
    loops: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def notes(self) -> list[str]:
        """Return one sentence for each kind of file that was ignored."""
        notes = []
        if self.hidden:
            notes.append(f"Ignored {self.hidden} hidden files or folders.")
        if self.others:
            kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(self.others.items()))
            notes.append(f"Ignored {self.others.total()} files that are not images ({kinds}).")
        if self.loops:
            notes.append(
                f"Ignored symbolic links to a parent folder: {first_few(sorted(self.loops))}."
            )
        return notes


def posix_path(path: str) -> str:
    """Return a relative path with forward slashes, normalised."""
    return normalise_name(path.replace(os.sep, "/"))


def find_files(root: Path) -> Found:
    """Return the files below `root`; links to folders are followed, except to a parent."""
    found = Found()
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while pending:
        folder, above = pending.pop()
        try:
            status = os.stat(root / folder)
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                found.loops.append(posix_path(folder))
                continue
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    path = os.path.join(folder, entry.name)
                    if entry.name.startswith("."):
                        found.hidden += 1
                    elif _is_folder(entry):
                        found.folders.append(path)
                        pending.append((path, above | {identity}))
                    else:
                        _add_file(path, entry, found)
        except OSError as error:
            reason = f"folder cannot be read: {error.strerror}"
            found.quarantined.append(Quarantined(posix_path(folder) or ".", reason))
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a symbolic link to itself
        return False


def _add_file(path: str, entry: os.DirEntry[str], found: Found) -> None:
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix == TABLE_SUFFIX:
        found.tables.append(path)
    elif suffix not in SUFFIXES:
        found.others[normalise_name(suffix) or "no suffix"] += 1
    elif reason := _why_not_a_file(entry):
        found.quarantined.append(Quarantined(posix_path(path), reason))
    else:
        found.images.append(path)


def _why_not_a_file(entry: os.DirEntry[str]) -> str | None:
    """Return why an entry is not a regular file, else None; opening a pipe would block forever."""
    try:
        regular = stat.S_ISREG(entry.stat().st_mode)
    except OSError as error:
        what = "broken symbolic link" if entry.is_symlink() else "cannot be read"
        return f"{what}: {error.strerror}"
    return None if regular else "not a regular file"


def index_folder(root: Path, found: Found, *, need_train: bool = True) -> DatasetIndex:
    """Return the items of an image folder, sorted by id, one class per folder.

    Args:
        need_train: whether test/ or validation/ without train/ is an error.

    Raises:
        DataError: no images, no class folders, or ambiguous splits.
    """
    _require_images(root, found)
    splits = _split_folders(root, found, need_train=need_train)
    notes: list[str] = []
    depth = 1 if splits else 0
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
        elif len(parts) < depth + 2:
            stray.append(source_id)
        elif is_unlabelled(parts[depth]):
            unlabelled.append(source_id)
        elif source_id in items:
            reason = "same path as another file after Unicode normalisation (accents)"
            quarantined.append(Quarantined(source_id, reason))
        else:
            split = splits[parts[0]] if splits else TRAIN
            items[source_id] = Item(len(files), source_id, normalise_name(parts[depth]), split)
            files.append(path)
    if stray:
        notes.append(f"Ignored {len(stray)} images outside a class folder: {first_few(stray)}.")
    if unlabelled:
        notes.append(
            f"Ignored {len(unlabelled)} images without a label (a class folder named "
            f"{UNLABELLED}): {first_few(unlabelled)}."
        )
    if outside:
        notes.append(
            f"Ignored {len(outside)} images outside the split folders: {first_few(outside)}."
        )
    return DatasetIndex(
        store=FolderStore(str(root), tuple(files)),
        items=tuple(items.values()),
        class_names=_class_folders(found.folders, splits),
        quarantined=tuple(quarantined),
        notes=(*found.notes(), *notes),
    )


def _class_folders(folders: Iterable[str], splits: dict[str, str]) -> tuple[str, ...]:
    names = set()
    for folder in folders:
        parts = folder.split(os.sep)
        if not splits and len(parts) == 1:
            names.add(normalise_name(parts[0]))
        elif len(parts) == 2 and parts[0] in splits:
            names.add(normalise_name(parts[1]))
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
        raise DataError(f"no images in {root}. {seen} {expected}; unpack archives first")
    if all(os.sep not in path for path in found.images):
        raise DataError(
            f"the {len(found.images)} images in {root} are not in class folders, so their classes "
            f"are unknown. {expected}: make one folder per class and move them there"
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
