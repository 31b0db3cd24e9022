"""The files of a run: their paths, who may write, and what counts as done.

    RUN/config.toml            every setting, resolved
    RUN/manifest.json          RunManifest
    RUN/data/                  splits.jsonl, quarantine.jsonl, near_duplicates.jsonl
    RUN/rounds/003/            selected, rewrites, candidates, rendered, judged .jsonl; sources/,
                               record.json
    RUN/adaptation/            LoRA weights and record, where the generator was adapted
    RUN/pool/003/              one PNG per candidate, metadata.parquet
    RUN/checkpoints/           to resume from
    RUN/snapshots/             weights of the classifier for the VoG filter
    RUN/metrics.jsonl          one EpochMetrics per line
    RUN/timing.json            stage -> seconds
    RUN/classifier/            the trained classifier, in transformers' format
    RUN/evaluation.json        written once, at the end
    RUN/guard/                 comparisons with the baseline, see `runs.baseline_guard`
    RUN/robustness.json        from evaluate --corruptions; may be written again
    RUN/DONE                   the run is finished

A `DONE` mark is written last; a round or run without it is resumed where it stopped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from gendataagent.core import files
from gendataagent.core.errors import RunFolderError
from gendataagent.core.locks import hold_folder
from gendataagent.core.records import RunManifest
from gendataagent.core.rows import read_record

DONE = "DONE"


class RunFolder:
    """The paths of one run; `create_run_folder` makes a new one."""

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
        """Remove a new folder in which no run has started (it has no manifest).

        After fixing a wrong data path, the same command then works.
        """
        if self.manifest_file.exists() or (self.baseline / "manifest.json").exists():
            return
        if self.baseline.exists():
            RunFolder(self.baseline).discard_if_unstarted()
        for path in (self.config_file, self.path / ".lock"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else is in the folder
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
        """The run folder of the same training without the agent."""
        return self.path / "baseline"

    @property
    def adaptation(self) -> Path:
        """The LoRA weights of an adapted generator, and the record of their training."""
        return self.path / "adaptation"

    @property
    def guard_file(self) -> Path:
        """The `GuardRecord` of a guarded run."""
        return self.path / "guard" / "outcome.json"

    def baseline_notes(self) -> list[str]:
        """Return the notes that the baseline has already shown, on the same data."""
        manifest = RunFolder(self.baseline).manifest_file
        return list(read_record(RunManifest, manifest).notes) if manifest.exists() else []

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
