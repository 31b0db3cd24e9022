"""How much work a run does: counted from the settings and the number of images, without a model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gendataagent.agent.adaptive import max_probes, widest_selection
from gendataagent.agent.budget import generated_images, images_of_a_round
from gendataagent.agent.feedback.search import MAX_PROBES, TARGET_IMAGES
from gendataagent.agent.schedule import Schedule
from gendataagent.agent.selection import count_selected
from gendataagent.agent.steps import (
    batches,
    expected_kept,
    images_per_epoch,
    planned_steps,
    rounds_filtered,
    without_agent,
)
from gendataagent.config import AUTO, DataConfig, RunConfig
from gendataagent.core.errors import ConfigError
from gendataagent.core.steps import executed_steps
from gendataagent.data.duplicates.likeness import Likeness
from gendataagent.data.formats.hub import HUB_PREFIX
from gendataagent.data.groups import group_images
from gendataagent.data.index import SPLITS, TEST, TRAIN, VALIDATION, Item
from gendataagent.data.indexing import index_data
from gendataagent.data.labels import name_notes
from gendataagent.data.official import ARCHIVES, PAPER
from gendataagent.data.splits import check_classes, draw_missing_splits, draw_train_subset
from gendataagent.data.synthetic_marks import held_out_notes
from gendataagent.generation.feedback import OFF, RANDOM


@dataclass(frozen=True, slots=True, kw_only=True)
class RealImageCounts:
    """How many real images there are.

    Args:
        train_per_class: after validation and test were drawn where the data has none.
        source: where the numbers come from, for the reader.
        class_names: in label order; () = not known.
        notes: what the data was read as, sentences for the user.
    """

    train_per_class: tuple[int, ...]
    validation: int
    test: int
    source: str
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def train(self) -> int:
        """All training images."""
        return sum(self.train_per_class)


def count_real(config: RunConfig, *, images: int | None = None) -> RealImageCounts:
    """Return the real images of a run: `images`, else listed, else those of the paper's Table 5.

    Images are not decoded: unreadable ones, and copies that stay together when a split is drawn,
    may change a count by a few.

    Args:
        images: number of training images to assume.

    Raises:
        ConfigError: the number of images is not known.
        DataError: the data cannot be listed, or a run would refuse its classes.
    """
    data = config.data
    if images is not None:
        items = _evenly({TRAIN: images}, classes=max(2, min(100, images // 20)))
        return _after_drawing(items, data, config.seed, f"{images:,} assumed (--images)")
    if data.path.startswith(HUB_PREFIX):
        raise ConfigError(
            f"the number of images of {data.path} is not known: a plan does not use the network; "
            "give the number of training images with --images N"
        )
    if data.path:
        return count_listed(config)
    if data.layout not in PAPER:
        raise ConfigError(
            "data.path is empty, so the number of images is not known; give a folder with --data "
            "DIR, or the number of training images with --images N"
        )
    paper = PAPER[data.layout]
    items = _evenly({TRAIN: paper.train, TEST: paper.test}, classes=paper.classes)
    source = f"Table 5 of the paper ({paper.title}), classes of equal size assumed"
    return _after_drawing(items, data, config.seed, source)


def count_listed(config: RunConfig) -> RealImageCounts:
    """Return the real images at `data.path`, listed but not decoded; a hub data set is downloaded.

    Raises:
        DataError: the data cannot be listed, or a run would refuse its classes.
    """
    data = config.data
    index = index_data(data)
    items = list(index.items)
    undecoded = {item.id: item.id.encode() for item in items}
    groups, group_notes = group_images(items, undecoded, Likeness(), index, data)
    drawn, split_notes = draw_missing_splits(
        items, groups, data, seed=config.seed, synthetic=index.synthetic
    )
    names, class_notes = check_classes(drawn, index.class_names)
    drawn, _ = draw_train_subset(drawn, data.train_per_class, seed=config.seed)
    notes = (*index.notes, *group_notes, *split_notes, *class_notes, *name_notes(names))
    notes += tuple(held_out_notes(drawn, index.synthetic))
    counts = _counts_of(drawn, f"counted in {data.path}, not decoded")
    return replace(counts, class_names=names, notes=notes)


def what_data_is_needed(layout: str) -> str:
    """Return the images that --data has to name for a layout, to end a sentence with."""
    if layout not in ARCHIVES:
        return "a folder with one folder of images per class"
    archive = ARCHIVES[layout]
    return f"{archive.counts.title}. {archive.unpack}"


def _evenly(counts: dict[str, int], *, classes: int) -> list[Item]:
    return [
        Item(row, f"{split}/{row}", f"{row % classes:03d}", split)
        for split, count in counts.items()
        for row in range(count)
    ]


def _after_drawing(
    items: Sequence[Item], data: DataConfig, seed: int, source: str
) -> RealImageCounts:
    """Draw the missing splits and the subset as a run does, but without decoding."""
    drawn, _ = draw_missing_splits(items, range(len(items)), data, seed=seed)
    drawn, _ = draw_train_subset(drawn, data.train_per_class, seed=seed)
    return _counts_of(drawn, source)


def _counts_of(drawn: Sequence[Item], source: str) -> RealImageCounts:
    sizes = {split: Counter(i.class_name for i in drawn if i.split == split) for split in SPLITS}
    return RealImageCounts(
        train_per_class=tuple(sizes[TRAIN][name] for name in sorted(sizes[TRAIN])),
        validation=sizes[VALIDATION].total(),
        test=sizes[TEST].total(),
        source=source,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The work of a run. Of the filter only what it drops at most is known beforehand.

    Args:
        filtered_rounds: rounds in which the filter has the snapshots it needs.
        kept_per_round: in the last round.
        vog_passes: input gradients, one for each pair of image and snapshot.
        captions_least, captions_most: without adaptation an image is captioned when it is first
            selected, and which are selected is not known.
        drawn_for_adaptation: images generated from text, as samples and to measure the distance.
        feedback_rounds: rounds whose images the classifier steers.
        feedback_images: images generated beside those of the rounds, to find the scale of feedback
            and to compare, at most.
        feedback_steps: denoising steps of single images with a gradient of the classifier, at most.
        probe_steps: optimiser steps of copies, to try options of [adaptive], at most.
        training_images, scored_images: passes of an image through the classifier, with and without
            gradients; those of probe_steps included.
        baseline: whether the same training is done without the agent too; included in the above.
    """

    rounds: int
    selected_per_round: int
    images_per_round: int
    images: int
    steps_per_image: int
    filtered_rounds: int
    kept_per_round: int
    vog_passes: int
    captions_least: int
    captions_most: int
    rewrites: int
    adaptation_steps: int
    adaptation_images: int
    drawn_for_adaptation: int
    feedback_rounds: int
    feedback_images: int
    feedback_steps: int
    optimizer_steps: int
    probe_steps: int
    training_images: int
    scored_images: int
    baseline: bool


