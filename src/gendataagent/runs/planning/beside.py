"""What agent.overlap can save: images made beside training."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from gendataagent.agent.overlap import what_is_gained
from gendataagent.agent.schedule import Schedule
from gendataagent.config import RunConfig
from gendataagent.generation.executors.choosing import RAY
from gendataagent.runs.planning.costs import StageCost
from gendataagent.runs.planning.facts import Device


def saved_seconds(config: RunConfig, stages: Sequence[StageCost]) -> float | None:
    """Return how much shorter a run can become at most; None where a stage is not known.

    Images are made from the epoch at which the first round begins to that at which the last images
    are used; training in that time, or the making of the images, is what is saved.
    """
    seconds = {stage.name: stage.seconds for stage in stages}
    making, training = seconds.get("render"), seconds.get("train")
    if making is None or training is None:
        return None
    schedule = Schedule.from_config(config)
    span = schedule.enter_epochs[-1] - schedule.round_epochs[0]
    return min(making, training * span / config.training.epochs)


def overlap_notes(
    config: RunConfig, stages: Sequence[StageCost], device: Device, devices: int
) -> Iterator[str]:
    """Yield what agent.overlap saves in this run, or why nothing.

    Args:
        devices: how many of `device` make images.
    """
    if not (config.agent.enabled and config.agent.overlap):
        return
    elsewhere = devices > 1 or config.generation.executor == RAY
    sentence = what_is_gained(
        config,
        elsewhere=elsewhere or config.generation.workers > 0,
        on_other_devices=elsewhere,
        gpus=1 if device.is_gpu else 0,
        cores=os.cpu_count() or 1,
    )
    if sentence:
        yield f"{sentence}."
        return
    saved = saved_seconds(config, stages)
    most = "" if saved is None else f" At most {_duration(saved)} of the total above are saved."
    yield (
        "agent.overlap: images are made while training goes on, if the workers have a device that "
        f"training does not use.{most}"
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 3600:.2g} h"
