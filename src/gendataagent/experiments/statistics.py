"""Means, standard deviations and paired differences with 95 % intervals (Student's t)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

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
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def summarise(values: Sequence[float]) -> Summary:
    """Return mean and standard deviation; raise `ValueError` for no values."""
    if not values:
        raise ValueError("there are no values to summarise")
    deviation = stdev(values) if len(values) > 1 else math.nan
    return Summary(mean=fmean(values), deviation=deviation, count=len(values))


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference:
    """Return values minus baseline over the seeds both have.

    Args:
        values, baseline: seed -> value.

    Raises:
        ValueError: they share no seed.
    """
    from scipy.stats import t

    seeds = sorted(values.keys() & baseline.keys())
    summary = summarise([values[seed] - baseline[seed] for seed in seeds])
    half = math.inf
    if summary.count > 1:
        quantile = float(t.ppf((1 + CONFIDENCE) / 2, summary.count - 1))
        half = quantile * summary.deviation / math.sqrt(summary.count)
    return Difference(
        mean=summary.mean, low=summary.mean - half, high=summary.mean + half, count=summary.count
    )
