"""A pipeline of diffusers from a folder or the hub, ready to be called."""

from __future__ import annotations

import functools
from typing import Any

import torch
from PIL import Image

from gendataagent import pretrained
from gendataagent.backends.diffusion.factory import DiffusionFactory
from gendataagent.config import AUTO
from gendataagent.errors import ModelError

DEFAULT_SCHEDULER = "UniPCMultistepScheduler"  # Real-Fake's code [C]


def load_pipeline(factory: DiffusionFactory, dtype: torch.dtype) -> Any:
    """Return the image-to-image pipeline of a factory, on the CPU.

    Raises:
        ModelError: with a sentence that says what to do.
    """
    diffusers = _quiet_diffusers()
    load = functools.partial(
        diffusers.AutoPipelineForImage2Image.from_pretrained, dtype=dtype, use_safetensors=True
    )
    pipeline = pretrained.load(factory.source, load)
    pipeline.scheduler = _scheduler(factory.scheduler, pipeline.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def square(image: Image.Image, size_px: int) -> Image.Image:
    """Return the centre square of a picture at `size_px`: what the classifier sees of it too."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    if image.size == (size_px, size_px):
        return image
    return image.resize((size_px, size_px), Image.Resampling.BICUBIC, box=box)


def resolve_dtype(name: str, device: torch.device | str) -> torch.dtype:
    """Return the torch dtype a setting stands for; auto = float16 on a GPU, float32 on a CPU."""
    if name == AUTO:
        return torch.float32 if torch.device(device).type == "cpu" else torch.float16
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _scheduler(name: str, default: Any) -> Any:
    import diffusers

    wanted = DEFAULT_SCHEDULER if name == AUTO else name
    cls = getattr(diffusers, wanted, None)
    if cls is None or not wanted.endswith("Scheduler"):
        raise ModelError(
            f"generation.scheduler: diffusers has no scheduler {name!r}; for example "
            "UniPCMultistepScheduler, DPMSolverMultistepScheduler, DDIMScheduler"
        )
    return cls.from_config(default.config)


def _quiet_diffusers() -> Any:
    """Return diffusers, with its and transformers' chatter about loading switched off."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    import diffusers

    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    return diffusers
