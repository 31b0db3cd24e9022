"""Optimiser steps of each epoch, known beforehand, and the same for a run and its baseline."""

from __future__ import annotations

import pytest

from gendataagent.agent.steps import batches, planned_steps, without_agent
from gendataagent.config import RunConfig

# 100 images; each of two rounds makes 20 * 5 = 100, of which the filter keeps 75 once it is active.
CONFIG = RunConfig.from_dict(
    {
        "training": {"epochs": 10, "batch_size": 10},
        "agent": {"rounds": 2, "first_round_epoch": 2},
        "filter": {"snapshot_at": [0.1, 0.3]},
    }
)
PER_CLASS = (50, 50)


def test_an_epoch_is_one_pass_over_real_images_and_those_that_will_be_kept() -> None:
    assert planned_steps(CONFIG, PER_CLASS) == (10, 10, 20, 20, 20, 20, 18, 18, 18, 18)


def test_the_baseline_takes_as_many() -> None:
    baseline = without_agent(CONFIG)
    assert not baseline.agent.enabled
    assert planned_steps(baseline, PER_CLASS) == planned_steps(CONFIG, PER_CLASS)


def test_a_run_without_the_agent_takes_one_pass() -> None:
    alone = RunConfig.from_dict(
        {"training": {"epochs": 3, "batch_size": 10}, "agent": {"enabled": False}}
    )
    assert planned_steps(alone, PER_CLASS) == (10, 10, 10)


def test_images_in_place_of_real_ones_add_no_steps() -> None:
    siblings = RunConfig.from_dict({"training": {"epochs": 3, "batch_size": 10,
                                                 "sibling_replacement": 0.5},
                                    "agent": {"rounds": 1, "first_round_epoch": 0}})  # fmt: skip
    assert planned_steps(siblings, PER_CLASS) == (10, 10, 10)
    assert planned_steps(without_agent(siblings), PER_CLASS) == (10, 10, 10)


def test_a_fixed_number_stays() -> None:
    fixed = RunConfig.from_dict(
        {"training": {"epochs": 3, "steps_per_epoch": 4}, "agent": {"rounds": 1}}
    )
    assert planned_steps(fixed, PER_CLASS) == (4, 4, 4)


@pytest.mark.parametrize(
    ("images", "size", "count"), [(0, 4, 0), (1, 4, 1), (8, 4, 2), (9, 4, 2), (10, 4, 3)]
)
def test_a_last_single_image_joins_the_batch_before(images: int, size: int, count: int) -> None:
    assert batches(images, size) == count
