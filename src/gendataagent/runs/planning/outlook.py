"""What can be said of a run before anything is spent, and whether the baseline guards it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gendataagent.agent.steps import planned_steps, without_agent
from gendataagent.config import AUTO, RunConfig
from gendataagent.generation.known_classes import known_classes
from gendataagent.runs.planning.counts import RealImageCounts
from gendataagent.runs.verdict import ENOUGH_STEPS, FEW_STEPS, GUARDED_FROM, enough_epochs

FEW_TEST_IMAGES = 100
UNEVEN = 5  # ours: times as many images in the largest class as in the smallest


@dataclass(frozen=True, slots=True)
class Outlook:
    """A run beforehand.

    Args:
        config: its settings with agent.guard decided.
        sentences: for the user.
    """

    config: RunConfig
    sentences: tuple[str, ...]


def outlook(config: RunConfig, real: RealImageCounts, generator: str | None) -> Outlook:
    """Return what is known of a run from its settings and the number of its images.

    Args:
        generator: the name of its generator, not auto; None = it makes no images.
    """
    known = known_classes(generator, real.class_names) if generator else None
    sentences = [known.warning] if known and known.unknown else []
    if config.agent.guard == AUTO:
        harm = known is not None and bool(known.unknown)
        guard, reason = _decide_guard(config, real, harm=harm)
        config = replace(config, agent=replace(config.agent, guard=guard))
        sentences += [reason] if reason else []
        if guard:
            sentences.append(_guard_cost(config, real))
    return Outlook(config, (*sentences, *_size_warnings(config, real)))


def _decide_guard(config: RunConfig, real: RealImageCounts, *, harm: bool) -> tuple[bool, str]:
    if not (config.agent.enabled and config.training.real_images):
        return False, ""
    if not real.validation:
        lacks = "agent.guard would protect against that, but there are no validation images."
        return False, lacks if harm else ""
    if harm:
        return True, "agent.guard is on, because the generator cannot draw some of the classes."
    if real.validation < GUARDED_FROM:
        return False, ""
    return True, f"agent.guard is on, because {real.validation:,} validation images can carry it."


def _guard_cost(config: RunConfig, real: RealImageCounts) -> str:
    steps = sum(planned_steps(without_agent(config), real.train_per_class))
    return (
        f"It first trains the same classifier on the real images alone ({steps:,} optimiser steps, "
        "in RUN/baseline) and keeps the better of the two on validation; --set agent.guard=false "
        "goes without."
    )


def _size_warnings(config: RunConfig, real: RealImageCounts) -> Iterator[str]:
    steps = sum(planned_steps(config, real.train_per_class))
    if steps < FEW_STEPS:
        training = config.training
        smaller = max(2, training.batch_size * steps // ENOUGH_STEPS)
        yield (
            f"Only {steps} optimiser steps ({training.epochs} epochs, {real.train:,} training "
            f"images, batches of {training.batch_size}): too few to train a classifier or to see "
            f"a difference. Try --epochs {enough_epochs(training.epochs, steps)}, or "
            f"--set training.batch_size={smaller}."
        )
    if _crowds_out_photographs(config):
        yield (
            f"training.steps_per_epoch = {config.training.steps_per_epoch} fixes the number of "
            "steps, so synthetic images take the place of real ones, which harmed a pretrained "
            "classifier (docs/evidence.md). Set it to 0, or training.synthetic_share=0.25."
        )
    sizes = [size for size in real.train_per_class if size]
    if config.training.class_balance == "none" and sizes and max(sizes) >= UNEVEN * min(sizes):
        yield (
            f"Classes are uneven: {min(sizes):,} to {max(sizes):,} training images. "
            "--set training.class_balance=weights (or sampling) counts them equally."
        )
    if 0 < real.test < FEW_TEST_IMAGES:
        yield f"Only {real.test} test images: each is {100 / real.test:.1f} points of accuracy."


def _crowds_out_photographs(config: RunConfig) -> bool:
    """Return whether a pretrained classifier sees its real images less often with the agent."""
    training, classifier = config.training, config.classifier
    pretrained = classifier.pretrained and classifier.model not in (AUTO, "tiny-resnet")
    adds = training.real_images and not (training.synthetic_share or training.sibling_replacement)
    return config.agent.enabled and pretrained and adds and training.steps_per_epoch > 0
