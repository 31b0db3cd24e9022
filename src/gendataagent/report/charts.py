"""Inline SVG charts. Colours come from style.css and palette.css; each chart has alternative text.

Bars and tracks position their marks in per cent of their width, so they fit any screen without
scaling the text beside them, which is plain HTML.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gendataagent.report.markup import esc

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 14, 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a chart: points (x, y) in order of x, and the CSS class of its colour."""

    label: str
    css: str
    points: tuple[tuple[float, float], ...]


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_text: Callable[[float], str],
    marks: Sequence[float] = (),
    y_limit: float | None = None,
) -> str:
    """Return a figure with the lines over a common x axis, or "" without points.

    Args:
        y_text: formats a value on the axis.
        marks: x positions of vertical lines (the rounds).
        y_limit: the largest possible value, if any (1 for an accuracy).
    """
    finite = [
        Line(label=line.label, css=line.css, points=tuple(p for p in line.points if _finite(p)))
        for line in lines
    ]
    drawn = [line for line in finite if line.points]
    if not drawn:
        return ""
    xs = [x for line in drawn for x, _ in line.points]
    ys = [y for line in drawn for _, y in line.points]
    ticks = nice_ticks(min(ys), max(ys), limit=y_limit)
    x_low, x_high = min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1

    def x_at(x: float) -> float:
        return round(LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT), 1)

    def y_at(y: float) -> float:
        share = (y - ticks[0]) / (ticks[-1] - ticks[0])
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_at(t)}" y2="{y_at(t)}"/>'
        f'<text x="{LEFT - 6}" y="{y_at(t) + 4}" text-anchor="end">{y_text(t)}</text>'
        for t in ticks
    ]
    parts += [
        f'<line class="mark" x1="{x_at(x)}" x2="{x_at(x)}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        for x in marks
        if x_low <= x <= x_high
    ]
    parts += [_drawn_line(line, x_at, y_at) for line in drawn]
    parts += [
        f'<text x="{x_at(x)}" y="{HEIGHT - 10}" text-anchor="{anchor}">{text}</text>'
        for x, anchor, text in (
            (x_low, "start", f"{x_label} {x_low:g}"),
            (x_high, "end", f"{x_high:g}"),
        )
    ]
    spoken = "; ".join(f"{line.label} ends at {y_text(line.points[-1][1])}" for line in drawn)
    legend = "".join(
        f'<li><span class="swatch {line.css}"></span>{esc(line.label)}</li>' for line in drawn
    )
    return (
        f'<figure class="chart"><figcaption>{esc(title)}</figcaption>'
        f'<ul class="legend">{legend}</ul>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{esc(title)}: {esc(spoken)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def _drawn_line(line: Line, x_at: Callable[[float], float], y_at: Callable[[float], float]) -> str:
    if len(line.points) == 1:
        x, y = line.points[0]
        return f'<circle class="dot {line.css}" cx="{x_at(x)}" cy="{y_at(y)}" r="3.5"/>'
    path = " ".join(f"{x_at(x)},{y_at(y)}" for x, y in line.points)
    return f'<polyline class="line {line.css}" points="{path}"/>'


def _finite(point: tuple[float, float]) -> bool:
    return all(math.isfinite(value) for value in point)


def nice_ticks(low: float, high: float, *, limit: float | None = None) -> list[float]:
    """Return 2 to 7 round values that enclose [low, high], the last not above `limit`.

    The step is 1, 2 or 5 times a power of ten.
    """
    span = high - low if high > low else max(abs(high) * 0.1, 0.01)
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * m for m in (1, 2, 5, 10) if power * m * 4 >= span * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if last == first:
        last += 1
    if limit is not None and last * step > limit + 1e-9:
        first, last = first - 1, last - 1
    return [round(i * step, 10) for i in range(first, last + 1)]


def bar(share: float, css: str) -> str:
    """Return a horizontal bar that fills a share of its width."""
    return (
        '<svg class="track" aria-hidden="true"><rect class="rail" width="100%" height="100%"/>'
        f'<rect class="{css}" width="{100 * _clamped(share):.1f}%" height="100%"/></svg>'
    )


def change_track(before: float | None, after: float, *, sure: bool = True) -> str:
    """Return a 0 to 1 scale with a dot for before, one for after, and a line between them.

    Args:
        sure: whether the difference is beyond chance; if not, the line has no colour.
    """
    x = 100 * _clamped(after)
    marks = "".join(
        f'<line class="grid" x1="{t}%" x2="{t}%" y1="0" y2="100%"/>' for t in (0, 25, 50, 75, 100)
    )
    if before is not None:
        x0 = 100 * _clamped(before)
        css = "" if not sure else "up" if after > before else "down"
        marks += (
            f'<line class="way {css}" x1="{x0:.1f}%" x2="{x:.1f}%" y1="50%" y2="50%"/>'
            f'<circle class="dot real" cx="{x0:.1f}%" cy="50%" r="4"/>'
        )
    return (
        f'<svg class="track dots" aria-hidden="true">{marks}'
        f'<circle class="dot agent" cx="{x:.1f}%" cy="50%" r="5"/></svg>'
    )


def stacked_bar(parts: Sequence[tuple[str, float]], whole: float, description: str) -> str:
    """Return one bar of adjacent parts.

    Args:
        parts: CSS class and size of each.
        whole: the size of the full width.
    """
    start, drawn = 0.0, []
    for css, size in parts:
        width = 100 * size / whole if whole > 0 else 0.0
        drawn.append(f'<rect class="{css}" x="{start:.2f}%" width="{width:.2f}%" height="100%"/>')
        start += width
    return (
        f'<svg class="stack" role="img" aria-label="{esc(description)}">'
        f'<rect class="rail" width="100%" height="100%"/>{"".join(drawn)}</svg>'
    )


def _clamped(share: float) -> float:
    return min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0
