"""An official archive: the files it consists of, and the index of its images."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gendataagent.core.errors import DataError
from gendataagent.core.text import counted
from gendataagent.data.formats.folder import FolderStore
from gendataagent.data.formats.walk import links_out, outside_notes
from gendataagent.data.index import (
    TEST,
    TRAIN,
    DatasetIndex,
    Item,
    PaperCounts,
    Quarantined,
    first_few,
    normalise_name,
)
from gendataagent.data.official.lists import Line

MISSING_FILE = "named in the list, but the file is missing"


@dataclass(frozen=True, slots=True)
class Entry:
    """One image named by the lists: path relative to the archive, with forward slashes."""

    path: str
    class_name: str
    split: str
    line: Line | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The contents of an archive's lists. `class_names` in official order; notes for the user."""

    entries: Sequence[Entry]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One data set of the paper in its official layout.

    Args:
        files: required files; "a|b" = one of them, a name ending in "/" is a folder.
        unpack: which archives to unpack where, for messages.
        read: archive folder -> contents; raises `DataError` naming file and line.
        recognise: further test before data.layout = auto picks this layout.
        places: sub-folders of the given folder that may hold the archive.
        losses: why images may be missing, for the note.
    """

    key: str
    counts: PaperCounts
    files: tuple[str, ...]
    unpack: str
    read: Callable[[Path], Contents]
    recognise: Callable[[Path], bool] = lambda base: True
    places: tuple[str, ...] = ()
    losses: str = ""

    def missing(self, base: Path) -> Iterator[str]:
        """Yield which of `files` are not in `base`."""
        for names in self.files:
            if not any(_is_in(base, name) for name in names.split("|")):
                yield names

    def is_in(self, base: Path) -> bool:
        """Return whether all of `files` are in `base`."""
        return next(self.missing(base), None) is None


def _is_in(base: Path, name: str) -> bool:
    place = base / name  # os.path, not Path: False for a folder without permission
    return os.path.isdir(place) if name.endswith("/") else os.path.isfile(place)


def index_archive(archive: Archive, base: Path) -> DatasetIndex:
    """Return the images of an archive in the order of its lists; ids are paths relative to it.

    Listed images that are missing are quarantined. Test images of a class without any training
    image left are dropped, since no classifier could learn it.

    Raises:
        DataError: a list is malformed or names an image twice, or all images are missing.
    """
    contents = archive.read(base)
    _check_entries(contents.entries)
    absent = [entry for entry in contents.entries if _fault(base, entry.path)]
    gone = {entry.path for entry in absent}
    if contents.entries and len(gone) == len(contents.entries):
        raise DataError(
            f"all {len(gone):,} images named by the lists in {base} are missing (first: "
            f"{contents.entries[0].path}). {archive.unpack}"
        )
    trained = {e.class_name for e in contents.entries if e.split == TRAIN and e.path not in gone}
    kept = [entry for entry in contents.entries if entry.path not in gone]
    untrained = [entry for entry in kept if entry.class_name not in trained]
    kept = [entry for entry in kept if entry.class_name in trained]
    return DatasetIndex(
        store=FolderStore(str(base), tuple(entry.path.replace("/", os.sep) for entry in kept)),
        items=tuple(
            Item(row, normalise_name(entry.path), entry.class_name, entry.split)
            for row, entry in enumerate(kept)
        ),
        class_names=contents.class_names,
        quarantined=tuple(
            Quarantined(normalise_name(entry.path), _fault(base, entry.path) or MISSING_FILE)
            for entry in absent
        ),
        notes=(
            f"Read {base} as the official archive of {archive.counts.title} (data.layout = "
            f"{archive.key}).",
            *contents.notes,
            *outside_notes(links_out(base, [entry.path for entry in kept])),
            *_loss_notes(archive, contents.entries, absent, untrained),
        ),
        paper=archive.counts,
    )


def _check_entries(entries: Sequence[Entry]) -> None:
    seen: dict[str, Entry] = {}
    for entry in entries:
        parts = entry.path.split("/")
        if "" in parts or ".." in parts or "\\" in entry.path or "\0" in entry.path:
            raise DataError(
                f"{_where(entry)} names {entry.path!r}, a path outside the archive; this is not "
                "the official list, unpack the archive again"
            )
        first = seen.setdefault(entry.path, entry)
        if first is not entry:
            raise DataError(
                f"{_where(entry)} names {entry.path} a second time (first: {_where(first)}), but "
                "an image belongs to one split. Unpack the official lists again"
            )


def _where(entry: Entry) -> str:
    return str(entry.line) if entry.line else "the archive"


def _fault(base: Path, path: str) -> str | None:
    """Return why a listed image cannot be opened, or None; its content is not read."""
    try:
        regular = stat.S_ISREG(os.stat(os.path.join(base, path)).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return MISSING_FILE
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if regular else "not a regular file"


def _loss_notes(
    archive: Archive, entries: Sequence[Entry], absent: Sequence[Entry], untrained: Sequence[Entry]
) -> list[str]:
    notes = []
    if absent:
        per_split = Counter(entry.split for entry in absent)
        counts = ", ".join(
            f"{split} {per_split[split]:,}" for split in (TRAIN, TEST) if per_split[split]
        )
        notes.append(
            f"{len(absent):,} of {len(entries):,} listed images are missing ({counts}; first: "
            f"{absent[0].path}).{archive.losses}"
        )
    if untrained:
        classes = sorted({entry.class_name for entry in untrained})
        notes.append(
            f"Dropped {counted(len(untrained), 'test image', 'test images')} of "
            f"{counted(len(classes), 'class', 'classes')} without any "
            f"training image: {first_few(classes)}."
        )
    return notes
