"""Ranges and ticks of axes."""

from __future__ import annotations

import math
from collections.abc import Iterable


def ticks_around(low: float, high: float) -> list[float]:
    """Return round values that enclose [low, high], two or more."""
    from matplotlib.ticker import MaxNLocator

    if low == high:
        low, high = low - (abs(low) / 10 or 1), high + (abs(high) / 10 or 1)
    ticks = MaxNLocator(nbins=6, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [round(float(tick), 10) for tick in ticks]


def enclosing(
    points: Iterable[float],
    ends: Iterable[float],
    *,
    limits: tuple[float, float] = (-math.inf, math.inf),
) -> tuple[float, float]:
    """Return the range of all points and, up to 1.5 times their span, of the ends of intervals.

    The interval of two seeds can be a hundred times wider than the values measured; a range that
    holds it would press everything else into one dot.

    Args:
        points, ends: values that are not finite are left out.
        limits: least and largest value possible.
    """
    shown = [value for value in points if math.isfinite(value)]
    finite = [value for value in ends if math.isfinite(value)]
    low, high = min(shown), max(shown)
    room = 1.5 * (high - low)
    low, high = max(min([low, *finite]), low - room), min(max([high, *finite]), high + room)
    return max(low, limits[0]), min(high, limits[1])
