"""The examples run as they stand, on few images."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[1] / "examples"


def _run_example(name: str, *arguments: str) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_whole_run(photo_folder: Path, tmp_path: Path) -> None:
    printed = _run_example(
        "whole_run.py",
        str(photo_folder),
        str(tmp_path / "run"),
        "training.epochs=2",
        "agent.rounds=1",
        "training.batch_size=8",
        "generation.num_inference_steps=4",
    )
    assert "25 images made" in printed  # 5 rewrites of round(0.2 * 24) = 5 hard images
    assert (tmp_path / "run" / "report.html").is_file()


def test_own_loop(photo_folder: Path, tmp_path: Path) -> None:
    printed = _run_example("own_loop.py", str(photo_folder), str(tmp_path / "run"), "3")
    assert "synthetic images" in printed
    assert " 0 synthetic" not in printed
