"""Ending a process and its workers in order, so that nothing of them is left in the system.

The queues and locks of worker processes are named semaphores (files in /dev/shm on Linux), which
the process that made them removes when it ends in order.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from types import FrameType

PATIENCE_S = 10.0
_RAISED_AGAIN_AFTER_S = 0.02
_received: list[int] = []  # signals, while `signals_as_interrupts` is active
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextlib.contextmanager
def signals_as_interrupts() -> Iterator[list[int]]:
    """Raise `KeyboardInterrupt` in the block where SIGTERM or SIGHUP would end the process at once.

    A signal that the caller ignores (nohup) stays ignored. Yields the signals received so far.
    Python drops an error that a signal raises while an object is being destroyed, Ctrl-C's too:
    then it is raised again.
    """
    global _received
    received = _received = []
    unraisable = sys.unraisablehook

    def again(dropped: sys.UnraisableHookArgs) -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            number = received[-1] if received else signal.SIGINT
            # later: raised in here it would be dropped too
            again_in = threading.Timer(_RAISED_AGAIN_AFTER_S, _signal_this_process, (number,))
            again_in.daemon = True
            again_in.start()
        else:
            unraisable(dropped)

    def stop(number: int, _: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    before = {}
    for number in _SIGNALS:
        if signal.getsignal(number) == signal.SIG_DFL:
            before[number] = signal.signal(number, stop)
    sys.unraisablehook = again
    try:
        yield received
    finally:
        sys.unraisablehook = unraisable
        for number, handler in before.items():
            signal.signal(number, handler)
        _received = []


def _signal_this_process(number: int) -> None:
    if os.name == "nt":  # where `os.kill` ends a process
        signal.raise_signal(number)
    else:
        os.kill(os.getpid(), number)


def check_signals() -> None:
    """Raise `KeyboardInterrupt` again if `signals_as_interrupts` has raised it and it was lost.

    A loop that waits for a library, which may drop it, must not wait for ever then.
    """
    if _received:
        raise KeyboardInterrupt


@contextlib.contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Let no process that is started in the block receive Ctrl-C, which reaches every process of a
    terminal; this process receives it after the block.

    A worker could ignore it only once it has imported what says so.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """End this process in order, as on SIGTERM, when the process that started it has ended."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def start_worker() -> None:
    """Set up a worker process: it ends in order on SIGTERM, and when the main process ends.

    Ctrl-C reaches every process of a terminal; the main process alone acts on it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_worker)
    threading.Thread(target=_wait_for_parent_to_end, daemon=True).start()


def end_workers(pool: ProcessPoolExecutor) -> None:
    """End the workers of a pool now, whatever they do; their unfinished tasks are lost."""
    workers = list((pool._processes or {}).values())
    # First: a worker whose task was ended by the signal waits for the next one, or the word to end.
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + PATIENCE_S
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
        if worker.is_alive():
            worker.kill()
    pool.shutdown(wait=True)


def _end_worker(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    overdue = threading.Timer(PATIENCE_S, os._exit, (128 + number,))
    overdue.daemon = True
    overdue.start()
    sys.exit(128 + number)


def _wait_for_parent_to_end() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
