"""A run that was stopped, however and whenever, ends like one that never was."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gendataagent.config import RunConfig
from gendataagent.core import files
from gendataagent.core.errors import RunFolderError
from gendataagent.core.progress import Stage
from gendataagent.runs.results import read_result
from gendataagent.runs.run import resume, run
from tests.tables import rows_of

pytestmark = pytest.mark.integration

UNTIMED = ("seconds", "peak_memory_mib")


class Interrupting:
    """A progress display that raises KeyboardInterrupt at its n-th event."""

    def __init__(self, at: int | None = None) -> None:
        self.events, self._at = 0, at

    def _event(self) -> None:
        self.events += 1
        if self.events == self._at:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def stage(
        self, name: str, total: int | None = None, unit: str = "", done: int = 0
    ) -> Iterator[Stage]:
        self._event()
        yield self

    def advance(self, amount: float = 1) -> None:
        self._event()

    def say(self, message: str) -> None:
        self._event()


class AtBatch(Interrupting):
    """A progress display that raises KeyboardInterrupt after the n-th batch of a round's images.

    It counts what was handed to the image writer, which writes them in a thread of its own: how
    many are on disk at a moment depends on the machine, but all are when the run has ended.
    """

    def __init__(self, number: int, batch: int) -> None:
        super().__init__()
        self._round, self._batch = number, batch

    @contextlib.contextmanager
    def stage(
        self, name: str, total: int | None = None, unit: str = "", done: int = 0
    ) -> Iterator[Stage]:
        self._round -= name == "render"
        self._rendering = name == "render"
        yield self

    def advance(self, amount: float = 1) -> None:
        if self._rendering and self._round < 0:
            self._batch -= 1
            if not self._batch:
                raise KeyboardInterrupt


def outcome(path: Path) -> dict[str, Any]:
    """Everything a run leaves that must not depend on interruptions."""
    metrics = [
        {key: value for key, value in row.items() if key not in UNTIMED}
        for row in files.read_jsonl(path / "metrics.jsonl")
    ]
    return {
        "metrics": metrics,
        "evaluation": files.read_json(path / "evaluation.json"),
        "images": {p.name: p.read_bytes() for p in sorted((path / "pool").glob("*/*.png"))},
        "judged": {
            p.parent.name: rows_of(p) for p in sorted((path / "rounds").glob("*/judged.parquet"))
        },
        "records": [
            {key: value for key, value in files.read_json(p).items() if key not in UNTIMED}
            for p in sorted((path / "rounds").glob("*/record.json"))
        ],
        "classifier": {p.name: p.read_bytes() for p in (path / "classifier").iterdir()},
    }


@pytest.fixture(scope="module")
def reference(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[Path, int]:
    """The folder of an uninterrupted run, and how many progress events it had."""
    config = request.getfixturevalue("module_config")
    path = tmp_path_factory.mktemp("reference") / "run"
    progress = Interrupting()
    run(config, path, progress=progress)
    return path, progress.events


@pytest.fixture(scope="module")
def module_config(photo_folder: Path, tiny_pipeline_folder: Path) -> RunConfig:
    from tests.small_world import settings_for

    return settings_for(photo_folder, tiny_pipeline_folder)


@pytest.mark.parametrize("share", [0.02, 0.15, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99])
def test_interrupted_anywhere_then_resumed(
    reference: tuple[Path, int], module_config: RunConfig, tmp_path: Path, share: float
) -> None:
    path, events = reference
    with pytest.raises(KeyboardInterrupt):
        run(module_config, tmp_path / "run", progress=Interrupting(max(1, int(share * events))))
    resume(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(path)


def test_interrupted_at_every_third_event(
    reference: tuple[Path, int], module_config: RunConfig, tmp_path: Path
) -> None:
    """Many short attempts in a row come to the same end: nothing done is lost or done twice."""
    with pytest.raises(KeyboardInterrupt):
        run(module_config, tmp_path / "run", progress=Interrupting(3))
    for patience in range(4, 400):
        try:
            resume(tmp_path / "run", progress=Interrupting(patience))
        except KeyboardInterrupt:
            continue
        break
    assert outcome(tmp_path / "run") == outcome(reference[0])


def test_chunk_size_changes_nothing(
    reference: tuple[Path, int], module_config: RunConfig, tmp_path: Path
) -> None:
    other = replace(module_config, generation=replace(module_config.generation, chunk_size=7))
    run(other, tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(reference[0])


def test_another_seed_gives_other_images(
    reference: tuple[Path, int], module_config: RunConfig, tmp_path: Path
) -> None:
    run(replace(module_config, seed=8), tmp_path / "run")
    mine, theirs = outcome(tmp_path / "run"), outcome(reference[0])
    assert mine["images"].keys() != theirs["images"].keys() or mine["images"] != theirs["images"]


def test_killed_with_sigkill_twice(
    reference: tuple[Path, int], module_config: RunConfig, tmp_path: Path
) -> None:
    """kill -9 while images are made, again in training, then the command line ends it."""
    out = tmp_path / "run"
    (tmp_path / "config.toml").write_text(module_config.to_toml())
    start = ["run", "--config", str(tmp_path / "config.toml"), "--out", str(out)]
    kill_when(start, out / "rounds" / "000" / "rendered.jsonl")
    kill_when(["run", "--resume", str(out)], out / "rounds" / "001" / "selected.parquet")
    done = command(["run", "--resume", str(out)])
    assert done.wait(timeout=240) == 0
    assert outcome(out) == outcome(reference[0])
    assert (out / "report.html").is_file()


def test_a_damaged_newest_checkpoint_costs_one_epoch_not_the_run(
    reference: tuple[Path, int], module_config: RunConfig, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(module_config, out, progress=Interrupting(int(0.85 * reference[1])))
    newest = sorted((out / "checkpoints").glob("epoch-*"))[-1] / "tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    resume(out)
    assert outcome(out) == outcome(reference[0])


def test_a_finished_run_is_only_read(reference: tuple[Path, int]) -> None:
    path, _ = reference
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file()}
    assert resume(path).evaluations == read_result(path).evaluations
    after = {p: p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file()}
    before.pop(path / ".lock"), after.pop(path / ".lock")
    assert before == after


def test_resume_refuses_settings_that_would_change_the_results(
    reference: tuple[Path, int], module_config: RunConfig
) -> None:
    changed = replace(module_config, selection=replace(module_config.selection, share=0.5))
    with pytest.raises(RunFolderError, match=r"selection\.share is 0\.25 there, not 0\.5"):
        resume(reference[0], config=changed)


def test_resume_refuses_other_images(module_config: RunConfig, tmp_path: Path) -> None:
    import shutil

    data = tmp_path / "photos"
    shutil.copytree(module_config.data.path, data)
    config = replace(module_config, data=replace(module_config.data, path=str(data)))
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "run", progress=Interrupting(30))
    next((data / "train").rglob("*.png")).unlink()
    with pytest.raises(RunFolderError, match="are not those that the run"):
        resume(tmp_path / "run")


def command(arguments: list[str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "gendataagent", *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def kill_when(arguments: list[str], file: Path, timeout_s: float = 240) -> None:
    """Start the command and kill it with SIGKILL as soon as `file` exists."""
    process = command(arguments)
    deadline = time.monotonic() + timeout_s
    while not file.exists():
        if process.poll() is not None:
            stderr = process.stderr.read().decode() if process.stderr else ""
            pytest.fail(f"the run ended before {file.name} was there: {stderr[-2000:]}")
        if time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"{file.name} did not appear within {timeout_s} s")
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_outcomes_of_different_runs_differ(reference: tuple[Path, int], tmp_path: Path) -> None:
    """The comparison above would notice one changed verdict."""
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(reference[0], copy)
    judged = copy / "rounds" / "001" / "judged.parquet"
    rows = rows_of(judged)
    rows[0]["rejected_by"] = "vog" if rows[0]["rejected_by"] is None else None
    pq.write_table(pa.Table.from_pylist(rows), judged)
    assert outcome(copy) != outcome(reference[0])
