"""Files: written atomically and durably, read only where they are regular files.

Written to a temporary file, fsynced and renamed: a crash or a full disk never leaves half a file
under its final name and never destroys the earlier version. Pipes, devices and sockets are refused
instead of opened, because reading one may never end.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from gendataagent.core.errors import GenDataAgentError, RunFolderError, StorageError

LOCK_FILE = ".lock"
SEALS_FILE = "sha256.jsonl"  # see `core.seals`
_CHUNK = 1 << 20
_WRITERS = 16
_LEFTOVER = re.compile(r"\..+\.\d+\.tmp")


@contextlib.contextmanager
def atomic_writer(path: Path, before: Callable[[Path], None] | None = None) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes `path` when the block ends without an error.

    Args:
        before: called with the complete temporary file before it becomes `path`.

    Raises:
        StorageError: the disk is full, no permission, ...; `path` is unchanged.
    """
    with _replacing(path, before) as stream:
        yield stream
    _sync_names(path.parent)


@contextlib.contextmanager
def _replacing(path: Path, before: Callable[[Path], None] | None = None) -> Iterator[BinaryIO]:
    """Do as `atomic_writer`, but let the caller make the new name durable."""
    aside = _aside(path)
    try:
        _refuse_device(path)
        make_folder(path.parent)
        with open(aside, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if before is not None:
            before(aside)
        os.replace(aside, path)
    except GenDataAgentError:  # of the block; some are OSErrors too
        raise
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path, *, sync_each: bool = True) -> Iterator[Path]:
    """Yield a temporary folder that replaces `path` when the block ends without an error.

    What an interrupted attempt left beside `path` is removed, unless its process still runs.

    Args:
        sync_each: False = write out all of the system's files at once, for thousands of small ones.

    Raises:
        StorageError: the disk is full, the folder cannot be written...
    """
    aside = _aside(path)
    try:
        make_folder(path.parent)
        for leftover in path.parent.iterdir():
            if leftover.name.startswith(f".{path.name}.") and is_leftover(leftover):
                process = int(leftover.name.split(".")[-2])
                if process == os.getpid() or not _is_running(process):
                    shutil.rmtree(leftover, ignore_errors=True)
        aside.mkdir()
        yield aside
        if sync_each or not hasattr(os, "sync"):
            for inside in (*aside.rglob("*"), aside):
                _sync(inside)
        else:
            os.sync()
        if path.exists():
            shutil.rmtree(path)
        os.replace(aside, path)
        sync_folder(path.parent)
    except GenDataAgentError:  # of the block; some are OSErrors too
        raise
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _refuse_device(path: Path) -> None:
    """Raise `OSError` for a device, a pipe or a socket, which would be replaced: /dev/null too."""
    try:
        mode = os.stat(path).st_mode
    except OSError:  # missing, or a broken link
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "not a regular file, so it is not replaced", str(path))


def _aside(path: Path) -> Path:
    """Return a new name beside `path` for what is written, which `is_leftover` knows.

    In two containers that share a folder, processes may have the same number.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(3)}.{os.getpid()}.tmp")


def _sync_names(folder: Path) -> None:
    try:
        sync_folder(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error


def _sync(path: Path) -> None:
    if path.is_dir():
        sync_folder(path)
        return
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


def write_bytes(path: Path, content: bytes) -> None:
    with atomic_writer(path) as stream:
        stream.write(content)


def write_cached(path: Path, content: bytes) -> None:
    """Write a file that can be made again, atomically, its SHA-256 in the first line."""
    write_bytes(path, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def read_cached(path: Path) -> bytes | None:
    """Return what `write_cached` wrote; None if it is missing, unreadable or has changed."""
    try:
        digest, _, content = read_bytes(path).partition(b"\n")
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest().encode() == digest else None


def write_many(contents: Mapping[Path, bytes]) -> None:
    """Write several files, each atomically; all are durable when this returns.

    Waiting for the disk takes most of the time of a small file, so they wait together.

    Raises:
        StorageError: as `atomic_writer`; other files may have been written.
    """

    def write(path: Path) -> None:
        with _replacing(path) as stream:
            stream.write(contents[path])

    if not contents:
        return
    with ThreadPoolExecutor(min(_WRITERS, len(contents))) as threads:
        list(threads.map(write, contents))
    for folder in {path.parent for path in contents}:
        _sync_names(folder)


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON, atomically; NaN and infinity are refused."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """Return `value` as the bytes of an indented JSON file; NaN and infinity are refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line to `path`, atomically; NaN and infinity are refused."""
    write_bytes(path, jsonl_bytes(rows))


def jsonl_bytes(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the bytes of a file with one JSON object per line; NaN and infinity are refused."""
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    return "".join(lines).encode()


