"""Processes end in order on a signal and leave nothing in the system."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gendataagent.core.processes import check_signals, signals_as_interrupts

SEMAPHORES = Path("/dev/shm")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not SEMAPHORES.is_dir(), reason="looks semaphores up in /dev/shm"),
]

# A main process with a worker that has a worker of its own, as an experiment with
# generation.workers has; every task sleeps.
NESTED = """
import multiprocessing, sys, time
from concurrent.futures import ProcessPoolExecutor
from gendataagent.core.processes import end_workers, signals_as_interrupts, start_worker

def pool():
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, context, initializer=start_worker)

def inner():
    print("working", flush=True)
    time.sleep(60)

def outer():
    with_one = pool()
    try:
        with_one.submit(inner).result()
    finally:
        end_workers(with_one)

if __name__ == "__main__":
    with signals_as_interrupts() as received:
        own = pool()
        try:
            own.submit(outer).result()
        except KeyboardInterrupt:
            sys.exit(128 + received[0] if received else 130)
        finally:
            end_workers(own)
"""


def semaphores() -> set[str]:
    return {path.name for path in SEMAPHORES.glob("sem.mp-*")}


def running_in(group: int) -> list[str]:
    """Return the processes of a group that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = path.read_text(encoding="utf-8").rpartition(")")
            state, _, its_group, *_ = rest.split()
            if int(its_group) == group and state != "Z":
                found.append(name)
    return found


class Ended:
    """An object that is signalled while it is destroyed."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self.number)
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_that_python_drops_is_raised_again(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with signals_as_interrupts() as received:
        if signal.getsignal(number) in (signal.SIG_IGN, signal.SIG_DFL):
            pytest.skip("it is ignored here")
        ended = [Ended(number)]
        ended.clear()
        with pytest.raises(KeyboardInterrupt):
            time.sleep(20)
        assert set(received) == ({number} - {signal.SIGINT})
    assert "ignored" not in capsys.readouterr().err


def test_an_interrupt_that_a_library_drops_is_raised_by_the_next_check() -> None:
    check_signals()
    with signals_as_interrupts() as received:
        if signal.getsignal(signal.SIGTERM) in (signal.SIG_IGN, signal.SIG_DFL):
            pytest.skip("SIGTERM is ignored here")
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        assert received == [signal.SIGTERM]
        with pytest.raises(KeyboardInterrupt):
            check_signals()
    check_signals()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("whole_group", [False, True])
def test_a_signal_leaves_no_semaphore_and_no_worker(
    tmp_path: Path, number: int, code: int, whole_group: bool
) -> None:
    """A signal to the main process, or as Ctrl-C does, to every process of the terminal."""
    script = tmp_path / "nested.py"
    script.write_text(NESTED, encoding="utf-8")
    before = semaphores()
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        # A shell starts background jobs with Ctrl-C ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"working\n"
        made = semaphores() - before
        (os.killpg if whole_group else os.kill)(process.pid, number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert errors == b""
    assert made
    deadline = time.monotonic() + 10
    while (made & semaphores() or running_in(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not made & semaphores()
    assert running_in(process.pid) == []
