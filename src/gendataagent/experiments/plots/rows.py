"""Plots with a row an arm: paired differences with their intervals, and means with their seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
    text,
    text_width,
    ticks_of,
    typographic,
    vertical_axis_lines,
)
from gendataagent.experiments.statistics import Difference, paired_difference, summarise
from gendataagent.experiments.tables import (
    Measure,
    difference_text,
    measure_of,
    seeds_by_arm,
    values_by_arm,
)

ROW = 48.0  # the arm's name, under it mean and interval, under these its seeds
_NAME, _MEAN, _SEEDS = 13.0, 27.0, 37.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One arm: a name, the same in figures, a middle, perhaps an interval, and its seeds."""

    label: str
    figures: str
    css: str
    middle: float
    dots: tuple[float, ...]
    low: float = math.nan
    high: float = math.nan


def difference_plot(rows: Sequence[Mapping[str, Any]], key: str, baseline: str) -> Plot | None:
    """Return each arm's paired differences to a baseline; None where no arm shares a seed with it.

    A single shared seed is drawn without an interval. Arms that share none are named under it.
    """
    measure, values = measure_of(key), values_by_arm(rows, key)
    base = values.get(baseline, {})
    others = [arm for arm in seeds_by_arm(rows) if arm != baseline]
    paired = {arm: values[arm] for arm in others if values.get(arm, {}).keys() & base.keys()}
    if not paired:
        return None
    differences = {arm: paired_difference(own, base) for arm, own in paired.items()}
    drawn = [
        _Row(
            label=arm,
            figures=_figures(measure, differences[arm]),
            css=_css_of(differences[arm]),
            middle=differences[arm].mean,
            low=differences[arm].low,
            high=differences[arm].high,
            dots=tuple(
                paired[arm][seed] - base[seed] for seed in sorted(base.keys() & paired[arm])
            ),
        )
        for arm in paired
    ]
    unit = ", in points" if measure.percent else ""
    single = all(difference.count == 1 for difference in differences.values())
    return _plot(
        drawn,
        name=f"difference-{key.replace('_', '-')}",
        title=f"{measure.name}: each arm minus {baseline}",
        subtitle=f"The difference of the one shared seed{unit}; no interval."
        if single
        else f"Mean paired difference{unit}, with its 95 % interval. Small dots: seeds. Filled and "
        "starred: the interval leaves out zero.",
        tick_text=lambda value: typographic(_signed(measure, value)),
        zero=True,
        notes=tuple(_notes(differences, [arm for arm in others if arm not in paired], baseline)),
    )


def means_plot(rows: Sequence[Mapping[str, Any]], key: str) -> Plot | None:
    """Return the mean of each arm with every seed as a dot; None where nothing was measured."""
    measure = measure_of(key)
    drawn = []
    for arm, values in values_by_arm(rows, key).items():
        summary = summarise(list(values.values()))
        spread = f" ± {measure.text(summary.deviation)}" if summary.count > 1 else ""
        drawn.append(
            _Row(
                label=arm,
                figures=f"{measure.text(summary.mean)}{spread} (n {summary.count})",
                css="mean",
                middle=summary.mean,
                dots=tuple(values[seed] for seed in sorted(values)),
            )
        )
    if not drawn:
        return None
    return _plot(
        drawn,
        name=f"mean-{key.replace('_', '-')}",
        title=f"{measure.name}: mean of each arm",
        subtitle=("In per cent. " if measure.percent else "")
        + (
            "One seed an arm: no spread."
            if all(len(row.dots) == 1 for row in drawn)
            else "Large dot: mean, in figures with its standard deviation. Small dots: seeds. "
            "Seeds are paired between arms, so this spread is not that of the differences."
        ),
        tick_text=lambda value: f"{100 * value if measure.percent else value:g}",
        zero=False,
        notes=(),
    )


def _figures(measure: Measure, difference: Difference) -> str:
    figures = typographic(difference_text(measure, difference))
    return figures if difference.count == 1 else f"{figures} (n {difference.count})"


def _css_of(difference: Difference) -> str:
    if difference.is_above_zero:
        return "above sure"
    return "below sure" if difference.is_below_zero else "plain"


def _signed(measure: Measure, value: float) -> str:
    value = 100 * value if measure.percent else value
    return f"{value:+.6g}" if value else "0"


