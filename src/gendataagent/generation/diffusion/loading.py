"""Load a diffusers pipeline from a folder or the hub, and move it to its device."""

from __future__ import annotations

import functools
import logging
import warnings
from typing import Any

import torch

from gendataagent.core import hub
from gendataagent.core.errors import ModelError
from gendataagent.generation.diffusion.lora import apply_lora
from gendataagent.generation.diffusion.mirrors import with_mirrors
from gendataagent.generation.diffusion.schedulers import choose_scheduler
from gendataagent.generation.diffusion.spec import DiffusionSpec


def load_pipeline(spec: DiffusionSpec, dtype: torch.dtype) -> Any:
    """Return the image-to-image pipeline of a spec on the CPU, its LoRA merged in.

    Warns if a mirror was loaded instead of the repository named.

    Raises:
        ModelError: it cannot be loaded; the message says what to do.
    """
    diffusers = _import_diffusers_quietly()
    load = functools.partial(
        diffusers.AutoPipelineForImage2Image.from_pretrained,
        dtype=dtype,
        use_safetensors=True,
        variant=spec.variant or None,
    )
    source, pipeline = hub.load_first(with_mirrors(spec.source), load)
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


def move_to_device(pipeline: Any, spec: DiffusionSpec) -> None:
    """Move a pipeline to the device of its spec.

    Raises:
        ModelError: it does not fit into the device's memory.
    """
    try:
        pipeline.to(torch.device(spec.device))
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"generation.generator: {spec.model!r} does not fit into the memory of "
            f"{spec.device}; set generation.dtype=float16, name a smaller generator or another "
            "device, or end other programs that use it"
        ) from error


def _import_diffusers_quietly() -> Any:
    """Return diffusers, with its and transformers' log messages and progress bars off.

    What matters of them is raised as an error or reported once: diffusers warns of every truncated
    prompt.
    """
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    import diffusers

    # diffusers passes this deprecated argument with every file it asks the hub for.
    warnings.filterwarnings("ignore", message="The `local_dir_use_symlinks` argument")
    diffusers.utils.logging.set_verbosity(logging.CRITICAL)
    diffusers.utils.logging.disable_progress_bar()
    return diffusers
