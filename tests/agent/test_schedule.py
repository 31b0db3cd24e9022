"""When the agent acts and when checkpoints for VoG are kept."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendataagent.agent.schedule import Schedule, guard_epochs, marked_epochs
from gendataagent.config import RunConfig
from gendataagent.core.errors import ConfigError


def schedule_of(epochs: int, rounds: int, first: int = -1, enabled: bool = True) -> Schedule:
    agent = {"rounds": rounds, "first_round_epoch": first, "enabled": enabled}
    return Schedule.from_config(
        RunConfig.from_dict({"training": {"epochs": epochs}, "agent": agent})
    )


def test_the_papers_20_rounds_of_200_epochs_stand_every_10() -> None:
    assert schedule_of(200, 20, first=0).round_epochs == tuple(range(0, 200, 10))


def test_the_papers_checkpoints_stand_at_10_20_and_30() -> None:
    assert schedule_of(200, 20).snapshot_epochs == (10, 20, 30)


def test_by_default_the_first_round_stands_one_distance_after_the_start() -> None:
    epochs = schedule_of(200, 20).round_epochs
    assert (epochs[0], epochs[-1], len(epochs)) == (9, 190, 20)
    assert {b - a for a, b in pairwise(epochs)} == {9, 10}
    assert schedule_of(40, 3).round_epochs == (10, 20, 30)


@pytest.mark.parametrize(
    ("epochs", "rounds", "first", "round_epochs"),
    [
        (5, 5, -1, (0, 1, 2, 3, 4)),  # as many rounds as epochs
        (1, 1, -1, (0,)),
        (10, 1, -1, (5,)),
        (10, 2, 8, (8, 9)),
        (40, 3, 16, (16, 24, 32)),
    ],
)
def test_rounds_at_the_edges(
    epochs: int, rounds: int, first: int, round_epochs: tuple[int, ...]
) -> None:
    assert schedule_of(epochs, rounds, first).round_epochs == round_epochs


@given(st.data())
def test_every_round_stands_before_an_epoch_of_its_own(data: st.DataObject) -> None:
    epochs = data.draw(st.integers(1, 300))
    first = data.draw(st.integers(-1, epochs - 1))
    rounds = data.draw(st.integers(1, epochs - max(0, first)))
    schedule = schedule_of(epochs, rounds, first)
    assert len(set(schedule.round_epochs)) == rounds
    assert list(schedule.round_epochs) == sorted(schedule.round_epochs)
    assert schedule.round_epochs[-1] < epochs
    latest = [schedule.rounds_until(epoch)[-1] for epoch in schedule.round_epochs]
    assert latest == list(range(rounds))


def test_without_the_agent_nothing_is_scheduled() -> None:
    assert schedule_of(200, 20, enabled=False) == Schedule((), (), ())


def test_rounds_by_epoch() -> None:
    schedule = schedule_of(40, 3)
    assert [schedule.rounds_until(epoch) for epoch in (9, 10, 29, 40)] == [
        [], [0], [0, 1], [0, 1, 2],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("epochs", "marks", "found"),
    [
        (200, (0.05, 0.1, 0.15), [10, 20, 30]),
        (3, (0.05, 0.1, 0.15), [1, 2, 3]),
        (2, (0.05, 0.1, 0.15), [1, 2]),
        (10, (1.0,), [10]),
        (10, (), []),
        (4, (0.25, 0.5), [1, 2]),
    ],
)
def test_marks_are_epochs_from_1_each_its_own(
    epochs: int, marks: tuple[float, ...], found: list[int]
) -> None:
    assert marked_epochs(epochs, marks) == found


@pytest.mark.parametrize(
    ("rounds", "first", "within", "epochs"),
    [(2, 0, 0.5, (0, 6)), (3, 0, 0.25, (0, 2, 4)), (2, 4, 0.5, (4, 8)), (2, -1, 0.5, (4, 8)),
     (1, 0, 0.05, (0,)), (2, 0, 1.0, (0, 12))],
)  # fmt: skip
def test_the_rounds_can_be_over_early(
    rounds: int, first: int, within: float, epochs: tuple[int, ...]
) -> None:
    agent = {"rounds": rounds, "first_round_epoch": first, "rounds_within": within}
    config = RunConfig.from_dict({"training": {"epochs": 24}, "agent": agent})
    assert Schedule.from_config(config).round_epochs == epochs


@pytest.mark.parametrize(("first", "within", "left"), [(0, 0.1, 2), (-1, 0.1, 2), (4, 0.25, 2)])
def test_rounds_that_do_not_fit_within_their_share_are_refused(
    first: int, within: float, left: int
) -> None:
    agent = {"rounds": 3, "first_round_epoch": first, "rounds_within": within}
    with pytest.raises(
        ConfigError, match=rf"agent.rounds \(3\) must be.*first_round_epoch \({left}\)"
    ):
        RunConfig.from_dict({"training": {"epochs": 24}, "agent": agent})


@pytest.mark.parametrize("enabled", [True, False])  # the run, and its baseline
def test_a_guarded_run_and_its_baseline_are_compared_where_spans_between_rounds_end(
    enabled: bool,
) -> None:
    agent = {"rounds": 4, "first_round_epoch": 2, "enabled": enabled}
    tree = {"training": {"epochs": 10}, "agent": {**agent, "guard": True}}
    assert guard_epochs(RunConfig.from_dict(tree)) == (4, 6, 8)
    assert guard_epochs(RunConfig.from_dict({**tree, "agent": agent})) == ()
