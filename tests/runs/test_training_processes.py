"""A run whose classifier is trained by two processes, however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from gendataagent.config import RunConfig
from gendataagent.config.run_config_file import read_run_config
from gendataagent.core.progress import SilentProgress, Stage, _SilentStage
from gendataagent.core.records import EpochMetrics
from gendataagent.core.rows import read_records
from gendataagent.core.run_folder import RunFolder
from gendataagent.runs.run import resume, run, run_until
from tests.children import earlier_children, own_children

pytestmark = pytest.mark.integration

__all__ = ["earlier_children"]


class Recorded(SilentProgress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


class StopsTraining(SilentProgress):
    """Raises KeyboardInterrupt in the first epoch, when all processes have taken a step."""

    @contextmanager
    def stage(
        self, name: str, total: float | None = None, unit: str = "", done: float = 0
    ) -> Iterator[Stage]:
        yield self if name == "train" else _SilentStage()

    def advance(self, amount: float = 1) -> None:
        raise KeyboardInterrupt


def with_processes(config: RunConfig, processes: int, **training: object) -> RunConfig:
    # Low, because eight images and BatchNorm make rounding grow a hundredfold each epoch.
    changed = replace(
        config.training, processes=processes, mixed_precision="no", learning_rate=0.001
    )
    return replace(config, training=replace(changed, **training))  # type: ignore[arg-type]


def losses(out: Path) -> list[float]:
    return [row.loss for row in read_records(EpochMetrics, RunFolder(out).metrics_file)]


def test_two_processes_make_the_same_run_and_one_resumes_it(
    small_config: RunConfig, tmp_path: Path
) -> None:
    run(with_processes(small_config, 1), tmp_path / "one")
    run_until(with_processes(small_config, 2), tmp_path / "two", 3)
    recorded = Recorded()
    resume(tmp_path / "two", config=with_processes(small_config, 1), progress=recorded)
    assert any("training.processes was 2, is 1" in sentence for sentence in recorded.said)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    notes = RunFolder(tmp_path / "two").read_manifest().notes
    assert any("trained by 2 processes" in note for note in notes)


@pytest.mark.slow
def test_a_resume_changes_the_number_of_the_baseline_too(
    small_config: RunConfig, tmp_path: Path
) -> None:
    def config(processes: int) -> RunConfig:
        shorter = with_processes(small_config, processes, epochs=3)
        return replace(shorter, agent=replace(shorter.agent, rounds=1, baseline=True))

    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(config(2), out, progress=StopsTraining())
    baseline = RunFolder(RunFolder(out).baseline)
    assert read_run_config(baseline).training.processes == 2
    assert not own_children()
    resume(out, config=config(1))
    for folder in (RunFolder(out), baseline):
        assert folder.is_done
        assert read_run_config(folder).training.processes == 1


@contextmanager
def training(command: list[str], out: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a command that trains, and yield it once the first epoch is on disk."""
    with subprocess.Popen(
        [*command, "--out", str(out)], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            while not list(RunFolder(out).checkpoints.glob("*")):
                assert process.poll() is None
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


def helpers_of(pid: int) -> list[psutil.Process]:
    below = psutil.Process(pid).children(recursive=True)
    return [child for child in below if "multiprocessing.spawn" in " ".join(child.cmdline())]


@pytest.fixture
def long_run(small_config: RunConfig, tmp_path: Path) -> list[str]:
    """The arguments of a run that trains for longer than any test."""
    config = replace(
        with_processes(small_config, 2, epochs=100_000, steps_per_epoch=100),
        agent=replace(small_config.agent, enabled=False),
    )
    (tmp_path / "config.toml").write_text(config.to_toml())
    return ["-m", "gendataagent", "run", "--config", str(tmp_path / "config.toml")]


@pytest.mark.slow
def test_a_killed_helper_ends_the_run_with_one_message(long_run: list[str], tmp_path: Path) -> None:
    with training([sys.executable, *long_run], tmp_path / "run") as process:
        said = ""
        for _ in range(6):  # one that is killed between two epochs is replaced
            for helper in helpers_of(process.pid):
                helper.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                _, said = process.communicate(timeout=20)
                break
    assert process.returncode == 1
    assert said.count("error: ") == 1
    assert "was ended by SIGKILL" in " ".join(said.split())
    assert "--resume" in said


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_helpers_end_with_the_run(long_run: list[str], tmp_path: Path, number: int) -> None:
    with training([sys.executable, *long_run], tmp_path / "run") as process:
        (helper,) = helpers_of(process.pid)
        os.kill(process.pid, number)
        _, said = process.communicate(timeout=120)
        helper.wait(60)
    codes = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
    assert process.returncode == codes[signal.Signals(number)]
    assert "error" not in said
    assert ("--resume" in said) is (number != signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_all_end_with_a_launcher(long_run: list[str], tmp_path: Path, number: int) -> None:
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    with training([sys.executable, *launcher, *long_run], tmp_path / "run") as process:
        below = psutil.Process(process.pid).children(recursive=True)
        assert len(helpers_of(process.pid)) == 1
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            os.kill(process.pid, number)
        process.communicate(timeout=120)
        _, alive = psutil.wait_procs(below, 60)
    assert not alive
    assert not RunFolder(tmp_path / "run").is_done
