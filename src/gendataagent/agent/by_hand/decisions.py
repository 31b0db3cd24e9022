"""`RUN/review/decisions.jsonl`: one decision a line, the last one of an image counts.

Lines are only ever added, each with a checksum of itself, so a run can read the file while it
grows, and a version of the file is the number of its first bytes. A line names the image by the
SHA-256 of its file: a decision is about what was looked at.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gendataagent.agent.by_hand.rules import DROP, KEEP, UNDECIDED, why_not_keepable
from gendataagent.config.run_config_file import read_run_config
from gendataagent.core import files
from gendataagent.core.errors import RunFolderError, StorageError
from gendataagent.core.journal import append_rows, parse_checked
from gendataagent.core.locks import hold_file
from gendataagent.core.records import image_file_name
from gendataagent.core.rows import RowError, fit
from gendataagent.core.run_folder import DONE, RunFolder
from gendataagent.core.seals import read_mark

_EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class HandDecision:
    """One line of the file.

    Args:
        id: of the candidate.
        round: its round.
        decision: "keep", "drop", or "none", which takes an earlier one back.
        sha256: of its image file.
        at: when, in UTC.
    """

    id: str
    round: int
    decision: str
    sha256: str
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HandDecisions:
    """The decisions in one version of the file.

    Args:
        of_id: candidate id -> "keep" or "drop".
        size: the version: bytes from the beginning of the file.
        sha256: of these bytes.
    """

    of_id: Mapping[str, str] = field(default_factory=dict)
    size: int = 0
    sha256: str = _EMPTY


def pool_name(number: int, id_: str) -> str:
    """Return the image file of a candidate relative to the run folder, as marks list it."""
    return f"pool/{number:03d}/{image_file_name(id_)}"


def read_decisions(folder: RunFolder, size: int | None = None) -> HandDecisions:
    """Return the decisions about the images of a run; none if there is no file.

    Decisions about a round that is still to be made again are checked once it is finished.

    Args:
        size: read only so many bytes, an earlier version.

    Raises:
        RunFolderError: a line has changed, is no decision, or is about an image that this run does
            not have; names line and id.
    """
    path = folder.decisions_file
    try:
        content = files.read_bytes(path)
    except FileNotFoundError:
        content = b""
    except OSError as error:
        raise RunFolderError(f"cannot read {path}: {error.strerror or error}") from error
    whole = content[: content.rfind(b"\n") + 1][:size]  # a last line may still be written
    found: dict[str, HandDecision] = {}
    for number, line in enumerate(whole.splitlines(), start=1):
        row = parse_checked(line)
        try:
            if row is None:
                raise RowError("it has changed since it was written")
            decision = fit(HandDecision, row)
            if decision.decision not in (KEEP, DROP, UNDECIDED):
                raise RowError(f"decision: {decision.decision!r} is not keep, drop or none")
        except RowError as error:
            raise RunFolderError(
                f"{path}, line {number} cannot be used: {error}. Put the file back from a copy, or "
                "remove this line"
            ) from error
        found[decision.id] = decision
    _check_known(folder, list(found.values()))
    of_id = {id_: row.decision for id_, row in found.items() if row.decision != UNDECIDED}
    return HandDecisions(of_id=of_id, size=len(whole), sha256=hashlib.sha256(whole).hexdigest())


def _check_known(folder: RunFolder, found: Sequence[HandDecision]) -> None:
    """Raise `RunFolderError` naming a decision about an image that the run does not have."""
    if not found:
        return
    rounds = read_run_config(folder).agent.rounds
    sums: dict[int, Mapping[str, str] | None] = {}
    for row in found:
        if row.round not in sums:
            done = folder.round_is_done(row.round)
            sums[row.round] = read_mark(folder.round(row.round) / DONE) if done else None
        listed = sums[row.round]
        if listed is None and 0 <= row.round < rounds and not folder.is_done:
            continue
        digest = (listed or {}).get(pool_name(row.round, row.id))
        if digest != row.sha256:
            what = "an image that this run does not have" if digest is None else "another image"
            raise RunFolderError(
                f"{folder.decisions_file} decides about {what}: {row.id[:80]!r} of round "
                f"{row.round + 1}. The file is of another run; remove it, or these lines"
            )


def refuse_unkeepable(
    folder: RunFolder, id_: str, rejected_by: str | None, filter_name: str
) -> None:
    """Raise `RunFolderError` if a file of decisions keeps an image that may not be kept."""
    if why := why_not_keepable(rejected_by, filter_name):
        raise RunFolderError(
            f"{folder.decisions_file} keeps {id_}, which no one can keep by hand: {why}. Remove "
            "this line"
        )


def append_decisions(folder: RunFolder, rows: Sequence[HandDecision]) -> None:
    """Add decisions to the file, durably; raise `StorageError` if that fails.

    What a write that failed left of a last line is cut off first: such a line, completed by the
    next one, would be a changed one.
    """
    _cut_off_half_a_line(folder.decisions_file)
    append_rows(folder.decisions_file, [asdict(row) for row in rows])


def _cut_off_half_a_line(path: Path) -> None:
    try:
        if path.is_file() and not path.is_symlink():
            content = files.read_bytes(path)
            if not content.endswith(b"\n"):
                os.truncate(path, content.rfind(b"\n") + 1)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


@contextlib.contextmanager
def hold_decisions(folder: RunFolder) -> Iterator[None]:
    """Hold the file of decisions for writing.

    Raises:
        RunFolderError: another review of this run is open.
        StorageError: the folder cannot be written.
    """
    from filelock import Timeout

    try:
        with hold_file(folder.decisions_file.parent / files.LOCK_FILE, timeout_s=0.0):
            yield
    except Timeout as error:
        raise RunFolderError(
            f"another review of {folder.path} is open; end it with Ctrl-C, then try again"
        ) from error
