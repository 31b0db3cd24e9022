"""Means and intervals against printed tables and sums by hand."""

from __future__ import annotations

import math

import pytest

from gendataagent.experiments.statistics import paired_difference, summarise, t_quantile


@pytest.mark.parametrize(
    ("degrees", "printed"),  # two-sided 95 %, any printed table of Student's t
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (10, 2.228), (29, 2.045),
     (120, 1.980), (100_000, 1.960)],
)  # fmt: skip
def test_quantiles_are_those_of_the_printed_tables(degrees: int, printed: float) -> None:
    assert t_quantile(degrees) == pytest.approx(printed, abs=6e-4)


def test_another_confidence_gives_another_quantile() -> None:
    assert t_quantile(4, confidence=0.99) == pytest.approx(4.604, abs=6e-4)


def test_no_degrees_of_freedom_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        t_quantile(0)


def test_mean_and_deviation_by_hand() -> None:
    summary = summarise([1.0, 2.0, 4.0])
    assert summary.mean == pytest.approx(7 / 3)
    assert summary.deviation == pytest.approx(math.sqrt(7 / 3))
    assert summary.count == 3


def test_one_value_has_no_deviation_and_none_is_an_error() -> None:
    assert math.isnan(summarise([3.0]).deviation)
    with pytest.raises(ValueError, match="no values"):
        summarise([])


def test_differences_are_taken_seed_by_seed() -> None:
    difference = paired_difference({0: 5.0, 1: 7.0, 2: 9.0, 9: 99.0}, {2: 7.0, 0: 4.0, 1: 4.0})
    assert (difference.mean, difference.count) == (2.0, 3)  # of 1, 3, 2
    half = 4.3027 * 1 / math.sqrt(3)
    assert (difference.low, difference.high) == pytest.approx((2 - half, 2 + half), abs=1e-3)
    assert not difference.is_above_zero
    assert not difference.is_below_zero


def test_a_difference_that_is_always_the_same_is_above_zero() -> None:
    difference = paired_difference({0: 2.0, 1: 3.0}, {0: 1.0, 1: 2.0})
    assert difference.is_above_zero
    reverse = paired_difference({0: 1.0, 1: 2.0}, {0: 2.0, 1: 3.0})
    assert reverse.is_below_zero


def test_one_pair_says_nothing_and_no_pair_is_an_error() -> None:
    difference = paired_difference({0: 2.0}, {0: 1.0})
    assert (difference.low, difference.high) == (-math.inf, math.inf)
    assert not difference.is_above_zero
    with pytest.raises(ValueError, match="no values"):
        paired_difference({0: 1.0}, {1: 1.0})
