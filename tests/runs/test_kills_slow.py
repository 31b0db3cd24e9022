"""Killed, or out of disk, before a durable write: a sample of scripts/reliability."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "reliability" / "kill_at_every_write.py"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", ["kill", "full-disk"])
@pytest.mark.parametrize(
    ("command", "every"),
    [
        ("run", 17),
        ("adapt", 5),
        ("adapt-words", 7),
        ("adapt-classes", 7),
        ("experiment", 13),
        ("reviewed", 11),
    ],
)
def test_every_sampled_write_can_be_the_last(
    command: str, every: int, fault: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), command, "--every", str(every), "--fault", fault,
         "--work", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert f"{command}: 0 of" in done.stdout
