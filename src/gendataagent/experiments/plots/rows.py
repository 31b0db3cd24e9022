"""Plots with a row per arm: paired differences with their intervals, means with their seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gendataagent.experiments.plots.figure import INNER, TEXT_PX, Plot, fitted, plot
from gendataagent.experiments.plots.ranges import enclosing, ticks_around
from gendataagent.experiments.statistics import paired_difference, summarise
from gendataagent.experiments.tables import (
    difference_text,
    measure_of,
    seeds_by_arm,
    typographic,
    values_by_arm,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = Sequence[Mapping[str, Any]]
# px: an arm's name and figures; below these its mean and interval; below these its seeds.
ROW, _NAME, _MEAN, _SEEDS = 48, 13, 28, 39


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One arm: its mean, interval and seeds as drawn, and the same as text."""

    arm: str
    figures: str
    mean: float
    seeds: tuple[float, ...]
    low: float = math.nan
    high: float = math.nan
    tone: str = "agent"


def difference_plot(rows: Rows, key: str, baseline: str) -> Plot | None:
    """Return each arm's paired difference to a baseline; None if no arm shares a seed with it.

    A single shared seed is drawn without an interval; arms without one are named in a note.
    """
    measure, values = measure_of(key), values_by_arm(rows, key)
    base = values.get(baseline, {})
    others = [arm for arm in seeds_by_arm(rows) if arm != baseline]
    drawn, single = [], []
    for arm in others:
        own = values.get(arm, {})
        shared = sorted(own.keys() & base.keys())
        if not shared:
            continue
        difference = paired_difference(own, base)
        figures, interval = typographic(difference_text(measure, difference)), {}
        if difference.count == 1:
            single.append(arm)
        else:
            figures += f" (n {difference.count})"
            interval = {"low": measure.scale * difference.low,
                        "high": measure.scale * difference.high}  # fmt: skip
        tone = "kept" if difference.low > 0 else "refused" if difference.high < 0 else "quiet"
        seeds = tuple(measure.scale * (own[seed] - base[seed]) for seed in shared)
        drawn.append(_Row(arm=arm, figures=figures, mean=measure.scale * difference.mean,
                          seeds=seeds, tone=tone, **interval))  # fmt: skip
    if not drawn:
        return None
    notes, one_seed = [], len(single) == len(drawn)
    if one_seed:
        notes.append("One shared seed: no intervals, an effect cannot be told from noise.")
    elif single:
        notes.append(f"One shared seed, so no interval: {', '.join(single)}.")
    left_out = [arm for arm in others if arm not in {row.arm for row in drawn}]
    if left_out:
        notes.append(f"Left out, as they share no seed with {baseline}: {', '.join(left_out)}.")
    return _row_plot(
        drawn,
        name=f"difference-{key.replace('_', '-')}",
        title=f"{measure.name}: each arm minus {baseline}",
        subtitle="The difference of the one shared seed; no interval."
        if one_seed
        else "Mean paired difference with its 95 % interval; small dots: seeds. Filled and "
        "starred: the interval excludes zero.",
        unit=f"difference in {measure.name.lower()}{', points' if measure.percent else ''}",
        zero=True,
        notes=notes,
    )


def means_plot(rows: Rows, key: str) -> Plot | None:
    """Return the mean of each arm with every seed as a dot; None if nothing was measured."""
    measure, drawn = measure_of(key), []
    for arm, values in values_by_arm(rows, key).items():
        summary = summarise(list(values.values()))
        spread = f" ± {measure.text(summary.deviation)}" if summary.count > 1 else ""
        figures = f"{measure.text(summary.mean)}{spread} (n {summary.count})"
        seeds = tuple(measure.scale * values[seed] for seed in sorted(values))
        drawn.append(_Row(arm=arm, figures=figures, mean=measure.scale * summary.mean, seeds=seeds))
    if not drawn:
        return None
    return _row_plot(
        drawn,
        name=f"mean-{key.replace('_', '-')}",
        title=f"{measure.name}: mean of each arm",
        subtitle="One seed per arm: no spread."
        if all(len(row.seeds) == 1 for row in drawn)
        else "Large dot: mean, with its standard deviation in figures. Small dots: seeds. Seeds "
        "are paired between arms, so this spread is not that of the differences.",
        unit=measure.title,
        zero=False,
        notes=[],
    )


