"""What depends on the machine is decided once, when a run is made, and written to its settings."""

from __future__ import annotations

import math
from dataclasses import replace

from gendataagent.config import AUTO, RunConfig
from gendataagent.core.devices import (
    default_threads,
    image_dtype_name,
    training_precision,
)
from gendataagent.core.launch import processes_of
from gendataagent.generation.backends import with_backends_chosen, with_batch_tried
from gendataagent.generation.diffusion.batching import filled_by


def with_threads(config: RunConfig) -> RunConfig:
    """Return the settings with a number of threads, which a resume on any machine keeps."""
    if config.threads:
        return config
    processes = config.training.processes
    workers = max(config.generation.workers, processes if isinstance(processes, int) else 1)
    return replace(config, threads=default_threads(workers))


def with_processes_decided(config: RunConfig, device: str) -> RunConfig:
    """Return the settings with the number of processes that train; raise as `processes_of`."""
    # With agent.overlap the other GPUs make images meanwhile.
    overlaps = config.agent.enabled and config.agent.overlap
    number = processes_of(config.training.processes, device, auto_alone=overlaps)
    if config.training.processes == AUTO:
        number = min(number, config.training.batch_size)
    return replace(config, training=replace(config.training, processes=number))


def with_precision_decided(config: RunConfig, device: str) -> RunConfig:
    """Return the settings with the dtype of images and the precision of training.

    An experiment decides them for all its runs, so that no table holds both kinds.
    """
    training, generation = config.training, config.generation
    return replace(
        config,
        training=replace(
            training, mixed_precision=training_precision(training.mixed_precision, device)
        ),
        generation=replace(generation, dtype=image_dtype_name(generation.dtype, device)),
    )


def with_machine_decided(
    config: RunConfig, device: str, *, images: int | None = None, try_batch: bool = False
) -> RunConfig:
    """Return the settings with every "auto" resolved that depends on the machine alone.

    These are backends, dtypes, precisions and batch size; not the classifier, which depends on the
    images too.

    Args:
        images: real training images, by which a batch is no larger than a round fills; None =
            unknown.
        try_batch: whether a batch size that was left open is tried on a GPU, which loads the model.
    """
    is_open = config.generation.batch_size == AUTO
    config = with_backends_chosen(with_precision_decided(config, device), device)
    if is_open and images is not None:
        most = filled_by(_images_of_round(config, images))
        batch = min(int(config.generation.batch_size), most)
        config = replace(config, generation=replace(config.generation, batch_size=batch))
    if is_open and try_batch and device.startswith("cuda"):
        config = with_batch_tried(config, device)
    return config


def _images_of_round(config: RunConfig, images: int) -> int:
    return math.ceil(config.selection.share * images) * config.prompting.rewrites
