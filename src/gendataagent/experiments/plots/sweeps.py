"""Curves: the mean of each series against its value, with the 95 % interval as a band."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from gendataagent.experiments.plots.figure import TEXT_PX, Plot, fitted, plot
from gendataagent.experiments.plots.ranges import enclosing, ticks_around
from gendataagent.experiments.plots.series import Series, catching_up, series_groups
from gendataagent.experiments.tables import measure_of, values_by_arm

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colour, marker and dashes of each series, used again after the last.
STYLES = (("agent", "o", "-"), ("series-1", "s", (0, (7, 4))), ("series-2", "^", (0, (2, 3))),
          ("series-3", "D", (0, (10, 3, 2, 3))), ("series-4", "v", (0, (4, 2))),
          ("real", "P", (0, (12, 4))))  # fmt: skip


def sweep_plots(rows: Sequence[Mapping[str, Any]], key: str, baseline: str) -> list[Plot]:
    """Return a plot for each group of series that share an axis, the baseline as a dotted line."""
    base = list(values_by_arm(rows, key).get(baseline, {}).values())
    plots = []
    for number, group in enumerate(series_groups(rows, key), start=1):
        in_group = any(point.arm == baseline for series in group for point in series.points)
        line = (baseline, fmean(base)) if base and not in_group else None
        plots.append(_sweep_plot(group, key, number, line))
    return plots


def _sweep_plot(
    group: Sequence[Series], key: str, number: int, base: tuple[str, float] | None
) -> Plot:
    """Return one plot; `base` is name and mean of the baseline."""
    measure, by_images = measure_of(key), group[0].by_images
    scale, points = measure.scale, [point for series in group for point in series.points]
    axis = group[0].name if len(group) == 1 else "the value in the arm's name"
    axis = "generated images" if by_images else axis
    seen = [scale * value for point in points for value in point.values.values()]
    ticks = ticks_around(
        *enclosing(
            seen + ([scale * base[1]] if base else []),
            [scale * end for point in points for end in point.interval],
            limits=(0, scale) if measure.percent else (-math.inf, math.inf),
        )
    )

    def draw(axes: Axes, colours: dict[str, str]) -> None:
        axes.set_xscale("log" if by_images else "linear")
        axes.set_ylim(ticks[0], ticks[-1])
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xlabel(fitted(axis, 240) + (" (logarithmic)" if by_images else ""))
        axes.set_ylabel(measure.title)
        axes.grid(axis="y")
        if base:
            axes.axhline(scale * base[1], color=colours["ink"], lw=1.5, ls=(0, (2, 4)),
                         gid="baseline", label=fitted(f"{base[0]}, mean", 280))  # fmt: skip
        for series, (tone, marker, dashes) in zip(group, itertools.cycle(STYLES), strict=False):
            at, colour = [point.at for point in series.points], colours[tone]
            low, high = ([scale * point.interval[side] for point in series.points]
                         for side in (0, 1))  # fmt: skip
            axes.fill_between(at, low, high, where=[math.isfinite(end) for end in low],
                              color=colour, alpha=0.14, lw=0, gid="band")  # fmt: skip
            seeds = [(p.at, scale * value) for p in series.points for value in p.values.values()]
            axes.plot(*zip(*seeds, strict=True), "o", c=colour, ms=5, mew=0, alpha=0.5, gid="seed")
            means = [scale * point.mean for point in series.points]
            axes.plot(at, means, marker=marker, ms=8, ls=dashes, lw=2, c=colour, gid="mean",
                      mec=colours["card"], label=fitted(series.name, 280))  # fmt: skip
        places = sorted({point.at for point in points})
        axes.minorticks_off()
        axes.set_xticks(places, _labels(axes, places, by_images=by_images))
        axes.legend(loc="lower left", bbox_to_anchor=(-0.13, 1.03), fontsize=TEXT_PX,
                    labelcolor=colours["ink"])  # fmt: skip

    return plot(
        draw,
        name=f"sweep-{number}-{key.replace('_', '-')}",
        title=f"{measure.name} by {axis}",
        subtitle="Mean of each arm; band: its 95 % interval; small dots: seeds. Seeds are paired "
        "between arms, so differences are more certain than the bands suggest.",
        figures=" ".join(
            f"{series.name}: "
            + ", ".join(f"{measure.text(point.mean)} at {point.at:,.6g} (n {len(point.values)})"
                        for point in series.points)
            + "." for series in group
        ),
        height=230,
        left=58,
        above=21 * (len(group) + bool(base)) + 10,
        notes=tuple(_notes(group, key, (ticks[0] / scale, ticks[-1] / scale))),
    )  # fmt: skip


def _labels(axes: Axes, places: Sequence[float], *, by_images: bool) -> Iterator[str]:
    """Yield the label of each tick, empty where it would touch the one before."""
    free_from = -math.inf
    for place in places:
        label = f"{place:,.0f}" if by_images else f"{place:g}"
        x, half = axes.transData.transform((place, 0.5))[0], 4 * len(label)
        yield label if x - half > free_from else ""
        free_from = x + half + 4 if x - half > free_from else free_from


def _notes(group: Sequence[Series], key: str, shown: tuple[float, float]) -> Iterator[str]:
    points = [point for series in group for point in series.points]
    ends = [end for point in points for end in point.interval if math.isfinite(end)]
    if any(end < shown[0] or end > shown[1] for end in ends):
        yield "A band that ends at an edge continues beyond it."
    single = [point.arm for point in points if len(point.values) == 1]
    if single:
        every = len(single) == len(points)
        yield "One seed: no bands." if every else f"One seed, no band: {', '.join(single)}."
    reached = list(catching_up(group, key))
    yield from reached
    if reached:
        yield (
            "Numbers of images between measured ones are interpolated linearly over their "
            "logarithm. Which mean is best, and where a line first crosses it, depends partly on "
            "noise; where an interval contains zero, the two are within noise."
        )
