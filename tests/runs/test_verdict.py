"""The verdict on a run: what it says, why, and what to try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gendataagent.core.records import Evaluation, GuardRecord, RoundRecord
from gendataagent.generation.known_classes import known_classes
from gendataagent.runs.results import RunResult
from gendataagent.runs.verdict import judge


def evaluation(split: str, right: Sequence[bool]) -> Evaluation:
    top1 = sum(right) / len(right)
    return Evaluation(
        split=split, images=len(right), top1=top1, per_class={"a": top1}, worst_class="a",
        worst_class_accuracy=top1, worst_case_disparity=1.0, loss=1.0, ece=0.0, confusion=((1,),),
    )  # fmt: skip


def finished(
    right: Sequence[bool], *, agent: bool = True, baseline: RunResult | None = None
) -> RunResult:
    made = RoundRecord(round=0, epoch=2, selected=10, made=40, kept=30)
    return RunResult(
        path=Path("runs/001"),
        agent=agent,
        evaluations={"test": evaluation("test", right), "validation": evaluation("v", right[:40])},
        right={str(number): it for number, it in enumerate(right)},
        optimizer_steps=500,
        epochs=20,
        rounds=(made,) if agent else (),
        seconds={},
        baseline=baseline,
    )


def pair(only_agent: int, only_baseline: int, *, same: int = 180) -> RunResult:
    one = [True] * only_agent + [False] * only_baseline + [True] * same
    other = [False] * only_agent + [True] * only_baseline + [True] * same
    return finished(one, baseline=finished(other, agent=False))


def test_no_difference_beyond_chance() -> None:
    verdict = judge(pair(12, 8))
    assert verdict.outcome == "none"
    assert verdict.finding == (
        "No difference beyond chance: +2.0 points of top-1 on 200 test images (96.0% with the "
        "agent, 94.0% without; 12 correct only with it, 8 only without; p = 0.5, 95 % interval "
        "-2.6 to +6.5)."
    )
    assert verdict.reasons == (
        "on 200 test images, 20 of which only one of the two classifies correctly, a difference is "
        "beyond chance from 10 images on (5.0 points)",
    )
    assert verdict.advice[0].startswith("more test images, several seeds")
    assert "Why it may be so: on 200" in verdict.sentence
    assert "\n" not in verdict.sentence


@pytest.mark.parametrize(
    ("only_agent", "only_baseline", "outcome", "begins"),
    [
        (16, 4, "better", "Better with the agent, beyond chance: +6.0 points"),
        (4, 16, "worse", "Worse with the agent, beyond chance: -6.0 points"),
        (6, 0, "better", "Better with the agent"),
        (5, 0, "none", "No difference beyond chance: +2.7 points"),
        (0, 0, "none", "No difference beyond chance: +0.0 points"),
    ],
)
def test_what_is_beyond_chance(
    only_agent: int, only_baseline: int, outcome: str, begins: str
) -> None:
    verdict = judge(pair(only_agent, only_baseline))
    assert verdict.outcome == outcome
    assert verdict.finding.startswith(begins)
    assert bool(verdict.reasons) is (outcome == "none")
    assert any("agent.guard=true" in each for each in verdict.advice) is (outcome == "worse")


def test_too_few_disagreements_are_said() -> None:
    (reason,) = judge(pair(2, 1, same=28)).reasons
    assert reason == (
        "the two classifiers disagree on 3 of 31 test images, too few to tell them apart"
    )


def test_few_steps_unknown_classes_and_no_kept_images_are_reasons() -> None:
    run = pair(2, 1, same=28)
    known = known_classes("tiny-sd", ["cat", *(f"fruit {letter}" for letter in "abc")])
    (made,) = run.rounds
    nothing_kept = (replace(made, kept=0),)
    verdict = judge(replace(run, optimizer_steps=12, rounds=nothing_kept, known=known))
    assert verdict.reasons[:3] == (
        "tiny-sd can draw 1 of the 4 classes",
        "no synthetic image was kept",
        "12 optimiser steps hardly train a classifier",
    )
    assert "--generator stable-diffusion-v1-5/" in verdict.advice[0]
    assert "--epochs 500" in verdict.advice[1]


def test_a_kept_baseline_is_said_with_its_validation_images() -> None:
    run = pair(2, 1, same=28)
    guard = GuardRecord(chosen="baseline", agent_top1=0.4, agent_loss=2.0, baseline_top1=0.5,
                        baseline_loss=1.0)  # fmt: skip
    verdict = judge(replace(run, guard=guard))
    assert verdict.outcome == "baseline"
    assert verdict.finding.startswith("The agent did not help on 31 validation images. The guard")
    assert "31 validation images decide little" in verdict.reasons


def test_without_a_baseline_there_is_a_way_to_get_one() -> None:
    verdict = judge(replace(pair(2, 1), baseline=None))
    assert verdict.sentence == (
        "None, because there is no baseline to compare with. Next: gendataagent run --resume "
        "runs/001 --baseline trains one."
    )


def test_real_images_alone_are_compared_with_nothing() -> None:
    assert judge(finished([True, False], agent=False)).finding.endswith(
        "on the real images alone: nothing to compare."
    )


def test_other_test_images_give_no_verdict() -> None:
    verdict = judge(replace(pair(2, 1), baseline=pair(2, 1, same=5).baseline))
    assert verdict.outcome == "open"
    assert "test_predictions.jsonl" in verdict.finding
