"""Archives (.zip, .tar, .tar.gz...) unpacked once into the cache folder, by their content.

An archive comes from other people. Only regular files are written, below one new folder; paths that
lead out of it, and archives that grow without measure, are refused before or while they are read.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import json
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import IO, Any, BinaryIO

from gendataagent.core import files
from gendataagent.core.cache import cache_folder
from gendataagent.core.errors import DataError
from gendataagent.core.locks import hold_file
from gendataagent.core.text import as_name, counted, reason_of
from gendataagent.data.index import normalise_name

ZIP_SUFFIXES = (".zip",)
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
OTHER_SUFFIXES = (".7z", ".rar", ".tar.zst", ".gz")

MAX_FILES = 1_000_000
SMALL_BYTES = 1 << 30  # what any archive may unpack to
MAX_RATIO = 100  # bytes unpacked per byte of a larger one
_MOST_AT_ONCE = 16 << 20
_CHUNK = 1 << 20
_DECOMPRESSORS: dict[bytes, Callable[[BinaryIO, str], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZ": bz2.open,
    b"\xfd7": lzma.open,
}
BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError,
    NotImplementedError, RuntimeError, ValueError, LookupError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Member:
    """A regular file in an archive; `stream` can be read until the next member is asked for."""

    name: str
    stream: IO[bytes]


@dataclass(slots=True)
class _Budget:
    """What an archive may still unpack to."""

    path: Path
    files: int
    size: int
    left_out: int = 0

    def count_entry(self) -> None:
        self.files -= 1
        if self.files < 0:
            raise _too_large(self.path, f"more than {MAX_FILES:,} entries")

    def count_bytes(self, number: int) -> None:
        self.size -= number
        if self.size < 0:
            raise _too_large(
                self.path, f"more than {SMALL_BYTES >> 30} GiB and {MAX_RATIO} times its own size"
            )


def is_archive(path: Path) -> bool:
    """Return whether a file is an archive by its name."""
    return path.name.lower().endswith((*ZIP_SUFFIXES, *TAR_SUFFIXES, *OTHER_SUFFIXES))


def unpacked(path: Path) -> tuple[Path, list[str]]:
    """Return the folder in the cache with the content of an archive, and notes; unpacked once.

    The folder is named by the SHA-256 of the archive, so an archive that moved is recognised, and
    a changed one is unpacked again.

    Raises:
        DataError: not a complete archive, or one that names files outside of it, is encrypted, or
            unpacks to too much.
        StorageError: the cache folder cannot be written.
    """
    name = path.name.lower()
    if not name.endswith((*ZIP_SUFFIXES, *TAR_SUFFIXES)):
        raise DataError(
            f"{path} is not unpacked here; unpack it and give the folder, or pack it as .zip or "
            ".tar.gz"
        )
    digest = _digest(path)
    folder = cache_folder() / "unpacked" / digest[:32]
    with hold_file(folder.with_name(f"{folder.name}.lock")):
        known = folder.with_name(f"{folder.name}.json")
        about = _about(known)
        if not about or about["content"] != _content(folder):  # not unpacked, or changed since
            left_out = _unpack(path, folder)
            about = {"content": _content(folder), "left_out": left_out}
            files.write_json(known, about)
    notes = [f"Read {path} (SHA-256 {digest[:12]}) unpacked in {folder}."]
    if number := about["left_out"]:
        notes.append(
            f"Left out {counted(number, 'link or device', 'links and devices')} of {path}."
        )
    return _inside(folder), notes


def _about(known: Path) -> dict[str, Any]:
    try:
        about = files.parse_json(files.read_bytes(known))
    except (OSError, ValueError):
        return {}
    whole = isinstance(about, dict) and isinstance(about.get("left_out"), int)
    return about if whole and "content" in about else {}


def _content(folder: Path) -> list[int] | None:
    """Return how many files a folder has, and their bytes together; None without the folder."""
    if not folder.is_dir():
        return None
    sizes = [path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()]
    return [len(sizes), sum(sizes)]


def _digest(path: Path) -> str:
    """Return the SHA-256 of an archive, remembered while the file is unchanged."""
    try:
        what = json.dumps([os.path.realpath(path), files.file_state(path)])
        key = hashlib.blake2b(what.encode(), digest_size=16).hexdigest()
        known = cache_folder() / "unpacked" / f"{key}.sha256"
        if (found := files.read_cached(known)) is not None:
            return found.decode()
        digest = files.file_sha256(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    files.write_cached(known, digest.encode())
    return digest


def _unpack(path: Path, folder: Path) -> int:
    """Unpack an archive; return how many links and devices were left out."""
    size = path.stat().st_size
    budget = _Budget(path, MAX_FILES, max(SMALL_BYTES, MAX_RATIO * size))
    read = _zip_members if path.name.lower().endswith(ZIP_SUFFIXES) else _tar_members
    with files.atomic_folder(folder, sync_each=False) as aside, files.open_regular(path) as stream:
        try:
            for member in read(stream, budget):
                _write(member, aside, budget)
        except BROKEN as error:
            raise DataError(
                f"cannot read {path}: {reason_of(error)}. It is damaged or no such archive; "
                "download it again"
            ) from error
    return budget.left_out


def _write(member: _Member, folder: Path, budget: _Budget) -> None:
    target = folder.joinpath(*_parts(member.name, budget.path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "xb") as written:
            while chunk := member.stream.read(_CHUNK):
                budget.count_bytes(len(chunk))
                written.write(chunk)
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(
            f"{budget.path} holds {as_name(member.name)} twice, as file or as folder, and only one "
            "can be unpacked; pack it again"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
            raise
        raise DataError(
            f"{budget.path}: this system takes no file named {as_name(member.name)} "
            f"({error.strerror})"
        ) from error


def _parts(name: str, path: Path) -> list[str]:
    """Return the parts of a member's path; raise `DataError` for one that leads elsewhere."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    absolute = name.startswith(("/", "\\")) or PureWindowsPath(name).drive
    if absolute or not parts or ".." in parts or "\0" in name:
        raise DataError(
            f"{path} names {as_name(normalise_name(name))!r}, a path outside of it, and was not "
            "unpacked; get it from where it was made"
        )
    return parts


