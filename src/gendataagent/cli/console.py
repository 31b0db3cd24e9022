"""All that commands print: text that cannot steer the terminal, and progress.

No other module of the command line prints. Names of classes and files come from other people: they
are never read as markup, and control characters do not reach the terminal.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from gendataagent.core.progress import Stage
from gendataagent.core.secrets import shown, without_secrets
from gendataagent.core.text import escape_control_characters, remove_control_characters

PLAIN_LINE_EVERY_S = 15.0
_LEAST_COLUMNS = 40  # in fewer, Rich would leave out cells and lines; terminals break long lines


class SafeConsole(Console):
    """Rich's console for text from anywhere: no markup, no emoji codes, no control characters, no
    secrets.

    Attributes:
        is_narrow: the terminal has so few columns that it breaks the lines itself.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})
        self.is_narrow = "width" not in options and self.width < _LEAST_COLUMNS
        if self.is_narrow:
            self.width = _LEAST_COLUMNS

    def render_str(self, text: str, **options: Any) -> Text:
        """Return text without secrets; before it is wrapped, which could tear them."""
        return super().render_str(shown(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield what Rich renders; only its own styles reach the terminal as control codes."""
        if isinstance(renderable, Text):
            seen = shown(renderable.plain)
            if seen != renderable.plain:
                renderable = renderable.copy()
                renderable.plain = seen
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else remove_control_characters(segment.text)
            yield segment if text == segment.text else Segment(text, segment.style)


def say(sentence: str, *, to_error: bool = False, style: str | None = None) -> None:
    """Print one line, however long, to standard output or standard error."""
    SafeConsole(stderr=to_error).print(sentence, soft_wrap=True, style=style)


def show(table: Table | Text | str = "") -> None:
    """Print a table or a text to standard output."""
    SafeConsole().print(table)


def write(text: str) -> None:
    """Print text for another program: unwrapped, with every space.

    Control characters become escapes, as TOML and JSON have them.
    """
    print(without_secrets(escape_control_characters(text)), flush=True)


class _Count(ProgressColumn):
    """Items done, out of the total where it is known."""

    def render(self, task: Task) -> Text:
        of = f"/{task.total:.0f}" if task.total is not None else ""
        return Text(f"{task.completed:.0f}{of} {task.fields['unit']}", style="progress.download")


class _Rate(ProgressColumn):
    """Items per second, or seconds per item if slower than one per second."""

    def render(self, task: Task) -> Text:
        return Text(_rate(task.finished_speed or task.speed), style="progress.data.speed")


class ConsoleProgress:
    """Shows stages as live bars on a terminal, else prints a line every 15 seconds.

    Writes to standard error, so that results on standard output can be piped.
    """

    def __init__(self, console: SafeConsole | None = None) -> None:
        self.console = console or SafeConsole(stderr=True)
        self._live: Progress | None = None

    @contextlib.contextmanager
    def stage(
        self, name: str, total: int | None = None, unit: str = "", done: int = 0
    ) -> Iterator[Stage]:
        """Yield a stage, shown as a bar below the open ones."""
        if not self.console.is_terminal or self.console.is_narrow:
            yield _PlainStage(self.console, name, total, unit, done)
            return
        with self._bars() as bars:
            bar = bars.add_task(name, total=total, completed=done, unit=unit)
            try:
                yield _BarStage(bars, bar)
            finally:
                bars.remove_task(bar)

    def say(self, message: str) -> None:
        """Print a permanent line above the bars."""
        self.console.print(message)

    @contextlib.contextmanager
    def _bars(self) -> Iterator[Progress]:
        """Yield the live display; the outermost stage opens and closes it."""
        if self._live is not None:
            yield self._live
            return
        columns = (
            TextColumn("{task.description:<14}", markup=False),
            BarColumn(bar_width=30),
            _Count(),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            _Left(),
        )
        with Progress(*columns, console=self.console, transient=True) as live:
            self._live = live
            try:
                yield live
            finally:
                self._live = None


class _Left(TimeRemainingColumn):
    """The time left as a stage foretells it, else from the rate of its items."""

    max_refresh = 0.0  # what is foretold is shown at once

    def render(self, task: Task) -> Text:
        expected = task.fields.get("expected")
        if expected is None:
            return super().render(task)
        return Text(expected.text, style="progress.remaining")


class _Expected:
    """A time left that was foretold, from now on."""

    def __init__(self, seconds: float | None, at_least: bool) -> None:
        self._until = None if seconds is None else time.monotonic() + seconds
        self._at_least = at_least

    @property
    def is_known(self) -> bool:
        """Whether it is a time."""
        return self._until is not None

    @property
    def text(self) -> str:
        """What is left of it, in words."""
        if self._until is None:
            return "known after an epoch"
        left = max(0.0, self._until - time.monotonic())
        return f"{'at least' if self._at_least else 'about'} {_duration(left)}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class _BarStage:
    def __init__(self, bars: Progress, bar: TaskID) -> None:
        self._bars, self._bar = bars, bar

    def expect(self, seconds: float | None, *, at_least: bool = False) -> None:
        self._bars.update(self._bar, expected=_Expected(seconds, at_least))

    def advance(self, amount: float = 1) -> None:
        self._bars.advance(self._bar, amount)


class _PlainStage:
    """Prints the progress of a stage at most every 15 seconds."""

    def __init__(
        self, console: Console, name: str, total: int | None, unit: str, done: int
    ) -> None:
        self._console, self._name, self._total, self._unit = console, name, total, unit
        self._done, self._start_done = float(done), float(done)
        self._start = self._last = time.monotonic()
        self._expected: _Expected | None = None

    def expect(self, seconds: float | None, *, at_least: bool = False) -> None:
        self._expected = _Expected(seconds, at_least)

    def advance(self, amount: float = 1) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._last < PLAIN_LINE_EVERY_S:
            return
        self._last = now
        speed = (self._done - self._start_done) / (now - self._start)
        of = f"/{self._total}" if self._total is not None else ""
        said = [f"{self._name}: {self._done:.0f}{of} {self._unit}"]
        if self._expected is not None:  # the rate would count what was done inside the stage too
            text = self._expected.text
            said.append(f"{text} left in all" if self._expected.is_known else f"time left {text}")
        else:
            said.append(_rate(speed))
            if self._total is not None and speed > 0:
                said.append(f"{(self._total - self._done) / speed:.0f} s left")
        self._console.print(", ".join(said))


def _rate(per_second: float | None) -> str:
    if not per_second:
        return ""
    return f"{per_second:.1f}/s" if per_second >= 1 else f"{1 / per_second:.1f} s each"
