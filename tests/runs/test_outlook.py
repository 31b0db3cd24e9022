"""What is said of a run before anything is spent, and when the guard is on by itself."""

from __future__ import annotations

from typing import Any

import pytest

from gendataagent.config import RunConfig
from gendataagent.config.settings import merged
from gendataagent.generation.tiny.vocabulary import CLASSES
from gendataagent.runs.planning.counts import RealImageCounts
from gendataagent.runs.planning.outlook import outlook

FRUIT = tuple(f"fruit {letter}" for letter in "abcdefghijklmn")
SD = "stable-diffusion-v1-5/stable-diffusion-v1-5"
ENOUGH: dict[str, Any] = {"training": {"epochs": 60, "batch_size": 20}}


def counted(
    names: tuple[str, ...] = FRUIT, *, each: int = 20, validation: int = 50, test: int = 400
) -> RealImageCounts:
    return RealImageCounts(
        train_per_class=(each,) * len(names), validation=validation, test=test, source="here",
        class_names=names,
    )  # fmt: skip


def settings(**changes: Any) -> RunConfig:
    return RunConfig.from_dict(merged(ENOUGH, changes))


def test_classes_that_the_generator_cannot_draw_are_said_and_guarded() -> None:
    found = outlook(settings(), counted(), "tiny-sd")
    warning, guard, cost = found.sentences
    assert warning.startswith("0 of your 14 classes are among the 10 that tiny-sd can draw (airpl")
    assert "expect harm from its images of the others: fruit a, fruit b" in warning
    assert "and 9 more" in warning
    assert f"--generator {SD}" in warning
    assert guard == "agent.guard is on, because the generator cannot draw some of the classes."
    assert "agent.guard=false goes without" in cost
    assert found.config.agent.guard is True


def test_a_single_known_class_is_one() -> None:
    (first, *_) = outlook(settings(), counted((*FRUIT, "Cats")), "tiny-sd").sentences
    assert first.startswith("1 of your 15 classes is among the 10")


@pytest.mark.parametrize(
    ("names", "validation", "generator", "changes", "guarded"),
    [
        (tuple(CLASSES), 99, "tiny-sd", {}, False),
        (tuple(CLASSES), 100, "tiny-sd", {}, True),
        (FRUIT, 1, "tiny-sd", {}, True),
        (FRUIT, 0, "tiny-sd", {}, False),
        (FRUIT, 99, SD, {}, False),
        (FRUIT, 100, SD, {}, True),
        (FRUIT, 500, None, {"agent": {"enabled": False}}, False),
        (FRUIT, 500, "tiny-sd", {"agent": {"guard": False}}, False),
        (FRUIT, 2, SD, {"agent": {"guard": True}}, True),
        (FRUIT, 500, "tiny-sd", {"agent": {"first_round_epoch": 0, "rounds": 1},
                                 "training": {"real_images": False}}, False),
    ],
)  # fmt: skip
def test_when_the_guard_is_on(
    names: tuple[str, ...],
    validation: int,
    generator: str | None,
    changes: dict[str, Any],
    guarded: bool,
) -> None:
    found = outlook(settings(**changes), counted(names, validation=validation), generator)
    assert found.config.agent.guard is guarded


def test_without_validation_images_the_missing_guard_is_said() -> None:
    found = outlook(settings(), counted(validation=0), "tiny-sd")
    assert "there are no validation images" in found.sentences[1]


def test_a_guard_switched_off_by_hand_stays_off_but_the_warning_is_said() -> None:
    found = outlook(settings(agent={"guard": False}), counted(), "tiny-sd")
    assert len(found.sentences) == 1
    assert "expect harm" in found.sentences[0]


def test_too_few_steps_are_said_with_what_would_be_enough() -> None:
    config = settings(training={"epochs": 6, "batch_size": 128},
                      agent={"enabled": False, "rounds": 3})  # fmt: skip
    (sentence,) = outlook(config, counted(each=15, validation=0), None).sentences
    assert sentence.startswith("Only 12 optimiser steps (6 epochs, 210 training images, batches")
    assert "--epochs 150" in sentence
    assert "training.batch_size=5" in sentence


def test_few_test_images_are_said() -> None:
    (sentence,) = outlook(settings(), counted(tuple(CLASSES), test=31), "tiny-sd").sentences
    assert sentence == "Only 31 test images: each is 3.2 points of accuracy."


def test_uneven_classes_are_said_until_they_are_balanced() -> None:
    real = RealImageCounts(train_per_class=(300, 60, 59), validation=50, test=400, source="here")
    (sentence,) = outlook(settings(), real, None).sentences
    assert sentence.startswith("Classes are uneven: 59 to 300 training images.")
    balanced = settings(training={**ENOUGH["training"], "class_balance": "weights"})
    assert not outlook(balanced, real, None).sentences


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, True),
        ({"training": {"steps_per_epoch": 0}}, False),
        ({"training": {"synthetic_share": 0.25}}, False),
        ({"training": {"sibling_replacement": 0.5}}, False),
        ({"classifier": {"model": "tiny-resnet"}}, False),
        ({"classifier": {"pretrained": False}}, False),
        ({"agent": {"enabled": False}}, False),
    ],
)
def test_fixed_steps_of_a_pretrained_classifier_are_said(
    changes: dict[str, Any], said: bool
) -> None:
    fixed: dict[str, Any] = {
        "classifier": {"model": "microsoft/resnet-18"},
        "training": {"steps_per_epoch": 40},
        "agent": {"guard": False},
    }
    found = outlook(settings(**merged(fixed, changes)), counted(), SD)
    assert any("take the place of real ones" in told for told in found.sentences) == said
