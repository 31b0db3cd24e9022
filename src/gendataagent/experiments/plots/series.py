"""Arms that are one strategy at several values, read from their names; where one catches up."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from gendataagent.experiments.statistics import paired_difference
from gendataagent.experiments.tables import (
    difference_text,
    measure_of,
    seeds_by_arm,
    values_by_arm,
)

_NAME = re.compile(r"(?P<series>.*[^\s-])[\s-]+(?P<times>x?)(?P<value>\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One arm of a series: its place on the axis, and seed -> measured value."""

    arm: str
    at: float
    values: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Mean over its seeds."""
        return fmean(self.values.values())

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean (Student's t); infinite for one seed."""
        around = paired_difference(self.values, dict.fromkeys(self.values, 0.0))
        return around.low, around.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One strategy at two or more values, in ascending order.

    Args:
        by_images: the axis is the number of generated images, else the value in the arms' names.
    """

    name: str
    points: tuple[Point, ...]
    by_images: bool


def series_groups(rows: Sequence[Mapping[str, Any]], key: str) -> list[tuple[Series, ...]]:
    """Return the series among the arms, those with the same axis together.

    Arms called NAME-xVALUE ("real-fake-x0.5") are placed at their mean number of generated images,
    arms called NAME-VALUE ("strength-0.50") at the value; the latter share an axis if their values
    are the same. A name with a single value is no series.
    """
    values = values_by_arm(rows, key)
    images = {arm: fmean(own.values()) for arm, own in values_by_arm(rows, "generated").items()}
    found: dict[tuple[str, bool], list[Point]] = {}
    for arm in seeds_by_arm(rows):
        match = _NAME.fullmatch(arm)
        if match is None or arm not in values:
            continue
        at = images.get(arm, 0.0) if match["times"] else float(match["value"])
        if match["times"] and at <= 0:
            continue  # no place on a logarithmic axis
        found.setdefault((match["series"], bool(match["times"])), []).append(
            Point(arm=arm, at=at, values=values[arm])
        )
    groups: dict[object, list[Series]] = {}
    for (name, by_images), points in found.items():
        points.sort(key=lambda point: point.at)
        axis = tuple(point.at for point in points)
        if len(set(axis)) > 1:
            series = Series(name=name, points=tuple(points), by_images=by_images)
            groups.setdefault("images" if by_images else axis, []).append(series)
    return [tuple(group) for group in groups.values()]


def catching_up(series: Sequence[Series], key: str) -> Iterator[str]:
    """Yield for each pair of series by images where one reaches the best mean of the other."""
    for own in series:
        for other in series:
            if own is not other and own.by_images and other.by_images:
                yield _reaching(own, other, key)


def images_to_reach(points: Sequence[Point], goal: float) -> float | None:
    """Return where the means first reach a goal, interpolated linearly over log images.

    None where they do not; the first point where that is enough already.
    """
    before: Point | None = None
    for point in points:
        if point.mean >= goal:
            if before is None:
                return point.at
            share = (goal - before.mean) / (point.mean - before.mean)
            return math.exp(math.log(before.at) + share * math.log(point.at / before.at))
        before = point
    return None


def _reaching(own: Series, other: Series, key: str) -> str:
    measure = measure_of(key)
    best = max(other.points, key=lambda point: point.mean)
    goal = (
        f"the best mean of {other.name} ({measure.text(best.mean)}{measure.unit} at "
        f"{best.at:,.0f} images, n {len(best.values)})"
    )
    reached = images_to_reach(own.points, best.mean)
    if reached is None:
        top = max(own.points, key=lambda point: point.mean)
        return (
            f"{own.name} does not reach {goal} with up to {own.points[-1].at:,.0f} images; its "
            f"best mean is {measure.text(top.mean)}{measure.unit} at {top.at:,.0f} "
            f"(n {len(top.values)})."
        )
    met = next(point for point in own.points if point.mean >= best.mean)
    where = (
        f"with {reached:,.0f}, the fewest measured,"
        if met is own.points[0]
        else f"at about {reached:,.0f} images,"
    )
    ahead = f"{own.name} reaches {goal} {where} {reached / best.at:.0%} as many"
    if not met.values.keys() & best.values.keys():
        return f"{ahead}; they share no seed, so this has no interval."
    difference = paired_difference(met.values, best.values)
    text = difference_text(measure, difference)
    pairs = "" if difference.count == 1 else f" (n {difference.count})"
    return f"{ahead}; at {met.at:,.0f} images its paired difference to that best is {text}{pairs}."