def count_work(config: RunConfig, real: RealImageCounts) -> Counts:
    """Return the work of a run of these settings on these images."""
    schedule = Schedule.from_config(config)
    rounds = len(schedule.round_epochs)
    made = images_of_a_round(config, real.train_per_class) if rounds else 0
    selected = min(
        made,
        count_selected(real.train_per_class, widest_selection(config.selection, config.adaptive)),
    )
    ready = [sum(s <= epoch for s in schedule.snapshot_epochs) for epoch in schedule.enter_epochs]
    is_vog, acts = config.filter.by == "vog", rounds_filtered(config)
    kept = expected_kept(config, real.train_per_class)
    steps, passes = _training(config, real.train_per_class)
    adapted = config.adaptation.enabled and config.agent.enabled
    adaptation = _count_adaptation(config, real) if adapted else _Adaptation()
    with_baseline = config.agent.enabled and config.agent.trains_baseline
    if with_baseline:
        alone = _training(without_agent(config), real.train_per_class)
        steps, passes = steps + alone[0], passes + alone[1]
    guided = _count_feedback(config, schedule, made)
    probes = rounds * max_probes(config.adaptive) if config.adaptive.enabled else 0
    probes *= config.adaptive.probes
    probe_steps = probes * config.adaptive.probe_steps
    return Counts(
        rounds=rounds,
        selected_per_round=selected,
        images_per_round=made,
        images=generated_images(config, real.train_per_class) if rounds else 0,
        steps_per_image=_steps_per_image(config),
        filtered_rounds=sum(acts),
        kept_per_round=kept[-1] if kept else 0,
        vog_passes=sum(n * made for n, act in zip(ready, acts, strict=True) if act and is_vog),
        captions_least=real.train if adapted else selected,
        captions_most=real.train if adapted else min(real.train, rounds * selected),
        rewrites=rounds * made,
        adaptation_steps=adaptation.steps,
        adaptation_images=adaptation.images,
        drawn_for_adaptation=adaptation.drawn,
        feedback_rounds=guided.rounds,
        feedback_images=guided.rounds * guided.probes * guided.scales,
        feedback_steps=guided.gradients,
        optimizer_steps=steps,
        probe_steps=probe_steps,
        training_images=passes + probe_steps * config.training.batch_size,
        scored_images=rounds * real.train
        + probes * real.validation
        + _scored_for_feedback(config, guided, real)
        + (2 if with_baseline else 1) * _evaluated_images(config, real),
        baseline=with_baseline,
    )


