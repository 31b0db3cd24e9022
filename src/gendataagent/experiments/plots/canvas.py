"""What all plots are made of: a frame with title and description, scales, texts that fit.

A plot is one SVG drawing. As a file it carries its own colours, for a light and a dark theme;
inside a page it takes those of the page (palette.css and plots.css). It is narrow enough for a
telephone.
"""

from __future__ import annotations

import math
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

from gendataagent.report.charts import nice_ticks
from gendataagent.report.html_document import palette
from gendataagent.report.markup import MINUS, esc

WIDTH, MARGIN = 400, 16
SHOWN_WIDTH = 460  # px of the file where nobody says otherwise
TITLE_PX, TEXT_PX, SMALL_PX = 15, 13, 12
LEADING = 1.4  # height of a line over the size of its letters
SERIES = 6  # colours, marks and dashes before they begin again
_LETTER = 0.58  # mean width of a letter over its size, a little wide so that nothing is cut
_ROOM_FOR_INTERVALS = 1.5  # spans of what is drawn, on either side


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One drawing.

    Args:
        name: of its file, without ending.
        title: what is shown, in a few words.
        description: what there is to see, for who cannot.
        notes: sentences that belong under it.
        height: in units of the drawing, which is `WIDTH` wide.
        body: the SVG elements.
    """

    name: str
    title: str
    description: str
    notes: tuple[str, ...]
    height: float
    body: str

    def inline(self) -> str:
        """Return it for a page that has the style of `plots_style`."""
        return self._svg("", "")

    def file(self) -> str:
        """Return it as a file of its own."""
        size = (
            f'xmlns="http://www.w3.org/2000/svg" width="{SHOWN_WIDTH}" '
            f'height="{self.height * SHOWN_WIDTH / WIDTH:.0f}" '
        )
        return self._svg(size, f"<style>{palette()}{plots_style()}</style>") + "\n"

    def _svg(self, size: str, style: str) -> str:
        title, description = f"plot-{self.name}-title", f"plot-{self.name}-description"
        return (
            f'<svg {size}class="plot" viewBox="0 0 {WIDTH} {self.height:g}" role="img" '
            f'aria-labelledby="{title} {description}"><title id="{title}">{esc(self.title)}</title>'
            f'<desc id="{description}">{esc(self.description)}</desc>{style}'
            f'<rect class="ground" x=".5" y=".5" width="{WIDTH - 1}" '
            f'height="{self.height - 1:g}" rx="10"/>{self.body}</svg>'
        )


def plots_style() -> str:
    """Return the CSS of plots, which names the colours of the palette."""
    own = resources.files("gendataagent.experiments.plots")
    return own.joinpath("plots.css").read_text("utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Values to places: `low` lies at `start`, `high` at `end`; `log` by their logarithms."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return the place of a value, to a tenth."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)


def enclosing(
    points: Iterable[float],
    ends: Iterable[float] = (),
    *,
    limits: tuple[float, float] | None = None,
) -> tuple[float, float]:
    """Return the range that shows all points and, as far as there is room, the ends of intervals.

    The interval of two seeds can be a hundred times as wide as what was measured; drawn whole it
    would press all else into one dot. It gets `_ROOM_FOR_INTERVALS` times the span of the points.

    Args:
        points, ends: finite or not; what is not finite is left out.
        limits: the least and the largest value possible.
    """
    shown = [value for value in points if math.isfinite(value)]
    low, high = min(shown), max(shown)
    room = _ROOM_FOR_INTERVALS * (high - low)
    finite = [value for value in ends if math.isfinite(value)]
    low, high = (
        max(min([low, *finite]), low - room),
        min(max([high, *finite]), high + room),
    )
    if limits is not None:
        low, high = max(low, limits[0]), min(high, limits[1])
    return low, high


def ticks_of(low: float, high: float) -> list[float]:
    """Return 3 to 7 round values around [low, high]."""
    return nice_ticks(low, high)


def text(
    x: float, y: float, content: str, *, css: str = "", anchor: str = "start", px: float = TEXT_PX
) -> str:
    """Return one line of text with its baseline at y; `content` is plain."""
    kind = f' class="{css}"' if css else ""
    place = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:g}" y="{y:g}" font-size="{px:g}"{kind}{place}>{esc(content)}</text>'


def heading(title: str, subtitle: str) -> tuple[str, float]:
    """Return title and subtitle as SVG, broken into lines, and the y under them."""
    parts, y = [], float(MARGIN)
    for content, css, px in ((title, "title", TITLE_PX), (subtitle, "quiet", SMALL_PX)):
        for line in _lines(content, px):
            y += px * LEADING
            parts.append(text(MARGIN, round(y - 4, 1), line, css=css, px=px))
        y += 2
    return "".join(parts), round(y + 10, 1)


def _lines(content: str, px: float) -> list[str]:
    return textwrap.wrap(content, int((WIDTH - 2 * MARGIN) / (px * _LETTER)))


def text_width(content: str, px: float) -> float:
    """Return about how wide a text will be; fonts differ, so a little more than most need."""
    wide = sum(
        unicodedata.east_asian_width(letter) in "WF" or letter in "WM@" for letter in content
    )
    return px * (_LETTER * (len(content) - wide) + wide)


def fitted(content: str, width: float, px: float = TEXT_PX) -> str:
    """Return a text cut in its middle, if need be, to fit a width."""
    if text_width(content, px) <= width:
        return content
    keep = len(content)
    while keep > 2:
        keep -= 1
        head = (keep + 1) // 2
        shorter = f"{content[:head]}…{content[len(content) - keep + head :]}"
        if text_width(shorter, px) <= width:
            return shorter
    return "…"


def typographic(content: str) -> str:
    """Return numbers with a real minus sign, hyphens inside of names as they are."""
    return "".join(
        MINUS if letter == "-" and _begins_number(content, place) else letter
        for place, letter in enumerate(content)
    )


def _begins_number(content: str, place: int) -> bool:
    before, after = content[:place][-1:], content[place + 1 : place + 2]
    return after.isdigit() and (not before or before in " [(")


def vertical_axis_lines(
    ticks: Sequence[float],
    scale: Scale,
    top: float,
    bottom: float,
    tick_text: Callable[[float], str],
) -> str:
    """Return grid lines at values of a horizontal axis, their texts under them."""
    return "".join(
        f'<line class="grid" x1="{scale.at(t):g}" x2="{scale.at(t):g}" y1="{top:g}" '
        f'y2="{bottom:g}"/>'
        + text(scale.at(t), bottom + 16, tick_text(t), css="quiet", anchor="middle", px=SMALL_PX)
        for t in ticks
    )


def horizontal_axis_lines(
    ticks: Sequence[float],
    scale: Scale,
    left: float,
    right: float,
    tick_text: Callable[[float], str],
) -> str:
    """Return grid lines at values of a vertical axis, their texts left of them."""
    return "".join(
        f'<line class="grid" x1="{left:g}" x2="{right:g}" y1="{scale.at(t):g}" '
        f'y2="{scale.at(t):g}"/>'
        + text(left - 6, scale.at(t) + 4, tick_text(t), css="quiet", anchor="end", px=SMALL_PX)
        for t in ticks
    )


def mark(shape: int, x: float, y: float, css: str) -> str:
    """Return a mark of one of `SERIES` shapes, about as large to the eye as the others."""
    points = {
        1: ((-4, -4), (4, -4), (4, 4), (-4, 4)),
        2: ((0, -5.5), (5, 4), (-5, 4)),
        3: ((0, -5.8), (5.8, 0), (0, 5.8), (-5.8, 0)),
        4: ((0, 5.5), (5, -4), (-5, -4)),
        5: ((-5, -2), (-2, -5), (5, 2), (2, 5)),
    }.get(shape % SERIES)
    if points is None:
        return f'<circle class="{css}" cx="{x:g}" cy="{y:g}" r="4.5"/>'
    corners = " ".join(f"{x + dx:g},{y + dy:g}" for dx, dy in points)
    return f'<polygon class="{css}" points="{corners}"/>'
