"""Means, deviations and paired differences with 95 % intervals (Student's t)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Mean and standard deviation (n - 1) of n values; the deviation is NaN for a single one."""

    mean: float
    deviation: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Mean of paired differences with its interval; infinite for a single pair.

    Args:
        low, high: ends of the 95 % interval of the mean difference.
    """

    mean: float
    low: float
    high: float
    count: int

    @property
    def is_above_zero(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0

    @property
    def is_below_zero(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.high < 0


def summarise(values: Sequence[float]) -> Summary:
    """Return mean and standard deviation; raise `ValueError` for no values."""
    if not values:
        raise ValueError("there are no values to summarise")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Summary(mean=mean, deviation=math.nan, count=1)
    squares = math.fsum((value - mean) ** 2 for value in values)
    return Summary(mean=mean, deviation=math.sqrt(squares / (len(values) - 1)), count=len(values))


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference:
    """Return values minus baseline over the seeds both have.

    Args:
        values, baseline: seed -> value.

    Raises:
        ValueError: they share no seed.
    """
    seeds = sorted(values.keys() & baseline.keys())
    summary = summarise([values[seed] - baseline[seed] for seed in seeds])
    if summary.count == 1:
        return Difference(mean=summary.mean, low=-math.inf, high=math.inf, count=1)
    half = t_quantile(summary.count - 1) * summary.deviation / math.sqrt(summary.count)
    return Difference(
        mean=summary.mean, low=summary.mean - half, high=summary.mean + half, count=summary.count
    )


def t_quantile(degrees: int, confidence: float = CONFIDENCE) -> float:
    """Return t such that Student's t with `degrees` of freedom lies in [-t, t] with `confidence`.

    Found by bisection of the exact distribution, so that no statistics library is needed.
    """
    if degrees < 1:
        raise ValueError(f"degrees of freedom must be at least 1, got {degrees}")
    low, high = 0.0, 1.0
    while _inside(high, degrees) < confidence:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if _inside(middle, degrees) < confidence:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _inside(t: float, degrees: int) -> float:
    """Return P(|T| <= t); the finite sums of Abramowitz and Stegun 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    if degrees % 2 == 0:
        term = total = 1.0
        for k in range(2, degrees - 1, 2):
            term *= (k - 1) / k * cosine**2
            total += term
        return sine * total
    if degrees == 1:
        return 2 * angle / math.pi
    term = total = cosine
    for k in range(3, degrees - 1, 2):
        term *= (k - 1) / k * cosine**2
        total += term
    return 2 / math.pi * (angle + sine * total)