@dataclass(frozen=True, slots=True)
class _Feedback:
    """What the feedback of a run makes at most.

    Args:
        rounds: rounds with feedback.
        probes: images of a round that are made without feedback and at each scale.
        scales: scales tried in a round; the images of one of them are those of the round.
        gradients: steps of single images that take a gradient.
    """

    rounds: int = 0
    probes: int = 0
    scales: int = 0
    gradients: int = 0


def _count_feedback(config: RunConfig, schedule: Schedule, made: int) -> _Feedback:
    settings = config.generation
    first = settings.feedback_first_round
    # a round before any training never has feedback
    rounds = sum(epoch > 0 for epoch in schedule.round_epochs[first:])
    if settings.feedback == OFF or not rounds or not made:
        return _Feedback()
    probes = min(settings.feedback_images, made)
    scales = MAX_PROBES if settings.feedback_scale == AUTO else 1
    steered = rounds * (made + probes * (scales - 1))
    gradients = 0 if settings.feedback == RANDOM else steered * _steered_steps(config)
    return _Feedback(rounds, probes, scales, gradients)


def _steered_steps(config: RunConfig) -> int:
    """Return how many of an image's executed steps are within `generation.feedback_steps`."""
    steps, (first, last) = _steps_per_image(config), config.generation.feedback_steps
    return sum(first <= step / steps < last for step in range(steps))


def _scored_for_feedback(config: RunConfig, guided: _Feedback, real: RealImageCounts) -> int:
    """Return the passes that measure probes, their sources and the target, each in two views."""
    is_auto = config.generation.feedback_scale == AUTO
    target = min(TARGET_IMAGES, real.validation) if is_auto else 0
    return 2 * guided.rounds * (guided.probes * (2 + guided.scales) + target)


def _steps_per_image(config: RunConfig) -> int:
    """Return the executed denoising steps of an image; the mean where strengths differ."""
    strengths = config.generation.drawn_strengths
    if config.adaptive.enabled and config.adaptive.strengths:
        strengths = config.adaptive.strengths
    steps = [executed_steps(config.generation.steps, s) for s in strengths]
    return math.ceil(sum(steps) / len(steps))


def _training(config: RunConfig, train_per_class: Sequence[int]) -> tuple[int, int]:
    """Return (optimiser steps, images trained on) of all epochs, as `Trainer` batches."""
    settings = config.training
    steps = planned_steps(config, train_per_class)
    if settings.steps_per_epoch:
        return sum(steps), sum(steps) * settings.batch_size
    own = images_per_epoch(config, train_per_class)
    passes = (
        images
        if batches(images, settings.batch_size) == taken
        else taken * min(settings.batch_size, images)
        for images, taken in zip(own, steps, strict=True)
    )
    return sum(steps), sum(passes)


def _evaluated_images(config: RunConfig, real: RealImageCounts) -> int:
    """Return the images evaluated during one training, the final evaluation included."""
    settings = config.training
    often = math.ceil(settings.epochs / settings.evaluate_every_epochs)
    return (often + 1) * (real.train + real.validation) + real.test


@dataclass(frozen=True, slots=True, kw_only=True)
class _Adaptation:
    """The work of an adaptation.

    Args:
        images: read in all steps.
        drawn: generated to measure the distance, before and after, and as samples.
    """

    steps: int = 0
    images: int = 0
    drawn: int = 0


def _count_adaptation(config: RunConfig, real: RealImageCounts) -> _Adaptation:
    settings, samples = config.adaptation, 8
    trainings = real.train_per_class if settings.per_class else (real.train,)
    epochs = settings.epochs
    steps = sum(max(1, batches(images, settings.batch_size)) for images in trainings) * epochs
    read = real.train * epochs
    if not settings.trains_lora:
        steps = len(real.train_per_class) * settings.token_steps
        read = steps * settings.batch_size
        epochs = math.ceil(steps / max(1, math.ceil(real.train / settings.batch_size)))
    drawn = 2 * min(settings.measure_images, real.train)
    if settings.sample_every_epochs:
        sheets = 1 + math.ceil(epochs / settings.sample_every_epochs)
        drawn += samples * sheets * len(trainings)
    return _Adaptation(steps=steps, images=read, drawn=drawn)
