"""Accuracy against seconds: a numbered dot an arm, the numbers explained under it.

The seconds are those of a run by itself where all arms have them (`seconds_alone`), else those that
runs spent, which flatter whoever came late.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
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
    text,
    text_width,
    ticks_of,
    vertical_axis_lines,
)
from gendataagent.experiments.tables import measure_of, values_by_arm

LEFT, AREA, KEY_LINE = 52, 250.0, 20.0
_RINGS, _ANGLES = (12, 24, 36, 48, 62, 78), 12


ALONE, SPENT = "seconds_alone", "seconds"
_NOTES = {
    ALONE: "Seconds are those of a run by itself, one thread: medians of what a step, an image and "
    "a caption took in these runs, times their numbers. Measuring accuracy is left out.",
    SPENT: "Seconds are those a run spent itself on a machine that may have run others beside it; "
    "images, captions or a warm-up that another run had made already cost it nothing.",
}


def cost_plot(rows: Sequence[Mapping[str, Any]], key: str) -> Plot | None:
    """Return the mean of a measure against mean seconds; None with fewer than two arms of both."""
    measure, values = measure_of(key), values_by_arm(rows, key)
    seconds_key = ALONE if values.keys() <= values_by_arm(rows, ALONE).keys() else SPENT
    seconds = values_by_arm(rows, seconds_key)
    arms = [
        (arm, fmean(seconds[arm].values()), fmean(own.values()), len(own))
        for arm, own in values.items()
        if arm in seconds
    ]
    if len(arms) < 2:
        return None
    arms.sort(key=lambda arm: arm[1])
    title = f"{measure.name} against time"
    unit = " in per cent" if measure.percent else ""
    subtitle = f"Means over seeds{unit}; higher and further left is better. Across: seconds a run."
    head, top = heading(title, subtitle)
    top += 8
    bottom, right = top + AREA, WIDTH - MARGIN
    y_ticks = ticks_of(*enclosing([mean for _, _, mean, _ in arms]))
    x_ticks = ticks_of(0, max(spent for _, spent, _, _ in arms))
    across = Scale(low=0, high=x_ticks[-1], start=LEFT, end=right - 12)
    up = Scale(low=y_ticks[0], high=y_ticks[-1], start=bottom, end=top)
    body = (
        head
        + horizontal_axis_lines(
            y_ticks, up, LEFT, right, lambda v: f"{100 * v if measure.percent else v:g}"
        )
        + vertical_axis_lines(x_ticks, across, top, bottom, lambda v: f"{v:,.6g}")
        + "".join(_numbered([(across.at(spent), up.at(mean)) for _, spent, mean, _ in arms]))
    )
    said = [
        f"{measure.text(mean)}{measure.unit} in {spent:,.0f} s (n {count})"
        for _, spent, mean, count in arms
    ]
    return Plot(
        name=f"cost-{key.replace('_', '-')}",
        title=title,
        description=f"{subtitle} "
        + "; ".join(f"{arm} {words}" for (arm, *_), words in zip(arms, said, strict=True))
        + ".",
        notes=(_NOTES[seconds_key],),
        height=bottom + 36 + KEY_LINE * len(arms) + 4,
        body=body + _key([arm for arm, *_ in arms], said, bottom + 36),
    )


def _numbered(places: Sequence[tuple[float, float]]) -> Iterator[str]:
    """Yield the dots, then their numbers, each beside its dot where no dot or number is yet."""
    taken = list(places)
    for x, y in places:
        yield f'<g class="mean"><circle class="point" cx="{x:g}" cy="{y:g}" r="4.5"/></g>'
    for number, (x, y) in enumerate(places, start=1):
        spots = list(_around(x, y))
        spot = next((s for s in spots if all(_apart(s, other) for other in taken)), spots[0])
        taken.append(spot)
        if math.dist(spot, (x, y)) > _RINGS[0] + 1:
            yield (
                f'<line class="leader" x1="{x:g}" y1="{y:g}" x2="{spot[0]:g}" y2="{spot[1]:g}"/>'
            )
        yield text(spot[0], spot[1] + 4, str(number), anchor="middle", px=SMALL_PX)


def _around(x: float, y: float) -> Iterator[tuple[float, float]]:
    """Yield places for the middle of a number, the nearest first, beginning above the dot."""
    for ring in _RINGS:
        for step in range(_ANGLES):
            angle = 2 * math.pi * step / _ANGLES
            yield round(x + ring * math.sin(angle), 1), round(y - ring * math.cos(angle), 1)


def _apart(spot: tuple[float, float], other: tuple[float, float]) -> bool:
    return abs(spot[0] - other[0]) > 15 or abs(spot[1] - other[1]) > 10


def _key(arms: Sequence[str], said: Sequence[str], y: float) -> str:
    parts = []
    for number, (arm, words) in enumerate(zip(arms, said, strict=True), start=1):
        line = y + KEY_LINE * (number - 0.4)
        room = WIDTH - 2 * MARGIN - 26 - text_width(words, SMALL_PX) - 8
        parts.append(
            text(MARGIN + 16, line, str(number), anchor="end", px=SMALL_PX)
            + text(MARGIN + 24, line, fitted(arm, room), px=TEXT_PX)
            + text(WIDTH - MARGIN, line, words, css="quiet", anchor="end", px=SMALL_PX)
        )
    return "".join(parts)
