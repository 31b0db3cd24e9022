"""Which decisions a run was trained under, epoch by epoch: `RUN/review/in_effect.jsonl`.

A decision takes effect when the next epoch begins. What is in effect then is written down first, so
that an epoch that is trained again after a stop is trained under the same decisions, to the bit.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass

from gendataagent.agent.by_hand.decisions import HandDecisions, read_decisions
from gendataagent.config.run_config_file import read_run_config
from gendataagent.core import files
from gendataagent.core.errors import RunFolderError
from gendataagent.core.rows import read_records
from gendataagent.core.run_folder import RunFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochDecisions:
    """The version of the decisions that one epoch was trained under, see `HandDecisions`.

    Args:
        epoch: epochs that were trained before it.
    """

    epoch: int
    size: int
    sha256: str


def read_in_effect(folder: RunFolder) -> list[EpochDecisions]:
    """Return what is recorded, by epoch; nothing if the run has met no decision.

    Raises:
        RunFolderError: the record is missing or has changed, or the decisions that it names are.
    """
    path = folder.decisions_in_effect_file
    recorded = folder.recorded_versions(path)
    if not path.exists() and not recorded:
        return []
    damage = folder.damage(path)
    if damage and len(recorded) == 1 and (first := _first(folder, *recorded)) is not None:
        return [first]
    if damage:
        raise RunFolderError(
            f"{damage}; it says which decisions by hand the run was trained under. Put it back "
            "from a copy, or start a new run with --out"
        )
    rows = read_records(EpochDecisions, path)
    latest = max(rows, key=lambda row: row.size)
    _read(folder, latest)
    return rows


def _first(folder: RunFolder, digest: str) -> EpochDecisions | None:
    """Return the row of a record that had one, by the hash of the record; None if none has it.

    A run that ends just before the record is first written leaves nothing else of it.
    """
    try:
        content = files.read_bytes(folder.decisions_file)
    except OSError:
        return None
    for size in _line_ends(content):
        sha256 = hashlib.sha256(content[:size]).hexdigest()
        for epoch in range(read_run_config(folder).training.epochs):
            row = EpochDecisions(epoch=epoch, size=size, sha256=sha256)
            if hashlib.sha256(files.jsonl_bytes([asdict(row)])).hexdigest() == digest:
                return row
    return None


def _line_ends(content: bytes) -> list[int]:
    return [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]


def _read(folder: RunFolder, row: EpochDecisions) -> HandDecisions:
    found = read_decisions(folder, row.size)
    if found.sha256 != row.sha256:
        raise RunFolderError(
            f"{folder.decisions_file} is missing or has lost lines that epoch {row.epoch + 1} was "
            "trained under; put it back from a copy"
        )
    return found


def current_decisions(folder: RunFolder) -> HandDecisions:
    """Return all decisions about a run; raise `RunFolderError` as reading them does."""
    read_in_effect(folder)
    return read_decisions(folder)


class DecisionsInEffect:
    """The decisions that each epoch is trained under, for the one process that trains.

    Args:
        folder: held for writing.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._rows: dict[int, EpochDecisions] | None = None
        self._read: tuple[str, HandDecisions] | None = None  # state of the file, and what it says

    def at(self, epoch: int) -> HandDecisions:
        """Return the decisions for the epoch after `epoch` trained ones, and record them.

        An epoch that was trained before has the same ones again: none, if it was before the first.

        Raises:
            RunFolderError: decisions or record are damaged, or of another run.
        """
        if self._rows is None:
            self._rows = {row.epoch: row for row in read_in_effect(self._folder)}
            if self._rows and self._folder.damage(self._folder.decisions_in_effect_file):
                self._write()
        if epoch in self._rows:
            return _read(self._folder, self._rows[epoch])
        if any(later > epoch for later in self._rows):
            return read_decisions(self._folder, 0)
        found = self._current()
        if (found.size or self._rows) and not self._folder.is_done:
            self._rows[epoch] = EpochDecisions(epoch=epoch, size=found.size, sha256=found.sha256)
            self._write()
        return found

    def _write(self) -> None:
        rows = [asdict(row) for _, row in sorted((self._rows or {}).items())]
        self._folder.write_jsonl(self._folder.decisions_in_effect_file, rows)

    def _current(self) -> HandDecisions:
        """Return all decisions; read again only if the file or a round has changed."""
        path = self._folder.decisions_file
        if not path.exists() and not self._rows:
            return HandDecisions()
        state = files.file_state(path) if path.exists() else ""
        if self._read is None or self._read[0] != state:
            self._read = (state, current_decisions(self._folder))
        return self._read[1]
