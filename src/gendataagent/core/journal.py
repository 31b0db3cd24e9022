"""Journals: JSONL files that grow by a line at a time, each with a checksum of itself.

A crash tears the last line at most; lines that are torn, have changed or were written for another
place are skipped by whoever reads, and what they recorded is done again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gendataagent.core.errors import RunFolderError
from gendataagent.core.files import (
    cannot_write,
    file_sha256,
    make_folder,
    open_regular,
    parse_json,
)

_ROUNDS = "rounds"  # the folder of the rounds of a run
_SELECTED = "selected.parquet"  # of a round, written before its journals
_CHECK_CHARACTERS = 16
_CHECKED_LINE = re.compile(rb'(\{.*), "check": "([0-9a-f]{16})"\}')


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSONL file that `append_row` wrote; [] if there is none.

    Lines that a crash tore, or that have changed since, are skipped; what they recorded is done
    again.

    Raises:
        RunFolderError: the file cannot be read.
    """
    return list(iterate_journal(path))


def iterate_journal(path: Path) -> Iterator[dict[str, Any]]:
    """Yield what `read_journal` returns, a line at a time; raise as it does."""
    try:
        with open_regular(path) as stream:
            place = place_of(path)
            for line in stream:
                if (row := parse_checked(line, place)) is not None:
                    yield row
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunFolderError(f"cannot read {path}: {error.strerror or error}") from error


def checked_line(row: Mapping[str, Any], place: str = "") -> bytes:
    """Return `row` as one line of JSON that ends with a checksum of itself, without line break.

    `row` must have at least one key.

    Args:
        place: see `place_of`; "" = it may stand anywhere.
    """
    text = json.dumps(dict(row), ensure_ascii=False, allow_nan=False)[:-1].encode()
    return text + f', "check": "{_check_of(text, place)}"}}'.encode()


def parse_checked(line: bytes, place: str = "") -> dict[str, Any] | None:
    """Return the row of `checked_line`; None if it is torn, has changed or is of another place."""
    match = _CHECKED_LINE.fullmatch(line.strip())
    if match is None or _check_of(match[1], place) != match[2].decode():
        return None
    try:
        row: dict[str, Any] = json.loads(match[1] + b"}")
    except (ValueError, RecursionError):
        return None
    return row


def _check_of(text: bytes, place: str) -> str:
    return hashlib.sha256(place.encode() + text).hexdigest()[:_CHECK_CHARACTERS]


def place_of(journal: Path) -> str:
    """Return what the lines of a journal are bound to: for a round's, round, name and selection.

    So those of one round are no rows of another, or of another run, wherever the run is moved.
    """
    if journal.parent.parent.name != _ROUNDS:
        return ""
    selected = journal.with_name(_SELECTED)
    digest = file_sha256(selected) if selected.is_file() else ""
    return f"{journal.parent.name}/{journal.name} {digest}"


def parse_journal(content: bytes) -> list[dict[str, Any]]:
    """Return the JSON objects among the lines of `content`, for display; torn lines are skipped."""
    rows = []
    for line in content.split(b"\n"):
        try:
            row = parse_json(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append one JSON object as a line with a checksum, durably, for `read_journal`.

    A crash can tear this line but none before it. A link is refused: in somebody else's folder it
    may lead to any file.
    """
    append_rows(path, [row])


def append_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append JSON objects as `append_row` does, all at once; none if that fails."""
    place = place_of(path)
    lines = b"".join(checked_line(row, place) + b"\n" for row in rows)
    before: int | None = None
    try:
        if path.is_symlink():
            raise OSError(errno.ELOOP, "it is a link; put the file itself there", str(path))
        make_folder(path.parent)
        size = path.stat().st_size if path.exists() else 0
        torn = size > 0 and not _ends_with_newline(path)
        with open(path, "ab") as stream:
            before = size
            stream.write((b"\n" if torn else b"") + lines)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        if before is not None:  # the first of these lines may be on disk
            with contextlib.suppress(OSError):
                os.truncate(path, before)
        raise cannot_write(path, error) from error


def _ends_with_newline(path: Path) -> bool:
    with open(path, "rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
