"""Image folders: class/*.jpg, or train|validation|test/class/*, nested as deep as one likes."""

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
from gendataagent.data.listing import TRAIN, Item, Listing, Quarantined, readable, some, split_of

TABLE_SUFFIX = ".parquet"


@dataclass(frozen=True, slots=True)
class FolderStore:
    """Image files below one folder; `files` are relative, as the file system spells them."""

    root: str
    files: tuple[str, ...]

    def open(self, row: int) -> BinaryIO:
        """Return the opened file."""
        return open(os.path.join(self.root, self.files[row]), "rb")

    def name(self, row: int) -> str:
        """Return the relative path."""
        return posix(self.files[row])

    @property
    def place(self) -> str:
        """The absolute path of the folder."""
        return readable(os.path.realpath(self.root))

    def state(self, row: int) -> str:
        """Return size and times of a file; a change that keeps the one time shows in the other."""
        status = os.stat(os.path.join(self.root, self.files[row]))
        return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


@dataclass(slots=True)
class Found:
    """What lies below a folder; paths are relative to it, as the file system spells them."""

    images: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    hidden: int = 0
    loops: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def notes(self) -> list[str]:
        """Return what was passed over, one sentence each."""
        notes = []
        if self.hidden:
            notes.append(f"Ignored {self.hidden} hidden files or folders.")
        if self.others:
            kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(self.others.items()))
            notes.append(f"Ignored {self.others.total()} files that are no images ({kinds}).")
        if self.loops:
            notes.append(
                f"Did not follow symbolic links that lead back up: {some(sorted(self.loops))}."
            )
        return notes


def posix(path: str) -> str:
    """Return a relative path with forward slashes, as readable text."""
    return readable(path.replace(os.sep, "/"))


def find_files(root: Path) -> Found:
    """Return what lies below `root`, following links to folders but never in a circle."""
    found = Found()
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while pending:
        folder, above = pending.pop()
        try:
            status = os.stat(root / folder)
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                found.loops.append(posix(folder))
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
                        _sort_in(path, entry, found)
        except OSError as error:
            reason = f"folder cannot be read: {error.strerror}"
            found.quarantined.append(Quarantined(posix(folder) or ".", reason))
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a symbolic link to itself
        return False


def _sort_in(path: str, entry: os.DirEntry[str], found: Found) -> None:
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix == TABLE_SUFFIX:
        found.tables.append(path)
    elif suffix not in SUFFIXES:
        found.others[readable(suffix) or "without ending"] += 1
    elif reason := _not_a_file(entry):
        found.quarantined.append(Quarantined(posix(path), reason))
    else:
        found.images.append(path)


def _not_a_file(entry: os.DirEntry[str]) -> str | None:
    """Return why a name is no regular file; opening a pipe would wait for ever."""
    try:
        regular = stat.S_ISREG(entry.stat().st_mode)
    except OSError as error:
        what = "broken symbolic link" if entry.is_symlink() else "cannot be read"
        return f"{what}: {error.strerror}"
    return None if regular else "not a regular file"


def list_folder(root: Path, found: Found) -> Listing:
    """Return the items of an image folder, sorted by id, one class per folder.

    Raises:
        DataError: there are no images, no class folders, or the splits cannot be told.
    """
    _require_images(root, found)
    splits = _split_folders(root, found)
    notes: list[str] = []
    depth = 1 if splits else 0
    items: dict[str, Item] = {}
    quarantined = list(found.quarantined)
    files: list[str] = []
    stray: list[str] = []
    outside: list[str] = []
    for path in sorted(found.images, key=lambda path: (posix(path), path)):
        parts, source_id = path.split(os.sep), posix(path)
        if splits and parts[0] not in splits:
            outside.append(source_id)
        elif len(parts) < depth + 2:
            stray.append(source_id)
        elif source_id in items:
            reason = "spelled like another file here once its accents are written the same way"
            quarantined.append(Quarantined(source_id, reason))
        else:
            split = splits[parts[0]] if splits else TRAIN
            items[source_id] = Item(len(files), source_id, readable(parts[depth]), split)
            files.append(path)
    if stray:
        notes.append(f"Ignored {len(stray)} images that lie in no class folder: {some(stray)}.")
    if outside:
        notes.append(f"Ignored {len(outside)} images outside the splits: {some(outside)}.")
    return Listing(
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
            names.add(readable(parts[0]))
        elif len(parts) == 2 and parts[0] in splits:
            names.add(readable(parts[1]))
    return tuple(sorted(names))


def _require_images(root: Path, found: Found) -> None:
    expected = (
        "Expected class/*.jpg, or train/class/*.jpg with validation/ and test/ beside it, or "
        "parquet files"
    )
    if not found.images:
        seen = "; ".join(found.notes()) or "It is empty."
        refused = [f"{bad.name} ({bad.reason})" for bad in found.quarantined]
        if refused:
            seen += f" Refused: {some(refused)}."
        raise DataError(f"no images in {root}. {seen} {expected}; archives must be unpacked")
    if all(os.sep not in path for path in found.images):
        raise DataError(
            f"the {len(found.images)} images in {root} lie in no class folder, so their "
            f"classes are not known. {expected}: make one folder per class and move them there"
        )


def _split_folders(root: Path, found: Found) -> dict[str, str]:
    """Return {top folder: split}, empty if the top folders are classes (a class may be "train")."""
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
        pass  # val/class/* beside my_images/class/*: not classes, so told below
    elif others and (TRAIN not in deep or (len(deep) == 1 and direct[named[TRAIN][0]])):
        return {}
    if others and deep == [TRAIN]:
        raise DataError(
            f"{named[TRAIN][0]}/ in {root} has sub-folders like a split, but beside it lie "
            f"{some(others)}, which are no splits. If the top folders are classes, put the "
            f"images of the class {named[TRAIN][0]!r} directly into its folder; if not, move "
            "the others away"
        )
    if TRAIN not in named:
        raise DataError(
            f"{root} holds {some(sorted(top))} but no train folder; name the folder with the "
            "training images train"
        )
    if not deep or TRAIN not in deep:
        raise DataError(
            f"the images of {named[TRAIN][0]}/ in {root} lie in no class folder. Expected "
            f"{named[TRAIN][0]}/class/*.jpg: make one folder per class and move them there"
        )
    if twice := [names for names in named.values() if len(names) > 1]:
        raise DataError(f"{' and '.join(twice[0])} in {root} both name one split; keep one")
    return {names[0]: split for split, names in named.items()}
