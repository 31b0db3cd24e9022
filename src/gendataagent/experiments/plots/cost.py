"""Accuracy against seconds: a numbered dot per arm, the numbers explained below."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from gendataagent.experiments.plots.figure import INNER, MARGIN, SMALL_PX, TEXT_PX, Plot, fitted
from gendataagent.experiments.plots.figure import plot as _plot
from gendataagent.experiments.plots.ranges import ticks_around
from gendataagent.experiments.tables import measure_of, values_by_arm

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEFT, HEIGHT, LINE = 58, 250, 20  # px
NOTES = {
    "seconds_alone": "Seconds of a run on its own, one thread: median time of a step, an image and "
    "a caption over these runs, times their numbers. Evaluation is left out.",
    "seconds": "Wall-clock seconds of each run, possibly with others running beside it. Images, "
    "captions and warm-up training taken from another run cost nothing.",
}


def cost_plot(rows: Sequence[Mapping[str, Any]], key: str) -> Plot | None:
    """Return the mean of a measure against mean seconds; None with fewer than two arms of both.

    `seconds_alone` is used where all arms have it, else `seconds`.
    """
    measure, values = measure_of(key), values_by_arm(rows, key)
    alone = values_by_arm(rows, "seconds_alone")
    seconds_key = "seconds_alone" if values.keys() <= alone.keys() else "seconds"
    seconds = values_by_arm(rows, seconds_key)
    arms = sorted(
        (arm for arm in values if arm in seconds), key=lambda a: fmean(seconds[a].values())
    )
    if len(arms) < 2:
        return None
    xs = [fmean(seconds[arm].values()) for arm in arms]
    means = [fmean(values[arm].values()) for arm in arms]
    ys = [measure.scale * mean for mean in means]
    texts = [f"{measure.text(mean)}{measure.unit} in {x:,.0f} s (n {len(values[arm])})"
             for arm, x, mean in zip(arms, xs, means, strict=True)]  # fmt: skip

    def draw(axes: Axes, colours: dict[str, str]) -> None:
        x_ticks, y_ticks = ticks_around(0, max(xs)), ticks_around(min(ys), max(ys))
        axes.set_xticks(x_ticks, [f"{tick:,g}" for tick in x_ticks])
        axes.set_yticks(y_ticks, [f"{tick:g}" for tick in y_ticks])
        axes.set_xlim(0, x_ticks[-1] * 1.03)
        axes.set_ylim(y_ticks[0], y_ticks[-1])
        axes.grid()
        axes.set_xlabel("seconds per run")
        axes.set_ylabel(measure.title)
        axes.plot(xs, ys, "o", ms=9, mew=1, c=colours["agent"], mec=colours["card"], clip_on=False,
                  gid="mean")  # fmt: skip
        dots = [tuple(axes.transData.transform(place)) for place in zip(xs, ys, strict=True)]
        placed = zip(xs, ys, dots, _spots(dots), strict=True)
        for number, (x, y, dot, spot) in enumerate(placed, start=1):
            leader = {"arrowstyle": "-", "color": colours["quiet"], "shrinkA": 5}
            axes.annotate(str(number), (x, y), spot, textcoords="figure pixels", ha="center",
                          va="center", c=colours["ink"], gid="number",
                          arrowprops=leader if math.dist(dot, spot) > 14 else None)  # fmt: skip
        for number, (arm, text) in enumerate(zip(arms, texts, strict=True), start=1):
            name, y = fitted(arm, INNER - 30 - 7 * len(text)), -(46 + LINE * number) / HEIGHT
            for right, words, ha, tone in ((18, f"{number}", "right", "ink"),
                                           (26, name, "left", "ink"),
                                           (INNER, text, "right", "quiet")):  # fmt: skip
                axes.text((right + MARGIN - LEFT) / (INNER + MARGIN - LEFT), y, words, ha=ha,
                          size=TEXT_PX if words is name else SMALL_PX, c=colours[tone],
                          transform=axes.transAxes)  # fmt: skip

    spoken = "; ".join(f"{arm} {text}" for arm, text in zip(arms, texts, strict=True))
    return _plot(
        draw, name=f"cost-{key.replace('_', '-')}", title=f"{measure.name} against time",
        subtitle="Means over seeds; higher and further left is better.", figures=f"{spoken}.",
        height=HEIGHT, left=LEFT, above=8, below=64 + LINE * len(arms), notes=(NOTES[seconds_key],),
    )  # fmt: skip


def _spots(dots: Sequence[tuple[float, ...]]) -> Iterator[tuple[float, float]]:
    """Yield a place for the number of each dot, the nearest with no dot or number on it."""
    taken = list(dots)
    for x, y in dots:
        ring = [
            (radius, turn * math.pi / 6) for radius in (13, 24, 36, 48, 62) for turn in range(12)
        ]
        spots = [
            (x + radius * math.sin(angle), y + radius * math.cos(angle)) for radius, angle in ring
        ]
        spot = next((s for s in spots if all(abs(s[0] - t[0]) > 15 or abs(s[1] - t[1]) > 11
                                             for t in taken)), spots[0])  # fmt: skip
        taken.append(spot)
        yield spot
