"""How long work reports on itself, without knowing who is listening."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Protocol

OnProgress = Callable[[int, int], None]
"""Called with (items done, items in total)."""


class Stage(Protocol):
    """One piece of long work that is under way."""

    def advance(self, amount: float = 1) -> None:
        """Say that `amount` more items are done."""
        ...


class Progress(Protocol):
    """Somebody who shows progress: a terminal, a log, nobody."""

    def stage(
        self, name: str, total: int | None = None, unit: str = "", done: int = 0
    ) -> contextlib.AbstractContextManager[Stage]:
        """Return a context in which `name` is shown as under way, `done` of `total` at its start.

        A resumed stage passes what earlier attempts did as `done`, so rate and time left are true.
        """
        ...

    def say(self, message: str) -> None:
        """Show one line that stays."""
        ...


class _SilentStage:
    def advance(self, amount: float = 1) -> None:
        return None


class SilentProgress:
    """Shows nothing; the default of the Python API."""

    @contextlib.contextmanager
    def stage(
        self, name: str, total: int | None = None, unit: str = "", done: int = 0
    ) -> Iterator[Stage]:
        """Yield a stage that ignores what it is told."""
        yield _SilentStage()

    def say(self, message: str) -> None:
        """Ignore the message."""


def counting(stage: Stage) -> OnProgress:
    """Return a (done, total) callback that moves a stage along."""
    seen = 0

    def callback(done: int, total: int) -> None:
        nonlocal seen
        stage.advance(done - seen)
        seen = done

    return callback


class Stopwatch:
    """Adds up wall-clock seconds by name.

    Args:
        seconds: what earlier attempts took, to go on from.
    """

    def __init__(self, seconds: dict[str, float] | None = None) -> None:
        self.seconds: dict[str, float] = dict(seconds or {})

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time spent in the block to `name`, also when it ends in an error."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
