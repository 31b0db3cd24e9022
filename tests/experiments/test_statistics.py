"""Means and intervals against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from gendataagent.experiments.statistics import paired_difference, summarise


@pytest.mark.parametrize(
    ("degrees", "quantile"),  # two-sided 95 %, any printed table of Student's t
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (29, 2.045), (120, 1.980)],
)
def test_intervals_use_the_quantiles_of_printed_tables(degrees: int, quantile: float) -> None:
    values = {seed: float(seed % 2) for seed in range(degrees + 1)}
    difference = paired_difference(values, dict.fromkeys(values, 0.0))
    error = summarise(list(values.values())).deviation / math.sqrt(degrees + 1)
    assert (difference.high - difference.mean) / error == pytest.approx(quantile, abs=6e-4)


def test_mean_and_deviation_by_hand() -> None:
    summary = summarise([1.0, 2.0, 4.0])
    assert summary.mean == pytest.approx(7 / 3)
    assert summary.deviation == pytest.approx(math.sqrt(7 / 3))
    assert summary.count == 3


def test_one_value_has_no_deviation_and_none_is_an_error() -> None:
    assert math.isnan(summarise([3.0]).deviation)
    with pytest.raises(ValueError, match="no values"):
        summarise([])


def test_differences_are_paired_by_seed() -> None:
    difference = paired_difference({0: 5.0, 1: 7.0, 2: 9.0, 9: 99.0}, {2: 7.0, 0: 4.0, 1: 4.0})
    assert (difference.mean, difference.count) == (2.0, 3)  # of 1, 3, 2
    half = 4.3027 * 1 / math.sqrt(3)
    assert (difference.low, difference.high) == pytest.approx((2 - half, 2 + half), abs=1e-3)
    assert not difference.excludes_zero


def test_a_constant_difference_excludes_zero() -> None:
    difference = paired_difference({0: 2.0, 1: 3.0}, {0: 1.0, 1: 2.0})
    assert difference.excludes_zero
    reverse = paired_difference({0: 1.0, 1: 2.0}, {0: 2.0, 1: 3.0})
    assert reverse.excludes_zero


def test_one_pair_has_an_infinite_interval_and_no_pair_is_an_error() -> None:
    difference = paired_difference({0: 2.0}, {0: 1.0})
    assert (difference.low, difference.high) == (-math.inf, math.inf)
    assert not difference.excludes_zero
    with pytest.raises(ValueError, match="no values"):
        paired_difference({0: 1.0}, {1: 1.0})