def _notes(differences: Mapping[str, Difference], left_out: list[str], baseline: str) -> list[str]:
    counts = {difference.count for difference in differences.values()}
    notes = []
    if counts == {1}:
        notes.append("One shared seed: there are no intervals, and chance is not told from effect.")
    elif 1 in counts:
        single = [arm for arm, difference in differences.items() if difference.count == 1]
        notes.append(f"One shared seed, so no interval: {', '.join(single)}.")
    if left_out:
        notes.append(f"Left out, as they share no seed with {baseline}: {', '.join(left_out)}.")
    return notes


def _plot(
    rows: Sequence[_Row],
    *,
    name: str,
    title: str,
    subtitle: str,
    tick_text: Callable[[float], str],
    zero: bool,
    notes: tuple[str, ...],
) -> Plot:
    head, top = heading(title, subtitle)
    points = [value for row in rows for value in (row.middle, *row.dots)] + [0.0] * zero
    ends = [value for row in rows for value in (row.low, row.high)]
    low, high = enclosing(points, ends)
    ticks = ticks_of(low, high)
    if low == high:  # all the same: room around it
        low, high = ticks[0], ticks[-1]
    scale = Scale(low=low, high=high, start=MARGIN + 14, end=WIDTH - MARGIN - 14)
    ticks = [tick for tick in ticks if low <= tick <= high]
    bottom = top + ROW * len(rows) + 4
    cut = any(_is_cut(row, scale) for row in rows)
    body = head + vertical_axis_lines(ticks, scale, top, bottom, tick_text)
    if zero:
        x = scale.at(0)
        body += f'<line class="zero" x1="{x:g}" x2="{x:g}" y1="{top:g}" y2="{bottom:g}"/>'
    body += "".join(_drawn(row, top + ROW * place, scale) for place, row in enumerate(rows))
    return Plot(
        name=name,
        title=title,
        description=f"{subtitle} "
        + "; ".join(
            f"{row.label} {row.figures.replace(' *', ', leaves out zero,')}" for row in rows
        )
        + ".",
        notes=(*notes, *(["An arrow head: the interval goes on, see the figures."] if cut else [])),
        height=bottom + 30,
        body=body,
    )


def _drawn(row: _Row, y: float, scale: Scale) -> str:
    room = WIDTH - 2 * MARGIN - text_width(row.figures, SMALL_PX) - 8
    label = fitted(row.label, room)
    line = y + _MEAN
    dots = "".join(
        f'<circle class="seed" cx="{scale.at(dot):g}" cy="{y + _SEEDS:g}" r="2.8"/>'
        for dot in row.dots
        if len(row.dots) > 1
    )
    x = scale.at(row.middle)
    return (
        f'<g class="{row.css}">'
        + text(MARGIN, y + _NAME, label, px=TEXT_PX)
        + text(WIDTH - MARGIN, y + _NAME, row.figures, css="quiet", anchor="end", px=SMALL_PX)
        + _whisker(row, line, scale)
        + f'<circle class="middle" cx="{x:g}" cy="{line:g}" r="5"/>{dots}</g>'
    )


def _is_cut(row: _Row, scale: Scale) -> bool:
    return math.isfinite(row.low) and (row.low < scale.low or row.high > scale.high)


def _whisker(row: _Row, y: float, scale: Scale) -> str:
    """Return the line of an interval, an arrow head where it leaves the drawing; "" for none."""
    if not (math.isfinite(row.low) and math.isfinite(row.high)):
        return ""
    x0, x1 = scale.at(max(row.low, scale.low)), scale.at(min(row.high, scale.high))
    ends = ""
    for x, is_cut, way in ((x0, row.low < scale.low, -1), (x1, row.high > scale.high, 1)):
        if is_cut:
            ends += (
                f'<polygon class="arrow" points="{x + 8 * way:g},{y:g} {x:g},{y - 5:g} '
                f'{x:g},{y + 5:g}"/>'
            )
        else:
            ends += f'<line class="whisker" x1="{x:g}" x2="{x:g}" y1="{y - 5:g}" y2="{y + 5:g}"/>'
    return f'<line class="whisker" x1="{x0:g}" x2="{x1:g}" y1="{y:g}" y2="{y:g}"/>{ends}'
