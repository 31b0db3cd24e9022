"""The files of a run: where everything lies, who may write, and what counts as done.

    RUN/config.toml            every setting, resolved
    RUN/manifest.json          RunManifest
    RUN/data/                  splits.jsonl, quarantine.jsonl, near_duplicates.jsonl
    RUN/rounds/003/            selected, rewrites, candidates, rendered, judged .jsonl; sources/,
                               record.json
    RUN/adaptation/            LoRA weights and record, where the generator was adapted
    RUN/pool/003/              one PNG a candidate, metadata.parquet
    RUN/checkpoints/           to resume from
    RUN/snapshots/             weights of the classifier for the VoG filter
    RUN/metrics.jsonl          one EpochMetrics a line
    RUN/timing.json            stage -> seconds
    RUN/classifier/            final weights
    RUN/evaluation.json        written once, at the end
    RUN/guard/                 how a guarded run compares with its baseline, see `guard`
    RUN/robustness.json        evaluate --corruptions; may be written again
    RUN/DONE                   the run is finished

A `DONE` mark is written last; without it a round, or the run, goes on where it stopped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gendataagent.core import files
from gendataagent.core.errors import RunFolderError
from gendataagent.core.locks import hold_folder

DONE = "DONE"


class RunFolder:
    """Paths of one run and the rules for using them; `create_run_folder` makes a new one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Return the run folder at `path`; raise `RunFolderError` if there is none."""
        folder = cls(Path(path))
        if not folder.config_file.is_file():
            raise RunFolderError(
                f"{path} is not a run folder (it has no config.toml); start one with: "
                f"gendataagent run --data DIR --out {path}"
            )
        return folder

    def discard_if_unstarted(self) -> None:
        """Remove a new folder in which no run has begun yet (no manifest was written).

        So a wrong data path can be mended and the same command typed again.
        """
        if self.manifest_file.exists() or (self.baseline / "manifest.json").exists():
            return
        if self.baseline.exists():
            RunFolder(self.baseline).discard_if_unstarted()
        for path in (self.config_file, self.path / ".lock"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody put something else there meanwhile
            self.path.rmdir()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for writing.

        Raises:
            RunFolderError: another run is writing to it.
            StorageError: the folder cannot be written.
        """
        with hold_folder(self.path):
            yield

    @property
    def config_file(self) -> Path:
        return self.path / "config.toml"

    @property
    def manifest_file(self) -> Path:
        return self.path / "manifest.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def timing_file(self) -> Path:
        return self.path / "timing.json"

    @property
    def evaluation_file(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def splits_file(self) -> Path:
        return self.path / "data" / "splits.jsonl"

    @property
    def quarantine_file(self) -> Path:
        return self.path / "data" / "quarantine.jsonl"

    @property
    def near_duplicates_file(self) -> Path:
        return self.path / "data" / "near_duplicates.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def snapshots(self) -> Path:
        return self.path / "snapshots"

    @property
    def classifier(self) -> Path:
        return self.path / "classifier"

    @property
    def baseline(self) -> Path:
        """Where the same training without the agent lies, a run folder of its own."""
        return self.path / "baseline"

    @property
    def adaptation(self) -> Path:
        """Where the LoRA weights of an adapted generator lie, with the record of the training."""
        return self.path / "adaptation"

    @property
    def guard_file(self) -> Path:
        """Where a guarded run says which classifier it ended with."""
        return self.path / "guard" / "outcome.json"

    def baseline_notes(self) -> list[str]:
        """Return the notes the user has read already, about the same data, from the baseline."""
        manifest = self.read_optional_json(self.baseline / "manifest.json", {"notes": []})
        notes: list[str] = manifest["notes"]
        return notes

    def round(self, number: int) -> Path:
        return self.path / "rounds" / f"{number:03d}"

    def pool(self, number: int) -> Path:
        return self.path / "pool" / f"{number:03d}"

    def round_is_done(self, number: int) -> bool:
        return (self.round(number) / DONE).exists()

    def mark_round_done(self, number: int) -> None:
        files.write_bytes(self.round(number) / DONE, b"")

    @property
    def is_done(self) -> bool:
        return (self.path / DONE).exists()

    def mark_done(self) -> None:
        files.write_bytes(self.path / DONE, b"")

    def read_optional_json(self, path: Path, default: Any) -> Any:
        """Return the value of a JSON file of this run, or `default` while it is not there."""
        return files.read_json(path) if path.exists() else default
