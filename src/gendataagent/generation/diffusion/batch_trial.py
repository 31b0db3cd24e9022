"""The batch size of a pipeline, tried on the device where the settings leave it open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from PIL import Image

from gendataagent.core import memory
from gendataagent.core.devices import free_memory
from gendataagent.core.protocols import RenderRequest
from gendataagent.generation.diffusion.factory import DiffusionFactory

_ROOM = 0.8  # share of the GPU's memory that a batch tried may reach


def tried_batch(factory: DiffusionFactory) -> int:
    """Return the factory's batch size, halved until a call leaves room in the GPU's memory.

    The pipeline is loaded and makes a batch with as few steps as it can.

    Raises:
        ModelError, GenerationError: the pipeline cannot be loaded, or not a single image fits.
    """
    size = factory.batch_size
    while size > 1:
        reached = _fitting(replace(factory, batch_size=size))
        if reached == size:
            return size
        size = reached
    return size


def _fitting(factory: DiffusionFactory) -> int:
    """Return the batch size if it fits, else the next one to try."""
    generator = replace(factory, class_loras="")()  # merged weights take no further room
    try:
        with memory.PeakMemory(factory.device) as peak:
            generator.render(list(_requests(factory.batch_size, generator.size_px)))
        reached = generator.batch_size
    finally:
        del generator
        free_memory()
    total = memory.total_bytes(factory.device)
    if reached == factory.batch_size and total and peak.mib * memory.MIB > _ROOM * total:
        return reached // 2
    return reached


def _requests(count: int, size_px: int) -> Iterable[RenderRequest]:
    for seed in range(count):
        yield RenderRequest(
            source=Image.new("RGB", (size_px, size_px), (seed % 256, 128, 128)),
            prompt="a photo",
            negative_prompt="blurry",
            seed=seed,
            strength=1.0,
            guidance_scale=7.5,
            num_inference_steps=2,
        )
