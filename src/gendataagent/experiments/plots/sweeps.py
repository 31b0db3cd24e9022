"""Curves: the mean of each series against its value, with the 95 % interval as a band."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gendataagent.experiments.plots.canvas import (
    MARGIN,
    SMALL_PX,
    TEXT_PX,
    WIDTH,
    Plot,
    Scale,
    enclosing,
    fitted,
    heading,
    horizontal_axis_lines,
    mark,
    text,
    text_width,
    ticks_of,
)
from gendataagent.experiments.plots.series import Point, Series, catching_up, series_groups
from gendataagent.experiments.statistics import summarise
from gendataagent.experiments.tables import measure_of, values_by_arm

LEFT, AREA, LEGEND_LINE = 52, 210.0, 20.0
SHARE_LIMITS = (0.0, 1.0)


def sweep_plots(rows: Sequence[Mapping[str, Any]], key: str, baseline: str) -> list[Plot]:
    """Return a plot for each group of series that share an axis, the baseline as a dotted line."""
    groups = series_groups(rows, key)
    base = values_by_arm(rows, key).get(baseline, {})
    return [
        _plot(group, key, number, baseline, tuple(base.values()))
        for number, group in enumerate(groups, start=1)
    ]


def _plot(
    group: Sequence[Series], key: str, number: int, baseline: str, base: Sequence[float]
) -> Plot:
    measure, by_images = measure_of(key), group[0].by_images
    in_group = any(point.arm == baseline for series in group for point in series.points)
    base = () if in_group else base
    axis = "generated images, logarithmic" if by_images else _axis_name(group)
    unit = " in per cent" if measure.percent else ""
    title = f"{measure.name} by {'generated images' if by_images else axis}"
    subtitle = (
        f"Mean{unit}; band: its 95 % interval; small dots: seeds. Across: {axis}. Seeds are paired "
        "between arms, so differences are surer than the bands look."
    )
    head, y = heading(title, subtitle)
    legend, top = _legend(group, y, baseline if base else "")
    x_scale, y_scale, ticks = _scales(group, base, top, measure.percent)
    clip = f"plot-sweep-{number}-{key.replace('_', '-')}-area"
    left, right, bottom = LEFT, WIDTH - MARGIN, top + AREA
    body = (
        head
        + legend
        + horizontal_axis_lines(
            ticks, y_scale, left, right, lambda v: f"{100 * v if measure.percent else v:g}"
        )
        + _x_axis(group, x_scale, bottom, right)
        + f'<clipPath id="{clip}"><rect x="{left}" y="{top:g}" width="{right - left}" '
        f'height="{AREA:g}"/></clipPath>'
        + _baseline(base, y_scale, right)
        + "".join(_drawn(s, place, x_scale, y_scale, clip) for place, s in enumerate(group))
    )
    return Plot(
        name=f"sweep-{number}-{key.replace('_', '-')}",
        title=title,
        description=f"{subtitle} " + " ".join(_spoken(series, key) for series in group),
        notes=tuple(_notes(group, key, y_scale)),
        height=bottom + 44,
        body=body,
    )


def _axis_name(group: Sequence[Series]) -> str:
    return group[0].name if len(group) == 1 else "the value in the arm's name"


def _notes(group: Sequence[Series], key: str, scale: Scale) -> Iterator[str]:
    intervals = [p.interval for series in group for p in series.points if len(p.values) > 1]
    if any(low < scale.low or high > scale.high for low, high in intervals):
        yield "A band that ends at an edge goes on."
    single = [p.arm for series in group for p in series.points if len(p.values) == 1]
    if single:
        every = len(single) == sum(len(series.points) for series in group)
        yield "One seed: no bands." if every else f"One seed, no band: {', '.join(single)}."
    told = list(catching_up(group, key))
    yield from told
    if told:
        yield (
            "Numbers between measured ones are read off a straight line over their logarithm. "
            "Which mean is the best, and where a line first crosses it, is partly chance; where an "
            "interval holds zero, the two are not told apart."
        )


def _spoken(series: Series, key: str) -> str:
    measure = measure_of(key)
    said = ", ".join(
        f"{measure.text(p.mean)} at {p.at:,.6g} (n {len(p.values)})" for p in series.points
    )
    return f"{series.name}: {said}."


def _legend(group: Sequence[Series], y: float, baseline: str) -> tuple[str, float]:
    """Return a line for each series, and the y where the area of the curves begins."""
    parts = []
    for place, series in enumerate(group):
        line = y + 8
        parts.append(
            f'<g class="series-{place % 6}"><line class="curve" x1="{MARGIN}" x2="{MARGIN + 32}" '
            f'y1="{line:g}" y2="{line:g}"/>{mark(place, MARGIN + 16, line, "point")}</g>'
            + text(MARGIN + 42, line + 4, fitted(series.name, WIDTH - 2 * MARGIN - 42), px=TEXT_PX)
        )
        y += LEGEND_LINE
    if baseline:
        line = y + 8
        parts.append(
            f'<line class="baseline" x1="{MARGIN}" x2="{MARGIN + 32}" y1="{line:g}" y2="{line:g}"/>'
            + text(MARGIN + 42, line + 4, fitted(f"{baseline}, mean", WIDTH - 2 * MARGIN - 42))
        )
        y += LEGEND_LINE
    return "".join(parts), y + 14


def _scales(
    group: Sequence[Series], base: Sequence[float], top: float, percent: bool
) -> tuple[Scale, Scale, list[float]]:
    points = [point for series in group for point in series.points]
    seen = [value for point in points for value in point.values.values()]
    ends = [end for point in points for end in point.interval]
    if base:
        seen.append(summarise(list(base)).mean)
    ticks = ticks_of(*enclosing(seen, ends, limits=SHARE_LIMITS if percent else None))
    ats = [point.at for point in points]
    across = Scale(low=min(ats), high=max(ats), start=LEFT + 14, end=WIDTH - MARGIN - 14,
                   log=group[0].by_images)  # fmt: skip
    return across, Scale(low=ticks[0], high=ticks[-1], start=top + AREA, end=top), ticks


def _x_axis(group: Sequence[Series], scale: Scale, bottom: float, right: float) -> str:
    """Return marks at the measured values, their texts where there is room for them."""
    parts, free_from = [], -math.inf
    for at in sorted({point.at for series in group for point in series.points}):
        x, label = scale.at(at), f"{at:,.0f}" if group[0].by_images else f"{at:g}"
        parts.append(
            f'<line class="grid" x1="{x:g}" x2="{x:g}" y1="{bottom:g}" y2="{bottom + 5:g}"/>'
        )
        half = text_width(label, SMALL_PX) / 2
        if x - half > free_from:
            parts.append(text(x, bottom + 19, label, css="quiet", anchor="middle", px=SMALL_PX))
            free_from = x + half + 6
    name = "generated images" if group[0].by_images else _axis_name(group)
    parts.append(
        text(right, bottom + 36, fitted(name, WIDTH - 2 * MARGIN), css="quiet", anchor="end",
             px=SMALL_PX)
    )  # fmt: skip
    return "".join(parts)


def _baseline(base: Sequence[float], scale: Scale, right: float) -> str:
    if not base:
        return ""
    y = scale.at(summarise(list(base)).mean)
    return f'<line class="baseline" x1="{LEFT}" x2="{right}" y1="{y:g}" y2="{y:g}"/>'


def _drawn(series: Series, place: int, across: Scale, up: Scale, clip: str) -> str:
    places = [(across.at(point.at), up.at(point.mean)) for point in series.points]
    bands = "".join(
        f'<polygon class="band" points="{_outline(run, across, up)}"/>'
        for run in _with_intervals(series.points)
    )
    dots = "".join(
        f'<circle class="seed" cx="{across.at(p.at):g}" cy="{up.at(value):g}" r="2.5"/>'
        for p in series.points
        for value in p.values.values()
    )
    line = " ".join(f"{x:g},{y:g}" for x, y in places)
    marks = "".join(mark(place, x, y, "point") for x, y in places)
    return (
        f'<g class="series-{place % 6}"><g clip-path="url(#{clip})">{bands}</g>'
        f'{dots}<polyline class="curve" points="{line}"/>{marks}</g>'
    )


def _with_intervals(points: Sequence[Point]) -> Iterator[list[Point]]:
    """Yield the stretches of two or more neighbours that have an interval."""
    stretch: list[Point] = []
    for point in points:
        if math.isfinite(point.interval[0]):
            stretch.append(point)
            continue
        if len(stretch) > 1:
            yield stretch
        stretch = []
    if len(stretch) > 1:
        yield stretch


def _outline(points: Sequence[Point], across: Scale, up: Scale) -> str:
    lower = [(across.at(p.at), up.at(p.interval[0])) for p in points]
    upper = [(across.at(p.at), up.at(p.interval[1])) for p in reversed(points)]
    return " ".join(f"{x:g},{y:g}" for x, y in (*lower, *upper))