def _row_plot(
    rows: Sequence[_Row],
    *,
    name: str,
    title: str,
    subtitle: str,
    unit: str,
    zero: bool,
    notes: list[str],
) -> Plot:
    points = [value for row in rows for value in (row.mean, *row.seeds)] + [0.0] * zero
    low, high = enclosing(points, [end for row in rows for end in (row.low, row.high)])
    ticks = ticks_around(low, high)
    if low == high:
        low, high = ticks[0], ticks[-1]
    if any(row.low < low or row.high > high for row in rows):
        notes.append("An arrow head: the interval continues, see its figures.")
    tops = [ROW * place for place in range(len(rows))]

    def draw(axes: Axes, colours: dict[str, str]) -> None:
        pad = 14 / (INNER - 28) * (high - low)
        axes.set_ylim(ROW * len(rows) + 2, 0)
        axes.set_xticks(ticks, [typographic(f"{t:+g}" if t and zero else f"{t:g}") for t in ticks])
        axes.set_yticks([])
        axes.set_xlim(low - pad, high + pad)
        axes.grid(axis="x")
        axes.set_xlabel(unit)
        if zero:
            below_top = 1 - 2 / (ROW * len(rows) + 2)  # else its end stands above the first text
            axes.axvline(0, 0, below_top, color=colours["ink"], lw=1.5, gid="zero")
        # The ground behind the texts, so that no line runs through them.
        across = axes.get_yaxis_transform()
        axes.barh(tops, 1, 20, align="edge", color=colours["card"], transform=across,
                  zorder=2)  # fmt: skip
        for row, top in zip(rows, tops, strict=True):
            label = fitted(row.arm, INNER - 7 * len(row.figures) - 8)
            axes.text(0, top + _NAME, label, size=TEXT_PX, c=colours["ink"], transform=across)
            axes.text(1, top + _NAME, row.figures, ha="right", transform=across)
        for tone in dict.fromkeys(row.tone for row in rows):
            own = [(row, top + _MEAN) for row, top in zip(rows, tops, strict=True)
                   if row.tone == tone]  # fmt: skip
            face = colours["card" if tone == "quiet" else tone]
            _draw_means(axes, own, (low, high), colours[tone], face)
        seeds = [(seed, top + _SEEDS) for row, top in zip(rows, tops, strict=True)
                 for seed in row.seeds if len(row.seeds) > 1]  # fmt: skip
        if seeds:
            axes.plot(*zip(*seeds, strict=True), "o", color=colours["quiet"], ms=5.5, mew=0,
                      alpha=0.5, zorder=4, gid="seed")  # fmt: skip

    spoken = (f"{row.arm} {row.figures.replace(' *', ', excludes zero,')}" for row in rows)
    return plot(draw, name=name, title=title, subtitle=subtitle, figures="; ".join(spoken) + ".",
                height=ROW * len(rows) + 2, notes=tuple(notes))  # fmt: skip


def _draw_means(
    axes: Axes,
    rows: Sequence[tuple[_Row, float]],
    limits: tuple[float, float],
    colour: str,
    face: str,
) -> None:
    """Draw means and intervals of one colour; an interval outside the limits ends in an arrow."""
    ends: dict[str, list[tuple[float, float]]] = {"|": [], "<": [], ">": []}
    for row, line in rows:
        if math.isfinite(row.low):
            low, high = max(row.low, limits[0]), min(row.high, limits[1])
            axes.hlines(line, low, high, colors=colour, lw=2 + (face == colour), zorder=3,
                        gid="interval")  # fmt: skip
            ends["|" if low == row.low else "<"].append((low, line))
            ends["|" if high == row.high else ">"].append((high, line))
    for marker, places in ends.items():
        if places:
            axes.plot(*zip(*places, strict=True), marker, c=colour, ms=10, mew=2, zorder=3,
                      gid="end" if marker == "|" else "cut")  # fmt: skip
    axes.plot([row.mean for row, _ in rows], [line for _, line in rows], "o", c=colour, mfc=face,
              ms=10, mew=2, zorder=4, gid="mean")  # fmt: skip
