"""The files of a run: their paths, who may write, and what counts as done.

    RUN/config.toml            every setting, resolved
    RUN/manifest.json          RunManifest
    RUN/data/                  splits.jsonl, quarantine.jsonl, near_duplicates.jsonl
    RUN/rounds/003/            selected, candidates, judged .parquet; rewrites, rendered .jsonl;
                               sources/, record.json
    RUN/adaptation/            LoRA weights and record, where the generator was adapted
    RUN/pool/003/              one PNG per candidate, metadata.parquet
    RUN/review/                decisions by hand, see `agent.by_hand`
    RUN/checkpoints/           to resume from
    RUN/snapshots/             weights of the classifier for the VoG filter
    RUN/metrics.jsonl          one EpochMetrics per line
    RUN/timing.json            stage -> seconds
    RUN/classifier/            the trained classifier, in transformers' format
    RUN/evaluation.json        written once, at the end
    RUN/test_predictions.jsonl class and prediction of each test image, written with it
    RUN/coverage.json          class -> how its synthetic images lie among its real ones
    RUN/mistakes/              some test images, see `runs.mistakes`
    RUN/guard/                 comparisons with the baseline, see `runs.baseline_guard`
    RUN/second_opinion.json    the baseline's classifier on guided images, see `runs.second_opinion`
    RUN/robustness.json        from evaluate --corruptions; may be written again
    RUN/sha256.jsonl           hashes of files that a resume reads, see `core.seals`
    RUN/DONE                   the run is finished

A `DONE` mark is written last and lists the SHA-256 of every file that the round or run stands on; a
round or run without it is resumed where it stopped.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from gendataagent.core import files
from gendataagent.core.errors import RunFolderError
from gendataagent.core.inside import refuse_ways_out
from gendataagent.core.locks import hold_folder
from gendataagent.core.records import RunManifest
from gendataagent.core.rows import read_columns, read_mapping, read_record
from gendataagent.core.seals import (
    Damage,
    RecordedHashes,
    Seals,
    damages,
    read_mark,
    write_mark,
)

DONE = "DONE"
SELECTED_FILE = "selected.parquet"  # of a round: `Scored`, hardest first
_COLUMNS = {"split": str, "id": str, "class": str, "label": int, "content": str}
_PREDICTED = {"id": str, "label": int, "predicted": int}
_ROUND_MARK = re.compile(rf"rounds/(\d+)/{DONE}")
_NOT_THE_RESULT = ("checkpoints", "config.toml")  # of an adaptation


class RunFolder:
    """The paths of one run; `create_run_folder` makes a new one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seals = Seals(path)
        # Raises `RunFolderError` once a folder that is held was removed or replaced.
        self.check_still_there: Callable[[], None] = _not_held
        self._whole_rounds: set[int] = set()  # checked, or finished by this object

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Return the run folder at `path`.

        Raises:
            RunFolderError: there is none, or a link in it leads out of it.
        """
        refuse_ways_out(path)
        folder = cls(Path(path))
        if not folder.config_file.is_file():
            if folder.manifest_file.is_file():
                raise RunFolderError(
                    f"{folder.config_file} is missing; it holds the settings of the run. Put it "
                    "back from a copy, or start a new run with --out"
                )
            raise RunFolderError(
                f"{path} is not a run folder (it has no config.toml); start one with: "
                f"gendataagent run --data DIR --out {path}"
            )
        return folder

    def discard_if_unstarted(self) -> None:
        """Remove all of a new folder in which no run has started (it has no manifest).

        After fixing a wrong data path, the same command then works.
        """
        if self.manifest_file.exists() or (self.baseline / "manifest.json").exists():
            return
        if self.baseline.exists():
            RunFolder(self.baseline).discard_if_unstarted()
        files.remove_leftovers(self.path)
        data = (self.splits_file, self.quarantine_file, self.near_duplicates_file)
        own = (self.path / files.SEALS_FILE, self.config_file, self.path / files.LOCK_FILE)
        for path in (*data, *own):
            path.unlink(missing_ok=True)
        for folder in (self.splits_file.parent, self.path):
            with contextlib.suppress(OSError):  # something else is in the folder
                folder.rmdir()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for writing.

        Raises:
            RunFolderError: another run is writing to it, or it was removed meanwhile.
            StorageError: the folder cannot be written.
        """
        with hold_folder(self.path) as self.check_still_there:
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
    def test_predictions_file(self) -> Path:
        """A line for each test image: id, label, predicted (indices of classes)."""
        return self.path / "test_predictions.jsonl"

    @property
    def mistakes(self) -> Path:
        return self.path / "mistakes"

    @property
    def splits_file(self) -> Path:
        return self.path / "data" / "splits.jsonl"

    @property
    def classes_file(self) -> Path:
        """The class names of an agent in a training loop of the user's, which has no manifest."""
        return self.path / "data" / "classes.json"

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
    def second_opinion_file(self) -> Path:
        """What the baseline's classifier says of guided images."""
        return self.path / "second_opinion.json"

    @property
    def coverage_file(self) -> Path:
        """Class name -> `Coverage` of its synthetic images at the end of training."""
        return self.path / "coverage.json"

    @property
    def decisions_file(self) -> Path:
        """Decisions by hand; grows after the end of the run too."""
        return self.path / "review" / "decisions.jsonl"

    @property
    def decisions_in_effect_file(self) -> Path:
        """Which decisions each epoch was trained under."""
        return self.path / "review" / "in_effect.jsonl"

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

    def write(self, path: Path, content: bytes) -> None:
        """Write a file atomically and record its hash, so that `damage` can check it."""
        self._seals.write(path, content)

    def writer(self, path: Path) -> contextlib.AbstractContextManager[BinaryIO]:
        """Return a context that yields a file to write, otherwise as `write`."""
        return self._seals.writer(path)

    def write_json(self, path: Path, value: Any) -> None:
        """Write `value` as JSON, as `write` does."""
        self.write(path, files.json_bytes(value))

    def write_jsonl(self, path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write one JSON object per line, as `write` does."""
        self.write(path, files.jsonl_bytes(rows))

    def damage(self, path: Path) -> Damage | None:
        """Return what is wrong with a file that `write` wrote (missing, changed), or None."""
        return self._seals.damage(path)

    def is_whole(self, path: Path) -> bool:
        """Return whether a file that `write` writes is there and unchanged."""
        return self.damage(path) is None

    def recorded_versions(self, path: Path) -> set[str]:
        """Return the SHA-256 of each version of a file that `write` ever wrote, or was to write."""
        return self._seals.recorded().get(path.relative_to(self.path).as_posix(), set())

    def sealed_files(self) -> list[Path]:
        """Return every file that `write` ever wrote, there or not."""
        return [self.path / name for name in self._seals.recorded()]

    def recorded_hashes(self) -> RecordedHashes:
        """Return every hash recorded here, of the run's end, its rounds and single files."""
        marks = (*sorted(self.path.glob(f"rounds/*/{DONE}")), self.path / DONE)
        return RecordedHashes(self.path, [mark for mark in marks if mark.is_file()])

    def round_is_done(self, number: int) -> bool:
        return (self.round(number) / DONE).exists()

    def mark_round_done(self, number: int) -> None:
        """Write the mark of a finished round: the hash of each file of the round and its images."""
        found = _files_in(self.round(number), self.pool(number))
        write_mark(self.round(number) / DONE, self.path, found)
        self._whole_rounds.add(number)

    def check_in_round(self, number: int, *names: str) -> None:
        """Check single files of a finished round against its mark, without its images.

        Raises:
            RunFolderError: naming the first one that is missing or has changed.
        """
        paths = tuple(self.round(number) / name for name in names)
        mark = self.round(number) / DONE
        _refuse_damaged(f"round {number} of {self.path}", self.path, mark, paths)

    def check_round(self, number: int) -> None:
        """Check, once, that the files of a finished round are what they were when it ended.

        Raises:
            RunFolderError: naming the first file that is missing or has changed.
        """
        mark = self.round(number) / DONE
        if number not in self._whole_rounds and mark.exists():
            again = f"remove {mark} and resume the run, which makes the round again"
            if self.is_done:
                again = "start a new run with the same settings, which makes the same files"
            _refuse_damaged(f"round {number} of {self.path}", self.path, mark, instead=again)
        self._whole_rounds.add(number)

    @property
    def is_done(self) -> bool:
        return (self.path / DONE).exists()

    def mark_done(self) -> None:
        """Write the mark of a finished run: the hash of each file that its end stands on."""
        own = [self.manifest_file, self.metrics_file, self.timing_file, self.evaluation_file,
               self.test_predictions_file, self.second_opinion_file,
               self.decisions_in_effect_file, self.coverage_file]  # fmt: skip
        marks = [*self.path.glob(f"rounds/*/{DONE}"), self.baseline / DONE, self.adaptation / DONE]
        folders = (
            self.splits_file.parent, self.classifier, self.guard_file.parent, self.mistakes,
        )  # fmt: skip
        found = [*own, *marks, *_files_in(*folders)]
        write_mark(self.path / DONE, self.path, [path for path in found if path.is_file()])

    def rounds_at_the_end(self) -> list[int]:
        """Return the numbers of the rounds that a finished run ended with.

        Raises:
            RunFolderError: the mark of a round, of the baseline or the adaptation is missing or has
                changed.
        """
        marks = [name for name in read_mark(self.path / DONE) if name.endswith(f"/{DONE}")]
        if marks:
            self.check_done(*(self.path / name for name in marks))
        found = (_ROUND_MARK.fullmatch(name) for name in marks)
        return sorted(int(match[1]) for match in found if match)

    def check_done(self, *paths: Path) -> None:
        """Check files of a finished run, or all in folders, against its mark.

        Raises:
            RunFolderError: naming the first one that is missing or has changed.
        """
        if self.is_done:
            _refuse_damaged(f"the run in {self.path}", self.path, self.path / DONE, paths)

    def read_predictions(self) -> dict[str, tuple[int, int]]:
        """Return id of each test image -> its class and the predicted one; {} without a test."""
        if not self.test_predictions_file.is_file():
            return {}
        rows = read_columns(self.test_predictions_file, _PREDICTED)
        return {row["id"]: (row["label"], row["predicted"]) for row in rows}

    def read_timing(self) -> dict[str, float]:
        """Return stage -> seconds so far; what is damaged is left out, since no result needs it."""
        try:
            return read_mapping(self.timing_file, float)
        except RunFolderError:
            return {}

    def read_manifest(self) -> RunManifest:
        """Return the manifest.

        Raises:
            RunFolderError: it is missing or has changed.
        """
        if damage := self.damage(self.manifest_file):
            raise RunFolderError(
                f"{damage}; it says what the run was made from. Put it back from a copy, or start "
                "a new run with --out"
            )
        return read_record(RunManifest, self.manifest_file)

    def recorded_images(self) -> list[dict[str, Any]]:
        """Return the rows of `splits.jsonl`: the images that the run was started with.

        Raises:
            RunFolderError: the file is missing or has changed.
        """
        if damage := self.damage(self.splits_file):
            raise RunFolderError(
                f"{damage}; it lists the images of the run. Put it back from a copy, or start a "
                "new run with --out"
            )
        return read_columns(self.splits_file, _COLUMNS)


def mark_folder_done(folder: Path) -> None:
    """Write the mark of a finished folder, such as an adaptation's: the hash of each file in it."""
    found = [p for p in _files_in(folder) if p.relative_to(folder).parts[0] not in _NOT_THE_RESULT]
    write_mark(folder / DONE, folder, found)


def check_folder_done(folder: Path, *paths: Path) -> None:
    """Raise `RunFolderError` if one of these files of a finished folder is not what was written."""
    if (folder / DONE).is_file():
        _refuse_damaged(f"the result in {folder}", folder, folder / DONE, paths)


def _not_held() -> None:
    """Do nothing: a folder that is not held is not watched."""


def _files_in(*folders: Path) -> list[Path]:
    """Return the regular files below folders, but for marks, locks and leftovers."""
    return [
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
        and path.name not in (DONE, files.SEALS_FILE, files.LOCK_FILE)
        and not files.is_leftover(path)
    ]


def _refuse_damaged(
    what: str,
    folder: Path,
    mark: Path,
    only: tuple[Path, ...] = (),
    instead: str = "start a new run with the same settings, which makes the same files",
) -> None:
    sums = {
        name: digest
        for name, digest in read_mark(mark).items()
        if not only or any((folder / name).is_relative_to(path) for path in only)
    }
    found = next(damages(folder, sums), None)
    if found is not None:
        raise RunFolderError(
            f"{what} is damaged: {found}. Put the file back from a copy, or {instead}. See every "
            f"damaged file with: gendataagent verify {folder}"
        )
