"""The processes that a test started itself; those of earlier tests in the same worker stay out."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

_earlier: set[BaseProcess] = set()


@pytest.fixture(autouse=True)
def earlier_children() -> Iterator[None]:
    """Remember the processes of earlier tests; a test file uses this by importing it."""
    _earlier.update(multiprocessing.active_children())
    yield
    _earlier.clear()


def own_children() -> list[BaseProcess]:
    """Return the running processes that this test has started."""
    return [child for child in multiprocessing.active_children() if child not in _earlier]


def kill_once_written(command: Sequence[str], path: Path, root: Path) -> None:
    """Run a command in `root`; kill it with SIGKILL once `path` is there, or await its end."""
    process = subprocess.Popen(command, cwd=root, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while not path.exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
