"""The examples run as they stand, on few images."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[1] / "examples"


def _run_example(name: str, *arguments: str, **more: str) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **more}
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


@pytest.mark.slow
def test_transformers_trainer(photo_folder: Path, tmp_path: Path) -> None:
    arguments = ("transformers_trainer.py", str(photo_folder), str(tmp_path / "run"))
    printed = _run_example(*arguments, "3")
    assert re.search(r"top-1 .* [1-9]\d* synthetic images", printed)
    made = sorted((tmp_path / "run").rglob("*.png"))
    shutil.rmtree(sorted((tmp_path / "run" / "trainer").glob("checkpoint-*"))[-1])
    assert _run_example(*arguments, "3").splitlines()[-1] == printed.splitlines()[-1]
    assert sorted((tmp_path / "run").rglob("*.png")) == made


@pytest.mark.slow
def test_lightning_trainer(photo_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="pip install lightning")
    arguments = ("lightning_trainer.py", str(photo_folder), str(tmp_path / "run"), "3")
    assert re.search(r"^[1-9]\d* synthetic images", _run_example(*arguments), re.M)


@pytest.mark.slow
def test_timm_loop(photo_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="pip install timm torchvision")
    printed = _run_example("timm_loop.py", str(photo_folder), str(tmp_path / "run"), "3")
    assert re.search(r"top-1 .* [1-9]\d* synthetic images", printed)


@pytest.mark.slow
def test_ultralytics_classify(photo_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("ultralytics", reason="pip install ultralytics")
    run = str(tmp_path / "run")
    few = ("training.epochs=2", "agent.rounds=1", "generation.num_inference_steps=4")
    _run_example("whole_run.py", str(photo_folder), run, *few, "training.batch_size=8")
    printed = _run_example(
        "ultralytics_classify.py", run, str(tmp_path / "yolo"), "2",
        YOLO_CONFIG_DIR=str(tmp_path), YOLO_OFFLINE="true",
    )  # fmt: skip
    assert re.search(r"^real: top-1 \d.*, 24 images, 4 epochs$", printed, re.M)
    assert re.search(r"^both: top-1 \d.*, (3|4)\d images, 2 epochs$", printed, re.M)
