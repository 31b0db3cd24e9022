"""The paired test on the same images, and its interval."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendataagent.runs.paired import PairedTest, compare_right


def two(only_first: int, only_second: int, both: int = 50, neither: int = 20) -> PairedTest:
    """Return the comparison of two classifiers that disagree on so many images."""
    rights = (
        [(True, False)] * only_first + [(False, True)] * only_second
        + [(True, True)] * both + [(False, False)] * neither
    )  # fmt: skip
    first = {str(number): right for number, (right, _) in enumerate(rights)}
    second = {str(number): right for number, (_, right) in reversed([*enumerate(rights)])}
    found = compare_right(first, second)
    assert found is not None
    return found


@given(st.integers(0, 20), st.integers(0, 20))
def test_the_p_value_is_that_of_a_fair_coin_in_both_directions(one: int, other: int) -> None:
    n, most = one + other, max(one, other)
    tail = sum(math.comb(n, k) for k in range(most, n + 1)) / 2**n
    found = two(one, other)
    assert found.p_value == pytest.approx(min(1.0, 2 * tail))
    assert found.difference == (one - other) / (n + 70)
    assert found.low <= found.difference <= found.high


def test_known_by_hand() -> None:
    assert two(0, 0).p_value == 1
    assert two(5, 0).p_value == 2 / 32  # five images can never show a difference
    assert two(6, 0).p_value == 2 / 64
    assert not two(5, 0).beyond_chance
    assert two(6, 0).beyond_chance
    # Bonett and Price by hand: 8 and 3 of 100; (9 - 4) / 102 +- z sqrt((13 - 25 / 102) / 102^2)
    found = two(8, 3, both=60, neither=29)
    half = 1.959964 * math.sqrt((13 - 25 / 102) / 102**2)
    assert (found.low, found.high) == pytest.approx((5 / 102 - half, 5 / 102 + half))


def test_swapped_the_signs_change() -> None:
    one, other = two(12, 3), two(3, 12)
    assert one.difference == -other.difference
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.p_value == other.p_value


@pytest.mark.parametrize(("disagreements", "least"), [(0, None), (5, None), (6, 6), (20, 10)])
def test_the_least_difference_that_could_show(disagreements: int, least: int | None) -> None:
    assert two(disagreements, 0).least_beyond_chance == least
    if least is not None:
        more = (disagreements + least) // 2
        assert two(more, disagreements - more).beyond_chance
        assert not two(more - 1, disagreements - more + 1).beyond_chance


def test_other_images_are_not_compared() -> None:
    assert compare_right({"a": True}, {"b": True}) is None
    assert compare_right({"a": True}, {"a": True, "b": True}) is None
    assert compare_right({}, {}) is None
