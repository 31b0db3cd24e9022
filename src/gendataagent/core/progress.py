"""How long-running work reports its progress."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

OnProgress = Callable[[int, int], None]
"""Called with (items done, items in total)."""


class Stage(Protocol):
    """One piece of work in progress."""

    def advance(self, amount: float = 1) -> None:
        """Report that `amount` more items are done."""
        ...


@runtime_checkable
class Foretelling(Protocol):
    """A `Stage` that shows how long everything takes that is still to come, beyond the stage."""

    def expect(self, seconds: float | None, *, at_least: bool = False) -> None:
        """Show this as the time left from now on; `at_least` = something is not known yet.

        None: nothing is known yet, and the rate of the items so far says nothing either.
        """
        ...


class Progress(Protocol):
    """Shows progress: a terminal, a log, or nothing."""

    def stage(
        self, name: str, total: int | None = None, unit: str = "", done: int = 0
    ) -> contextlib.AbstractContextManager[Stage]:
        """Return a context in which `name` is shown as in progress, `done` of `total` at its start.

        A resumed stage passes the items of earlier attempts as `done`, so that the rate and the
        remaining time are right.
        """
        ...

    def say(self, message: str) -> None:
        """Show one line that stays visible."""
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
        """Yield a stage that ignores reports."""
        yield _SilentStage()

    def say(self, message: str) -> None:
        """Ignore the message."""


def counting(stage: Stage) -> OnProgress:
    """Return a (done, total) callback that advances a stage."""
    seen = 0

    def callback(done: int, total: int) -> None:
        nonlocal seen
        stage.advance(done - seen)
        seen = done

    return callback


class Stopwatch:
    """Adds up wall-clock seconds by name.

    Args:
        seconds: of earlier attempts, to start from.
    """

    def __init__(self, seconds: dict[str, float] | None = None) -> None:
        self.seconds: dict[str, float] = dict(seconds or {})

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the duration of the block to `name`, even if it ends in an error."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
