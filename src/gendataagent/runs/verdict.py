"""The verdict on a finished run in one line: did the agent help, why it may be so, what to try."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from gendataagent.core.records import GuardRecord
from gendataagent.generation.diffusion.mirrors import STABLE_DIFFUSION_15
from gendataagent.runs.paired import PairedTest, compare_right
from gendataagent.runs.results import RunResult

# Ours: fewer steps hardly train any classifier, a few hundred fine-tune one.
FEW_STEPS = 100
ENOUGH_STEPS = 300
# Ours: with fewer, one image is more than a point of validation accuracy.
GUARDED_FROM = 100
MANY_TEST_IMAGES = 2000  # ours: from here on, more images narrow the interval by less than seeds do
BETTER, WORSE, NO_DIFFERENCE, KEPT_BASELINE, OPEN = "better", "worse", "none", "baseline", "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict on a run.

    Args:
        outcome: better, worse, none (no difference beyond chance), baseline (the guard kept the
            baseline's classifier) or open (nothing to compare with).
        finding: a sentence with the difference and whether it is beyond chance.
        reasons, advice: why it may be so and what to try next, in words that end no sentence.
    """

    outcome: str
    finding: str
    reasons: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """All of it in one line."""
        why = f" Why it may be so: {'; '.join(self.reasons)}." if self.reasons else ""
        then = f" Next: {'; '.join(self.advice)}." if self.advice else ""
        return f"{self.finding}{why}{then}"


def judge(run: RunResult) -> Verdict:
    """Return the verdict on a finished run, from it and its baseline."""
    baseline = run.baseline
    if not run.agent:
        return Verdict(outcome=OPEN, finding=_alone(run))
    if baseline is None:
        resume = f"gendataagent run --resume {run.path} --baseline trains one"
        finding = "None, because there is no baseline to compare with."
        return Verdict(outcome=OPEN, finding=finding, advice=(resume,))
    if run.guard is not None and run.guard.chosen == "baseline":
        return Verdict(
            outcome=KEPT_BASELINE,
            finding=_kept_baseline(run, run.guard),
            reasons=tuple(_reasons(run, None)),
            advice=tuple(_advice(run, None)),
        )
    test = compare_right(run.right, baseline.right)
    if test is None:
        finding = (
            "None, because which test images each classifier gets right is not recorded for the "
            "same images in the run and its baseline (test_predictions.jsonl)."
        )
        return Verdict(outcome=OPEN, finding=finding)
    return Verdict(
        outcome=NO_DIFFERENCE if not test.beyond_chance else BETTER if test.difference > 0
        else WORSE,
        finding=_difference(test, run, baseline),
        reasons=tuple(_reasons(run, test)),
        advice=tuple(_advice(run, test)),
    )  # fmt: skip


def enough_epochs(epochs: int, steps: int) -> int:
    """Return the epochs that give `ENOUGH_STEPS` where `epochs` give `steps`."""
    return math.ceil(epochs * ENOUGH_STEPS / max(steps, 1))


def _alone(run: RunResult) -> str:
    test = run.evaluations["test"]
    return (
        f"{test.top1:.1%} on {test.images:,} test images, trained on the real images alone: "
        "nothing to compare."
    )


def _kept_baseline(run: RunResult, guard: GuardRecord) -> str:
    images = run.evaluations["validation"].images
    return f"The agent did not help on {images:,} validation images. {guard.sentence}"


def _difference(test: PairedTest, run: RunResult, baseline: RunResult) -> str:
    if not test.beyond_chance:
        start = "No difference beyond chance"
    else:
        start = f"{'Better' if test.difference > 0 else 'Worse'} with the agent, beyond chance"
    return (
        f"{start}: {100 * test.difference:+.1f} points of top-1 on {test.images:,} test images "
        f"({run.evaluations['test'].top1:.1%} with the agent, "
        f"{baseline.evaluations['test'].top1:.1%} without; {test.only_first:,} correct only with "
        f"it, {test.only_second:,} only without; p = {test.p_value:.2g}, 95 % interval "
        f"{100 * test.low:+.1f} to {100 * test.high:+.1f})."
    )


def _reasons(run: RunResult, test: PairedTest | None) -> Iterator[str]:
    """Yield why a run may be no better than its baseline; nothing where it is."""
    if test is not None and test.beyond_chance and test.difference > 0:
        return
    if run.known is not None and run.known.unknown:
        drawn, of = len(run.known.word_of), len(run.known.word_of) + len(run.known.unknown)
        yield f"{run.known.generator} can draw {drawn} of the {of} classes"
    if not run.images_kept:
        yield "no synthetic image was kept"
    if run.optimizer_steps < FEW_STEPS:
        yield f"{run.optimizer_steps} optimiser steps hardly train a classifier"
    if test is not None and not test.beyond_chance:
        yield _too_few_images(test)
    validation = run.evaluations.get("validation")
    if test is None and validation is not None and validation.images < GUARDED_FROM:
        yield f"{validation.images} validation images decide little"


def _too_few_images(test: PairedTest) -> str:
    least = test.least_beyond_chance
    if least is None:
        return (
            f"the two classifiers disagree on {test.disagreements} of {test.images:,} test images, "
            "too few to tell them apart"
        )
    return (
        f"on {test.images:,} test images, {test.disagreements:,} of which only one of the two "
        f"classifies correctly, a difference is beyond chance from {least} images on "
        f"({100 * least / test.images:.1f} points)"
    )


def _advice(run: RunResult, test: PairedTest | None) -> Iterator[str]:
    if run.known is not None and run.known.unknown:
        yield (
            f"a generator that knows these classes, on a GPU (--generator {STABLE_DIFFUSION_15}), "
            "or no synthetic images (--set agent.enabled=false)"
        )
    if run.optimizer_steps < FEW_STEPS:
        yield f"longer training (--epochs {enough_epochs(run.epochs, run.optimizer_steps)})"
    if test is not None and test.beyond_chance:
        yield "other seeds (--seed 1, --seed 2) and gendataagent compare: this is a single run"
    elif test is not None:
        more = "more test images, " if test.images < MANY_TEST_IMAGES else ""
        yield f"{more}several seeds (--seed 1, --seed 2) and gendataagent compare"
    if test is not None and test.beyond_chance and test.difference < 0 and run.guard is None:
        yield "--set agent.guard=true, which keeps the better classifier on validation"
    if test is None or not (test.beyond_chance and test.difference > 0):
        yield "another way to train (gendataagent presets lists them)"
