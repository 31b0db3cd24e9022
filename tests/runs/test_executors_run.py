"""One run, whichever executor makes its images: the same pool, metrics and weights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gendataagent.config import RunConfig
from gendataagent.runs.run import resume, run
from tests.runs.test_resume import outcome

pytestmark = pytest.mark.integration


def with_executor(config: RunConfig, executor: str) -> RunConfig:
    workers = 0 if executor == "serial" else 2
    generation = replace(config.generation, executor=executor, workers=workers)
    return replace(config, generation=generation)


def test_processes_make_the_same_run(small_config: RunConfig, tmp_path: Path) -> None:
    for executor in ("serial", "process"):
        run(with_executor(small_config, executor), tmp_path / executor)
    assert outcome(tmp_path / "process") == outcome(tmp_path / "serial")


@pytest.mark.slow
def test_ray_makes_the_same_run_with_feedback_and_after_a_kill(
    small_config: RunConfig, tmp_path: Path
) -> None:
    """The main process is killed with kill -9 in its first round, and resumed with Ray again."""
    pytest.importorskip("ray")
    training = replace(small_config.training, epochs=4)
    generation = replace(
        small_config.generation, feedback="entropy", feedback_scale=0.1, feedback_images=4
    )
    config = replace(small_config, training=training, generation=generation)
    run(with_executor(config, "serial"), tmp_path / "serial")

    out = tmp_path / "ray"
    (tmp_path / "config.toml").write_text(with_executor(config, "ray").to_toml())
    command = ["run", "--config", str(tmp_path / "config.toml"), "--out", str(out)]
    with subprocess.Popen(
        [sys.executable, "-m", "gendataagent", *command], start_new_session=True
    ) as process:
        while not (out / "rounds" / "000" / "rendered.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert not (out / "DONE").exists()
    resume(out)
    assert outcome(out) == outcome(tmp_path / "serial")


@pytest.mark.slow
def test_sigterm_ends_a_run_with_ray_as_one_without(
    small_config: RunConfig, tmp_path: Path
) -> None:
    """Ray's own handler of SIGTERM does not replace that of the command."""
    pytest.importorskip("ray")
    out = tmp_path / "run"
    (tmp_path / "config.toml").write_text(with_executor(small_config, "ray").to_toml())
    command = ["run", "--config", str(tmp_path / "config.toml"), "--out", str(out)]
    with subprocess.Popen(
        [sys.executable, "-m", "gendataagent", *command], stderr=subprocess.PIPE, text=True
    ) as process:
        while not (out / "rounds" / "000" / "rendered.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "--resume" in said
    assert "Traceback" not in said
