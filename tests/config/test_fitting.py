"""Rounds of a preset in fewer epochs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendataagent.agent.schedule import Schedule
from gendataagent.config import RunConfig
from gendataagent.config.fitting import with_fitting_rounds
from gendataagent.config.presets import preset_settings


def of(epochs: int, **agent: Any) -> dict[str, Any]:
    return {"agent": agent, "training": {"epochs": epochs}}


@pytest.mark.parametrize(
    ("tree", "before", "expected"),
    [
        (of(200), 200, (20, -1)),  # nothing to do
        (of(5), 200, (5, -1)),
        (of(1), 200, (1, -1)),
        (of(3, rounds=2, first_round_epoch=4), 20, (2, 0)),
        (of(10, rounds=4, rounds_within=0.5, first_round_epoch=0), 24, (4, 0)),
        (of(6, rounds=4, rounds_within=0.5, first_round_epoch=0), 24, (3, 0)),
        (of(3, rounds=4, overlap=True), 24, (2, -1)),
    ],
)
def test_as_many_rounds_as_fit(
    tree: dict[str, Any], before: int, expected: tuple[int, int]
) -> None:
    result, said = with_fitting_rounds(tree, before)
    config = RunConfig.from_dict(result)
    assert (config.agent.rounds, config.agent.first_round_epoch) == expected
    assert len(Schedule.from_config(config).round_epochs) == expected[0]
    assert bool(said) == (result["agent"] != tree["agent"])
    if said and expected[0] != tree["agent"].get("rounds", 20):
        assert said.startswith(f"agent.rounds is {expected[0]} instead of ")


@given(
    epochs=st.integers(1, 300), rounds=st.integers(1, 30), first=st.integers(-1, 40),
    within=st.floats(0.01, 1), overlap=st.booleans(), before=st.integers(1, 300),
)  # fmt: skip
def test_what_fits_is_accepted(
    epochs: int, rounds: int, first: int, within: float, overlap: bool, before: int
) -> None:
    tree = of(epochs, rounds=rounds, first_round_epoch=first, rounds_within=within, overlap=overlap)
    result, _ = with_fitting_rounds(tree, before)
    agent = result["agent"]
    room = int(within * epochs + 1e-9) - overlap
    if room >= 1:
        assert 1 <= agent["rounds"] <= rounds
        assert agent["rounds"] + max(0, agent["first_round_epoch"]) <= room


@pytest.mark.parametrize(
    "tree",
    [
        {"agent": 3, "training": {"epochs": 5}}, {"training": {"epochs": "many"}},
        of(5, rounds="x"), of(5, rounds_within="half"), of(-1), {"training": 7, "agent": {}},
    ],
)  # fmt: skip
def test_wrong_values_are_left_for_the_check_of_all_settings(tree: dict[str, Any]) -> None:
    result, said = with_fitting_rounds(tree, 200)
    assert said == ""
    assert {**result, "agent": result["agent"] or tree.get("agent")} == {
        **tree, "agent": tree.get("agent")
    }  # fmt: skip


def test_the_demo_fits_few_epochs() -> None:
    tree = preset_settings("demo")
    before = tree["training"]["epochs"]
    tree["training"]["epochs"] = 3
    RunConfig.from_dict(with_fitting_rounds(tree, before)[0])
