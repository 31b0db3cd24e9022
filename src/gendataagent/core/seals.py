"""SHA-256 of files: whether a file is still what was written.

`Seals` records the hash of a file just before the file is written, in one journal for a folder.
`write_mark` writes the mark of a finished piece of work with the hash of every file it stands on.
Paths in both are relative to the folder, so that it may be moved.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

from gendataagent.core import files
from gendataagent.core.errors import RunFolderError
from gendataagent.core.journal import append_row, checked_line, parse_checked, read_journal

CHANGED = "has changed since it was written"
MISSING = "is missing"
_OUTSIDE = "is no file of this folder, as its records say"


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that is not what was written, and what is wrong with it."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path} {self.reason}"


class Seals:
    """The hashes of files below `folder`, in its `sha256.jsonl`.

    The hash of a new version is on disk before the version itself, and any recorded version counts
    as whole: a crash between the two leaves nothing that looks damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, path: Path, content: bytes) -> None:
        """Write a file atomically, its hash first; raise `StorageError` if that fails."""
        self._record(path, hashlib.sha256(content).hexdigest())
        files.write_bytes(path, content)

    @contextlib.contextmanager
    def writer(self, path: Path) -> Iterator[BinaryIO]:
        """Yield a file that becomes `path`, its hash first; raise `StorageError` if that fails."""
        with files.atomic_writer(
            path, lambda written: self._record(path, files.file_sha256(written))
        ) as stream:
            yield stream

    def _record(self, path: Path, digest: str) -> None:
        if digest not in self.recorded().get(self._name(path), ()):
            row = {"file": self._name(path), "sha256": digest}
            append_row(self._folder / files.SEALS_FILE, row)

    def recorded(self) -> dict[str, set[str]]:
        """Return path below the folder -> hashes of its versions."""
        found: dict[str, set[str]] = {}
        for row in read_journal(self._folder / files.SEALS_FILE):
            name, digest = row.get("file"), row.get("sha256")
            if isinstance(name, str) and isinstance(digest, str) and _is_sum((name, digest)):
                found.setdefault(name, set()).add(digest)
        return found

    def damage(self, path: Path) -> Damage | None:
        """Return what is wrong with a file that `write` wrote, or None."""
        return _damage(path, self.recorded().get(self._name(path), set()))

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


def write_mark(mark: Path, folder: Path, paths: Iterable[Path]) -> None:
    """Write the mark of finished work: a line of JSON with the SHA-256 of each file, in order.

    Args:
        folder: the hashes are listed by path relative to it.

    Raises:
        RunFolderError: a file has changed since its hash was recorded in the folder's seals.
        StorageError: the mark or a file cannot be written or read.
    """
    known = Seals(folder).recorded()
    sums = {}
    for path in sorted(paths):
        name = path.relative_to(folder).as_posix()
        sums[name] = files.file_sha256(path)
        if name in known and sums[name] not in known[name]:
            raise RunFolderError(
                f"{path} {CHANGED}, in this very run: check the disk, then resume with --resume"
            )
    files.write_bytes(mark, checked_line({"files": sums}) + b"\n")


def read_mark(mark: Path) -> Mapping[str, str]:
    """Return path relative to the folder -> SHA-256 of every file that a mark lists.

    Raises:
        RunFolderError: the mark itself has changed.
    """
    try:
        row = parse_checked(files.read_bytes(mark))
    except OSError as error:
        raise RunFolderError(f"cannot read {mark}: {error.strerror or error}") from error
    sums: Any = row.get("files") if row else None
    if not isinstance(sums, dict) or not all(map(_is_sum, sums.items())):
        raise RunFolderError(f"{mark} {CHANGED}; put it back from a copy")
    return sums


class RecordedHashes:
    """Every hash recorded in a run folder, to check single files as they are read.

    Args:
        marks: of finished work in the folder; a mark counts more than the folder's seals.

    Attributes:
        damaged_marks: marks that cannot be read, and files that are marks and should be there.
    """

    def __init__(self, folder: Path, marks: Iterable[Path]) -> None:
        self._folder = folder
        self._allowed = Seals(folder).recorded()
        self.damaged_marks: list[Damage] = []
        marks = list(marks)
        for mark in marks:
            try:
                listed = read_mark(mark)
            except RunFolderError:
                self.damaged_marks.append(Damage(mark, CHANGED))
                continue
            self._allowed.update((name, {digest}) for name, digest in listed.items())
            self.damaged_marks += [
                found
                for name, digest in listed.items()
                if PurePosixPath(name).name == mark.name
                and (found := _damage(folder / name, {digest}))
                and found not in self.damaged_marks
            ]

    def damage(self, path: Path) -> Damage | None:
        """Return what is wrong with a file; None too if no hash of it was recorded."""
        try:
            allowed = self._allowed.get(path.relative_to(self._folder).as_posix())
        except ValueError:  # elsewhere
            return None
        return _damage(path, allowed) if allowed else None


def _is_sum(item: tuple[str, Any]) -> bool:
    """Return whether this is the path of a file below the folder, and a hash."""
    path = PureWindowsPath(item[0])  # which knows both kinds of separators
    return isinstance(item[1], str) and not path.anchor and ".." not in path.parts


def damages(folder: Path, sums: Mapping[str, str]) -> Iterator[Damage]:
    """Yield each listed file that is not what was written; reads every file."""
    for name, digest in sums.items():
        path = folder / name
        found = _damage(path, {digest}) if _is_sum((name, digest)) else Damage(path, _OUTSIDE)
        if found is not None:
            yield found


def _damage(path: Path, allowed: set[str]) -> Damage | None:
    if not path.is_file():
        return Damage(path, MISSING)
    try:
        whole = files.file_sha256(path) in allowed
    except OSError as error:
        return Damage(path, f"cannot be read: {error.strerror or error}")
    return None if whole else Damage(path, CHANGED)