def expand(path: str | Path) -> Path:
    """Return a path with `~` and `~user` resolved.

    Raises:
        StorageError: there is no such user, this one has no home folder, or no path can be so.
    """
    if "\0" in str(path):
        raise StorageError(f"{path!r}: no path can have a null character; correct it")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise StorageError(f"{path}: there is no such home folder; write the whole path") from error


def open_regular(path: str | Path) -> BinaryIO:
    """Return a regular file opened for reading.

    Anything else is refused before a read could block: a pipe or a device may never end.

    Raises:
        OSError: not a regular file, missing, no permission, or no possible name.
    """
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "no file can have a null character in its name", str(path))
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise _not_regular(path)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(handle).st_mode):  # exchanged in between
        os.close(handle)
        raise _not_regular(path)
    return os.fdopen(handle, "rb")


def _not_regular(path: str | Path) -> OSError:
    return OSError(errno.EINVAL, "not a regular file", str(path))


def read_bytes(path: str | Path) -> bytes:
    """Return the content of a regular file; raise as `open_regular`."""
    with open_regular(path) as stream:
        return stream.read()


def parse_json(text: str | bytes) -> Any:
    """Return the value of JSON text.

    Raises:
        ValueError: it is not JSON, has NaN or infinity, or is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_not_a_number)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def parse_others_json(text: str | bytes) -> Any:
    """Return the value of JSON text as other libraries write it: with NaN and infinity.

    Raises:
        ValueError: it is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _not_a_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def read_json(path: Path) -> Any:
    """Return the value of a JSON file; raise `RunFolderError` if it is missing or not JSON."""
    try:
        return parse_json(read_bytes(path))
    except OSError as error:
        raise RunFolderError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise RunFolderError(f"cannot read {path}: {error}") from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSONL file; raise `RunFolderError` naming a line that is none."""
    rows = []
    try:
        lines = read_bytes(path).decode("utf-8").split("\n")
    except OSError as error:
        raise RunFolderError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise RunFolderError(f"cannot read {path}: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            raise RunFolderError(f"{path}, line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise RunFolderError(f"{path}, line {number} is not a JSON object")
        rows.append(row)
    return rows


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def file_state(path: str | Path) -> str:
    """Return size, mtime, ctime and inode of a file; raise OSError if it is missing.

    A change that preserves mtime still changes ctime. Files written in one clock tick can agree in
    size and times, but not in the inode, so a swap of the two is noticed.
    """
    status = os.stat(path)
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def sync_folder(folder: Path) -> None:
    """Make renames and new files in `folder` durable (a no-op where folders cannot be opened)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Make a folder and those around it that are missing, durably; raise OSError if that fails."""
    missing = [place for place in (path, *path.parents) if not place.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for place in missing:
        sync_folder(place.parent)


def cannot_write(path: Path, error: OSError) -> StorageError:
    """Return the error that says that a file could not be written."""
    return StorageError(
        f"cannot write {path}: {error.strerror or error}. Files that were complete before are "
        "unchanged; free some space or fix the permissions, then run the command again"
    )


def is_leftover(path: Path) -> bool:
    """Return whether a file or folder is what an interrupted write of this module left behind."""
    return _LEFTOVER.fullmatch(path.name) is not None


def holds_nothing(folder: Path) -> bool:
    """Return whether a folder is empty but for what comes before the first file of this package.

    That is a lock file, the hash of a file still to come, and what interrupted writes left.
    """
    own = (LOCK_FILE, SEALS_FILE)
    return all(path.name in own or is_leftover(path) for path in folder.iterdir())


def remove_leftovers(folder: Path, *, shared: bool = False) -> None:
    """Remove what interrupted writes left anywhere below `folder`.

    Args:
        shared: whether others may write there now; then what processes of this machine are
            writing stays.
    """
    for place, folders, names in os.walk(folder):
        for name in [name for name in (*folders, *names) if _LEFTOVER.fullmatch(name)]:
            path = Path(place, name)
            if name in folders:
                folders.remove(name)
            if shared and _is_running(int(name.split(".")[-2])):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()


def _is_running(process: int) -> bool:
    """Return whether there is such a process, or that cannot be known."""
    if os.name == "nt":  # where asking would interrupt it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
