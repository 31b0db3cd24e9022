"""The search for the strength of feedback, on curves whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from gendataagent.agent.feedback.search import (
    MATCHED,
    MAX_PROBES,
    MAX_SCALE,
    NO_GAP,
    SECOND_VIEW,
    STRONGEST,
    TOLERANCE,
    Found,
    Probe,
    find_scale,
)


def search(
    p_at: Callable[[float], float],
    *,
    target: float,
    recognised: Callable[[float], float] = lambda _: 1.0,
    start: float | None = None,
) -> Found:
    return find_scale(
        lambda scale: Probe(scale, p_at(scale), recognised(scale)),
        target=target,
        floor=0.4,
        start=start,
    )


@pytest.mark.parametrize("steepness", [1.0, 4.0, 15.0, 60.0])
@pytest.mark.parametrize("target", [0.2, 0.35, 0.5])
def test_it_ends_near_the_target_or_at_the_strongest(steepness: float, target: float) -> None:
    found = search(lambda s: 0.65 * math.exp(-steepness * s), target=target)
    reached = 0.65 * math.exp(-steepness * found.scale)
    if 0.65 * math.exp(-steepness * MAX_SCALE) > target + TOLERANCE:
        assert (found.scale, found.reason) == (MAX_SCALE, STRONGEST)
    else:
        assert found.reason == MATCHED
        assert reached >= target - TOLERANCE  # never harder than the photographs
        assert reached <= target + 2.5 * TOLERANCE
    assert len(found.probes) <= MAX_PROBES + 1


def test_where_there_is_no_gap_there_is_no_feedback() -> None:
    found = search(lambda s: 0.5 - s, target=0.5)
    assert (found.scale, found.reason, len(found.probes)) == (0.0, NO_GAP, 1)


def test_the_second_view_caps_it() -> None:
    found = search(lambda s: 0.65 - s, target=0.3, recognised=lambda s: 0.9 if s < 0.05 else 0.2)
    assert found.reason == SECOND_VIEW
    assert 0 < found.scale < 0.05


def test_a_second_view_that_is_always_lost_leaves_no_feedback() -> None:
    found = search(lambda s: 0.65 - s, target=0.3, recognised=lambda s: 0.9 if not s else 0.2)
    assert (found.scale, found.reason) == (0.0, SECOND_VIEW)


def test_a_good_start_costs_two_probes() -> None:
    found = search(lambda s: 0.65 - 4 * s, target=0.35, start=0.075)
    assert (found.scale, len(found.probes)) == (0.075, 2)


def test_a_start_that_is_too_weak_is_extrapolated() -> None:
    found = search(lambda s: 0.65 - 4 * s, target=0.31, start=0.06)
    assert [probe.scale for probe in found.probes] == [0.0, 0.06, 0.085]


def test_a_guide_that_does_not_answer_ends_at_the_strongest() -> None:
    found = search(lambda s: 0.5, target=0.3, start=0.02)
    assert (found.scale, found.reason) == (MAX_SCALE, STRONGEST)
    assert [probe.scale for probe in found.probes[1:4]] == [0.02, 0.04, 0.08]
