"""Ctrl-C at any moment ends a command without a traceback, and a second one too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gendataagent.core.processes import interrupts_blocked

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


def ended(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True, check=False, timeout=60, env={**os.environ, **environment},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def test_while_the_command_line_is_imported(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = ended(["-m", "gendataagent", "--version"], PYTHONPATH=path)
    assert (done.returncode, done.stderr) == (130, b"")


def test_while_python_ends() -> None:
    lines = (
        "import atexit, os, signal, sys, gendataagent.__main__ as door",
        "atexit.register(os.kill, os.getpid(), signal.SIGINT)",
        "sys.argv = ['gendataagent', '--version']",
        "door.main()",
    )
    done = ended(["-c", "\n".join(lines)])
    assert (done.returncode, done.stderr) == (130, b"")


def test_a_worker_that_is_still_being_imported_prints_nothing() -> None:
    group = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('goes on')"
    with interrupts_blocked():
        worker = ended(["-c", group])
    assert (worker.returncode, worker.stdout, worker.stderr) == (0, b"goes on\n", b"")
    with pytest.raises(KeyboardInterrupt), interrupts_blocked():
        os.kill(os.getpid(), signal.SIGINT)
