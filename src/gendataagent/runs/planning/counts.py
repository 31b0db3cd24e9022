"""How often a run will do what: from the settings and the number of images, without any model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gendataagent.agent.adaptive import max_probes, widest_selection
from gendataagent.agent.budget import generated_images, images_of_a_round
from gendataagent.agent.filtering.vog import MIN_SNAPSHOTS
from gendataagent.agent.schedule import Schedule
from gendataagent.agent.selection import count_selected
from gendataagent.config import AUTO, DataConfig, RunConfig
from gendataagent.core.errors import ConfigError
from gendataagent.data.index import SPLITS, TEST, TRAIN, VALIDATION, Item
from gendataagent.data.loading import index_data
from gendataagent.data.official import ARCHIVES, FOLDER, PAPER
from gendataagent.data.splits import draw_missing_splits, draw_train_subset

HUB_PREFIX = "hub:"


@dataclass(frozen=True, slots=True, kw_only=True)
class RealImageCounts:
    """How many real images there are.

    Args:
        train_per_class: of each class, after validation and test were drawn where they lack.
        source: where the numbers come from, for the reader.
    """

    train_per_class: tuple[int, ...]
    validation: int
    test: int
    source: str

    @property
    def train(self) -> int:
        """All training images."""
        return sum(self.train_per_class)


def count_real(config: RunConfig, *, images: int | None = None) -> RealImageCounts:
    """Return the real images of a run: listed, not decoded; else those of Table 5; else `images`.

    Images that turn out to be unreadable, and copies that stay together when a split is drawn,
    are not known before decoding and may change a count by a few.

    Args:
        images: number of training images to plan with when there is no data to look at.

    Raises:
        ConfigError: nothing tells how many there are.
        DataError: the data cannot be listed.
    """
    data = config.data
    if images is not None:
        items = _evenly({TRAIN: images}, classes=max(2, min(100, images // 20)))
        return _after_drawing(items, data, config.seed, f"{images:,} assumed (--images)")
    if data.path.startswith(HUB_PREFIX):
        raise ConfigError(
            f"{data.path} would have to be asked for at the hub, which a plan never does; say how "
            "many training images it has with --images N"
        )
    if data.path:
        items = list(index_data(data).items)
        return _after_drawing(items, data, config.seed, f"counted in {data.path}, not decoded")
    if data.layout in (AUTO, FOLDER):
        raise ConfigError(
            "data.path is empty, so nothing tells how many images there are; name them with "
            "--data DIR, or say how many training images to plan with: --images N"
        )
    paper = PAPER[data.layout]
    items = _evenly({TRAIN: paper.train, TEST: paper.test}, classes=paper.classes)
    source = f"Table 5 of the paper ({paper.title}), classes taken as equally large"
    return _after_drawing(items, data, config.seed, source)


def what_data_is_needed(layout: str) -> str:
    """Return what a user has to name with --data for a layout, as half a sentence."""
    if layout in (AUTO, FOLDER):
        return "a folder of images, one folder a class"
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
    """Draw the missing splits and the subset as a run does, by what is known without decoding."""
    digests = {item.id: item.id.encode() for item in items}
    drawn, _ = draw_missing_splits(items, digests, data, seed=seed)
    drawn, _ = draw_train_subset(drawn, data.train_per_class, seed=seed)
    sizes = {split: Counter(i.class_name for i in drawn if i.split == split) for split in SPLITS}
    return RealImageCounts(
        train_per_class=tuple(sizes[TRAIN][name] for name in sorted(sizes[TRAIN])),
        validation=sizes[VALIDATION].total(),
        test=sizes[TEST].total(),
        source=source,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a run does, counted. Of the filter only what it drops at most is known beforehand.

    Args:
        filtered_rounds: rounds at which the filter has what it needs.
        vog_passes: (image, checkpoint) pairs whose input gradient is taken.
        captions_least, captions_most: without adaptation a image is captioned when it is first
            selected, and which are selected is not known.
        drawn_for_adaptation: images drawn from text, to look at and to measure the distance.
        probe_steps: optimiser steps of copies, to try options of [adaptive], at most.
        training_images, scored_images: passes of a image through the classifier, with and without
            gradients; those of probe_steps included.
        baseline: whether the same training is done without the agent first; counted in the above.
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
    optimizer_steps: int
    probe_steps: int
    training_images: int
    scored_images: int
    baseline: bool


def count_work(config: RunConfig, real: RealImageCounts) -> Counts:
    """Return what a run of these settings on these images does."""
    schedule = Schedule.from_config(config)
    rounds = len(schedule.round_epochs)
    made = images_of_a_round(config, real.train_per_class) if rounds else 0
    selected = min(
        made,
        count_selected(real.train_per_class, widest_selection(config.selection, config.adaptive)),
    )
    ready = [_snapshots(config, schedule, epoch) for epoch in schedule.round_epochs]
    is_vog, filters = config.filter.by == "vog", config.filter.by != "none"
    acts = [filters and (not is_vog or n >= MIN_SNAPSHOTS) for n in ready]
    drops = 0.0 if config.adaptive.enabled else config.filter.drop_share  # not known beforehand
    kept = [made - (math.floor(drops * made) if act else 0) for act in acts]
    steps, passes = _training(config, real.train, schedule, kept)
    adapted = config.adaptation.enabled and config.agent.enabled
    measured = 0
    with_baseline = config.agent.enabled and config.agent.trains_baseline
    if with_baseline:
        alone = _training(config, real.train, Schedule((), ()), [])
        steps, passes = steps + alone[0], passes + alone[1]
        measured = _measured(config, real)
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
        adaptation_steps=_adaptation_steps(config, real.train) if adapted else 0,
        adaptation_images=real.train * config.adaptation.epochs if adapted else 0,
        drawn_for_adaptation=_drawn_for_adaptation(config, real.train) if adapted else 0,
        optimizer_steps=steps,
        probe_steps=probe_steps,
        training_images=passes + probe_steps * config.training.batch_size,
        scored_images=(
            rounds * real.train + probes * real.validation + _measured(config, real) + measured
        ),
        baseline=with_baseline,
    )


def _steps_per_image(config: RunConfig) -> int:
    """Return the executed denoising steps of an image; the mean, where strengths are tried."""
    strengths: tuple[float, ...] = (config.generation.strength,)
    if config.adaptive.enabled and config.adaptive.strengths:
        strengths = config.adaptive.strengths
    steps = [math.floor(config.generation.num_inference_steps * s) for s in strengths]
    return math.ceil(sum(steps) / len(steps))


def _snapshots(config: RunConfig, schedule: Schedule, epoch: int) -> int:
    """Return how many checkpoints of the classifier are there for a round at `epoch`."""
    return sum(snapshot <= epoch for snapshot in schedule.snapshot_epochs)


def _training(
    config: RunConfig, real: int, schedule: Schedule, kept: Sequence[int]
) -> tuple[int, int]:
    """Return (optimiser steps, images trained on) of a whole training, as `Trainer` batches."""
    settings = config.training
    steps = passes = 0
    for synthetic in _synthetic_per_epoch(config, schedule, kept):
        count = (real if settings.real_images else 0) + synthetic
        taken = settings.steps_per_epoch
        images = taken * settings.batch_size
        if not taken:
            taken, rest = divmod(count, settings.batch_size)
            taken += 1 if rest > 1 or (rest and not taken) else 0  # a single one joins the others
            images = count
        steps, passes = steps + taken, passes + images
    return steps, passes


def _synthetic_per_epoch(
    config: RunConfig, schedule: Schedule, kept: Sequence[int]
) -> Iterator[int]:
    """Yield how many synthetic images each epoch trains on."""
    for epoch in range(config.training.epochs):
        active = schedule.rounds_until(epoch)
        if config.agent.pool == "replace":
            active = active[-1:]
        yield sum(kept[number] for number in active)


def _measured(config: RunConfig, real: RealImageCounts) -> int:
    """Return the images looked at to measure accuracy, the final measurement included."""
    settings = config.training
    often = settings.epochs // settings.evaluate_every_epochs
    often += 1 if settings.epochs % settings.evaluate_every_epochs else 0
    return (often + 1) * (real.train + real.validation) + real.test


def _adaptation_steps(config: RunConfig, images: int) -> int:
    """Return the optimiser steps of the LoRA: a last single image joins the batch before."""
    size = config.adaptation.batch_size
    batches, rest = divmod(images, size)
    batches += 1 if rest > 1 or (rest and (not batches or size == 1)) else 0
    return max(1, batches) * config.adaptation.epochs


def _drawn_for_adaptation(config: RunConfig, images: int) -> int:
    """Return the images drawn before and after to measure, and on the way to look at."""
    settings, samples = config.adaptation, 8
    drawn = 2 * min(settings.measure_images, images)
    if settings.sample_every_epochs:
        drawn += samples * (1 + math.ceil(settings.epochs / settings.sample_every_epochs))
    return drawn