def _zip_members(stream: BinaryIO, budget: _Budget) -> Iterator[_Member]:
    with zipfile.ZipFile(stream) as archive:
        declared = sum(info.file_size for info in archive.infolist())
        if declared > budget.size:
            budget.count_bytes(declared)
        for info in archive.infolist():
            budget.count_entry()
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                continue
            if kind not in (0, stat.S_IFREG):
                budget.left_out += 1
                continue
            if info.flag_bits & 1:
                raise DataError(
                    f"{budget.path} is encrypted; unpack it with its password and give the folder"
                )
            with archive.open(info) as content:
                yield _Member(info.filename, content)


def _tar_members(stream: BinaryIO, budget: _Budget) -> Iterator[_Member]:
    forward = Forward(decompressed(stream), budget.path, budget.size + SMALL_BYTES)
    with tarfile.open(fileobj=forward, mode="r:") as archive:  # type: ignore[call-overload]
        while (member := archive.next()) is not None:
            archive.members = []  # else it keeps them all in memory
            budget.count_entry()
            if member.isdir():
                continue
            data = archive.extractfile(member) if member.isreg() else None
            if data is None:
                budget.left_out += 1
                continue
            if member.size > budget.size:
                budget.count_bytes(member.size)
            yield _Member(member.name, data)
    forward.require_end()


def decompressed(stream: BinaryIO) -> BinaryIO:
    """Return a stream of what a compressed one holds, or the stream itself."""
    opened = _DECOMPRESSORS.get(stream.read(2))
    stream.seek(0)
    content: BinaryIO = opened(stream, "rb") if opened else stream
    return content


class Forward:
    """A stream read forward only, as tarfile does: steps back by one byte, none over `limit`.

    tarfile reads a header of any size at once, so that is refused too.

    Args:
        skips: whether to seek over what is not wanted, in a file that is not compressed.
    """

    def __init__(self, stream: BinaryIO, path: Path, limit: int, *, skips: bool = False) -> None:
        self._stream, self._path, self._limit, self._skips = stream, path, limit, skips
        self._position, self._last, self._back = 0, b"", False
        self._recent = b""

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        if size > _MOST_AT_ONCE:
            raise _too_large(self._path, f"a header of {size:,} bytes")
        if size <= 0:
            return b""
        head = self._last if self._back else b""
        content = head + self._stream.read(size - len(head))
        self._position += len(content)
        self._back = False
        self._last, self._recent = content[-1:] or self._last, content
        if self._position > self._limit:
            raise _too_large(self._path, f"more than {self._limit:,} bytes")
        return content

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def require_end(self) -> None:
        """Read what is left; raise unless it ends with an end mark, where tarfile does not look.

        A compressed stream is checked by this, too: its checksum comes last.
        """
        if self._recent != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"it is cut off or damaged at byte {self._position:,}")
        while content := self.read(_CHUNK):
            if any(content):
                raise tarfile.ReadError("something follows its end mark, such as a second archive")

    def seek(self, position: int) -> int:
        """Go to a position that is not before the last byte."""
        if position == self._position - 1 and self._last and not self._back:
            self._position, self._back = position, True
        if position < self._position:
            raise tarfile.ReadError("it points back to what was read already")
        if self._skips and position > self._position + _CHUNK // 16:
            self._position = self._stream.seek(position - 1)
            self._back = False
            self.read(1)
        while self._position < position:
            if not self.read(min(_CHUNK, position - self._position)):
                break
        return self._position


def _too_large(path: Path, what: str) -> DataError:
    return DataError(
        f"{path} unpacks to {what}, which is no archive of images; it was not unpacked. If you "
        "trust it, unpack it yourself and give the folder"
    )


def _inside(folder: Path) -> Path:
    """Return the folder that is the only thing in a folder, and holds more than images; else it."""
    while True:
        with os.scandir(folder) as found:
            entries = [e for e in found if not e.name.startswith(".") and e.name != "__MACOSX"]
        if len(entries) != 1 or not entries[0].is_dir():
            return folder
        below = folder / entries[0].name
        with os.scandir(below) as found:
            if not any(entry.is_dir() for entry in found):
                return folder
        folder = below
