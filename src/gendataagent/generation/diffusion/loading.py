"""A pipeline of diffusers from a folder or the hub, ready to be called."""

from __future__ import annotations

import functools
import logging
import warnings
from typing import Any

import torch
from PIL import Image

from gendataagent.core import hub
from gendataagent.core.errors import ModelError
from gendataagent.generation.diffusion import mirrors
from gendataagent.generation.diffusion.lora import apply_lora
from gendataagent.generation.diffusion.schedulers import choose_scheduler
from gendataagent.generation.diffusion.spec import DiffusionSpec


def load_pipeline(spec: DiffusionSpec, dtype: torch.dtype) -> Any:
    """Return the image-to-image pipeline of a spec, its LoRA merged in, on the CPU.

    Warns if another repository had to take the place of the one named.

    Raises:
        ModelError: with a sentence that says what to do.
    """
    diffusers = _quiet_diffusers()
    load = functools.partial(
        diffusers.AutoPipelineForImage2Image.from_pretrained,
        dtype=dtype,
        use_safetensors=True,
        variant=spec.variant or None,
    )
    source, pipeline = hub.load_first(list(mirrors.places(spec.source)), load)
    if source.name != spec.model:
        warnings.warn(
            f"{spec.model} could not be found; {source.name}, which holds the same model, was "
            "loaded instead",
            stacklevel=2,
        )
    if spec.lora:
        apply_lora(pipeline, spec.lora, spec.lora_scale)
    pipeline.scheduler = choose_scheduler(spec.scheduler, pipeline.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def place(pipeline: Any, spec: DiffusionSpec) -> None:
    """Move a pipeline to the device of its spec.

    Raises:
        ModelError: the device has not enough memory for it.
    """
    try:
        pipeline.to(torch.device(spec.device))
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"generation.generator: {spec.model!r} does not fit into the memory of "
            f"{spec.device}; set generation.dtype=float16, name a smaller generator or another "
            "device, or end what else runs there"
        ) from error


def square(image: Image.Image, size_px: int) -> Image.Image:
    """Return the centre square of a image at `size_px`: what the classifier sees of it too."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    if image.size == (size_px, size_px):
        return image
    return image.resize((size_px, size_px), Image.Resampling.BICUBIC, box=box)


def _quiet_diffusers() -> Any:
    """Return diffusers, with its and transformers' chatter switched off.

    What matters of it is raised, or said once: diffusers warns of each prompt that is cut.
    """
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    import diffusers

    # Of each file that diffusers asks the hub for: it passes an argument nobody reads.
    warnings.filterwarnings("ignore", message="The `local_dir_use_symlinks` argument")
    diffusers.utils.logging.set_verbosity(logging.CRITICAL)
    diffusers.utils.logging.disable_progress_bar()
    return diffusers
