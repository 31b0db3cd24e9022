"""The real demo, smaller: killed at random moments, resumed, and compared. Minutes long."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from gendataagent.config import RunConfig
from gendataagent.config.presets import preset_settings
from gendataagent.runs.preflight import problems
from gendataagent.runs.results import read_result
from tests.runs.test_resume import command, outcome

DEMO = "demo"
SMALLER = [
    "data.train_per_class=10",
    "training.epochs=6",
    "training.steps_per_epoch=4",
    "training.batch_size=32",
    "agent.rounds=2",
    "agent.first_round_epoch=2",
    "filter.snapshot_at=[0.17, 0.34]",
    "adaptation.epochs=1",
    "adaptation.measure_images=4",
]


def _arguments(out: Path) -> list[str]:
    settings = [word for text in SMALLER for word in ("--set", text)]
    return ["run", "--preset", DEMO, "--out", str(out), *settings]


def test_the_settings_of_the_demo_are_valid() -> None:
    RunConfig.from_dict(preset_settings(DEMO), problems)


@pytest.mark.slow
def test_killed_at_random_moments_ends_like_a_run_that_was_not(tmp_path: Path) -> None:
    started = time.monotonic()
    assert command(_arguments(tmp_path / "whole")).wait(timeout=900) == 0
    whole_s = time.monotonic() - started

    moments = random.Random(20261122)
    killed = tmp_path / "killed"
    arguments = _arguments(killed)
    kills = 0
    while kills < 4:
        process = command(arguments)
        time.sleep(moments.uniform(0.2, 0.6) * whole_s)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        if (killed / "config.toml").exists():
            arguments = ["run", "--resume", str(killed)]
    assert kills >= 1
    assert command(arguments).wait(timeout=900) == 0
    assert outcome(killed) == outcome(tmp_path / "whole")
    assert outcome(killed / "baseline") == outcome(tmp_path / "whole" / "baseline")
    assert read_result(killed).images_made == read_result(tmp_path / "whole").images_made > 0
