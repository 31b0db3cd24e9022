"""Equal budgets: the count before a run is what the run makes, and arms meet a budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendataagent.agent.budget import generated_images, match_budget
from gendataagent.agent.schedule import Schedule
from gendataagent.agent.selection import SelectionContext, select
from gendataagent.config import RunConfig
from gendataagent.config.strategies import STRATEGIES, apply
from gendataagent.core.errors import ConfigError
from gendataagent.generation.stages import plan

FIFTY_EACH = [50] * 10
WITH_AGENT = [
    name for name in STRATEGIES if name not in ("only-real", "randaugment", "cutmix", "mixup")
]


def base(**sections: Any) -> RunConfig:
    return RunConfig.from_dict({"training": {"epochs": 20}, "agent": {"rounds": 2}, **sections})


def made_by_selecting_and_planning(config: RunConfig, images_per_class: list[int]) -> int:
    """Return how many candidates the run's own functions come to."""
    labels = np.repeat(np.arange(len(images_per_class)), images_per_class)
    random = np.random.default_rng(0)
    context = SelectionContext(
        source_ids=tuple(map(str, range(len(labels)))),
        labels_N=labels,
        probabilities_NC=random.dirichlet(np.ones(len(images_per_class)), len(labels)),
        seed=0,
    )
    return sum(
        len(
            list(
                plan(
                    select(context, config.selection),
                    round_number=number,
                    rewrites=config.prompting.rewrites,
                    class_names=[str(i) for i in range(len(images_per_class))],
                    settings=config.generation,
                    run_seed=0,
                )
            )
        )
        for number in range(len(Schedule.from_config(config).round_epochs))
    )


@given(
    st.lists(st.integers(1, 30), min_size=2, max_size=5),
    st.floats(0.01, 1.0),
    st.booleans(),
    st.sampled_from(["size", "validation-error", "training-error"]),
    st.floats(0.0, 0.9),
    st.integers(1, 3),
)
def test_the_count_is_what_the_run_s_own_functions_make(
    images_per_class: list[int], share: float, per_class: bool, by: str, skip: float, rewrites: int
) -> None:
    config = base(
        selection={"share": share, "per_class": per_class, "budget_by": by, "skip_hardest": skip},
        prompting={"rewrites": rewrites},
    )
    made = made_by_selecting_and_planning(config, images_per_class)
    assert generated_images(config, images_per_class) == made


def test_without_the_agent_nothing_is_made() -> None:
    config = base(agent={"enabled": False})
    assert generated_images(config, FIFTY_EACH) == 0
    matched = match_budget(config, FIFTY_EACH, 1000)
    assert (matched.config, matched.generated, matched.difference) == (config, 0, 0)


@pytest.mark.parametrize("generated", [250, 500, 1000, 2000, 5000])
@pytest.mark.parametrize("name", WITH_AGENT)
def test_every_arm_meets_the_budgets_of_the_curve(name: str, generated: int) -> None:
    matched = match_budget(apply(base(), name), FIFTY_EACH, generated)
    # Taken per class, 125 a round are 12 or 13 of each of ten classes; all else comes out even.
    four = ("gendataagent-guided", "gendataagent-unguided", "deliberate-practice")
    uneven = {(name, 500): 20 for name in four} | {(name, 250): 10 for name in four}
    uneven |= {("gendataagent-plus", 250): 10, ("tada", 250): 10, ("tada", 500): 10}
    assert abs(matched.difference) == uneven.get((name, generated), 0)
    made = generated + matched.difference
    assert matched.generated == generated_images(matched.config, FIFTY_EACH) == made
    assert made_by_selecting_and_planning(matched.config, FIFTY_EACH) == made
    assert matched.config.agent == apply(base(), name).agent


def test_a_budget_already_met_changes_nothing() -> None:
    config = apply(base(), "gendataagent")
    assert match_budget(config, FIFTY_EACH, 1000).config == config


def test_what_cannot_be_met_says_by_how_much_not() -> None:
    matched = match_budget(apply(base(), "real-fake"), FIFTY_EACH, 1100)
    assert (matched.generated, matched.difference) == (1000, -100)
    assert matched.config.selection.share == 1.0


def test_the_share_moves_only_a_little() -> None:
    for generated in range(200, 3000, 37):
        matched = match_budget(apply(base(), "gendataagent"), FIFTY_EACH, generated)
        assert 0.14 <= matched.config.selection.share <= 0.284
        assert abs(matched.difference) <= 8


def test_a_budget_below_every_real_image_takes_some_of_them_once() -> None:
    matched = match_budget(apply(base(), "real-fake"), FIFTY_EACH, 125)
    assert matched.difference == 0
    assert matched.config.prompting.rewrites == 1


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="budget of 1 generated images is less than one in each"):
        match_budget(apply(base(), "gendataagent"), FIFTY_EACH, 1)
