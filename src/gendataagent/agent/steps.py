"""How many optimiser steps each epoch takes, known before any image is made.

A run and its baseline take equally many: the baseline trains on fewer images, but for as many steps
(`training.steps_as_with_agent`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from gendataagent.agent.budget import images_of_a_round
from gendataagent.agent.filtering.vog import MIN_SNAPSHOTS
from gendataagent.agent.schedule import Schedule
from gendataagent.config import RunConfig


def without_agent(config: RunConfig) -> RunConfig:
    """Return the settings of the baseline of a run: real images alone, as many steps."""
    training = replace(config.training, real_images=True, steps_as_with_agent=True)
    agent = replace(config.agent, enabled=False, baseline=False)
    return replace(config, agent=agent, training=training)


def rounds_filtered(config: RunConfig) -> tuple[bool, ...]:
    """Return for each round whether the filter is on and has the snapshots it needs."""
    schedule = Schedule.from_config(config)
    ready = [sum(s <= epoch for s in schedule.snapshot_epochs) for epoch in schedule.enter_epochs]
    is_vog, filters = config.filter.by == "vog", config.filter.by != "none"
    return tuple(filters and (not is_vog or n >= MIN_SNAPSHOTS) for n in ready)


def expected_kept(config: RunConfig, images_per_class: Sequence[int]) -> tuple[int, ...]:
    """Return how many synthetic images each round is expected to keep.

    What [adaptive], filter.drop_below and checks of single images drop is not known beforehand.
    """
    filtered = rounds_filtered(config)
    made = images_of_a_round(config, images_per_class) if filtered else 0
    by_share = isinstance(config.filter.drop_below, str) and not config.adaptive.enabled
    drops = config.filter.drop_share if by_share else 0.0
    return tuple(made - (math.floor(drops * made) if act else 0) for act in filtered)


def images_per_epoch(config: RunConfig, images_per_class: Sequence[int]) -> tuple[int, ...]:
    """Return how many real and synthetic images each epoch is expected to train on."""
    real = sum(images_per_class) if config.training.real_images else 0
    if config.training.sibling_replacement:
        return (real,) * config.training.epochs
    kept = expected_kept(config, images_per_class)
    return tuple(real + synthetic for synthetic in _synthetic_per_epoch(config, kept))


def planned_steps(config: RunConfig, images_per_class: Sequence[int]) -> tuple[int, ...]:
    """Return the optimiser steps of each epoch.

    Args:
        images_per_class: of the real training set.
    """
    training = config.training
    if training.steps_per_epoch:
        return (training.steps_per_epoch,) * training.epochs
    if training.steps_as_with_agent:
        config = replace(config, agent=replace(config.agent, enabled=True))
    images = images_per_epoch(config, images_per_class)
    return tuple(batches(count, training.batch_size) for count in images)


def batches(images: int, batch_size: int) -> int:
    """Return the batches of one pass: a last single image joins the batch before."""
    count, rest = divmod(images, batch_size)
    return count + (1 if rest > 1 or (rest and not count) else 0)


def _synthetic_per_epoch(config: RunConfig, kept: Sequence[int]) -> Iterator[int]:
    """Yield how many synthetic images each epoch trains on."""
    schedule = Schedule.from_config(config)
    for epoch in range(config.training.epochs):
        active = schedule.rounds_until(epoch)
        if config.agent.pool == "replace":
            active = active[-1:]
        yield sum(kept[number] for number in active)
