"""Load a diffusers pipeline from a folder or the hub, and move it to its device."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch

from gendataagent.core import hub
from gendataagent.core.completeness import check_finite
from gendataagent.core.errors import ModelError
from gendataagent.generation.diffusion.class_tokens import read_class_tokens
from gendataagent.generation.diffusion.controlnet import load_controlnet, with_controlnet
from gendataagent.generation.diffusion.lora import apply_lora
from gendataagent.generation.diffusion.mirrors import with_mirrors
from gendataagent.generation.diffusion.parts import check_networks
from gendataagent.generation.diffusion.quiet import import_diffusers_quietly
from gendataagent.generation.diffusion.schedulers import choose_scheduler
from gendataagent.generation.diffusion.spec import DiffusionSpec
from gendataagent.generation.diffusion.token_embeddings import add_class_tokens


def load_pipeline(spec: DiffusionSpec, dtype: torch.dtype) -> Any:
    """Return the image-to-image pipeline of a spec on the CPU, with its LoRAs and words.

    With a ControlNet it is the pipeline that takes one.

    Warns if a mirror was loaded instead of the repository named.

    Raises:
        ModelError: it cannot be loaded; the message says what to do.
    """
    diffusers = import_diffusers_quietly()
    load = functools.partial(
        diffusers.AutoPipelineForImage2Image.from_pretrained,
        dtype=dtype,
        use_safetensors=True,
        variant=spec.variant or None,
    )
    source, pipeline = hub.load_first(with_mirrors(spec.source), load)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what can be checked only by loading it
        check_networks(source, variant=spec.variant)  # it may just have been downloaded
    if source.name != spec.model:
        warnings.warn(
            f"{spec.model} could not be found; {source.name}, which holds the same model, was "
            "loaded instead",
            stacklevel=2,
        )
    for lora in spec.loras:
        apply_lora(pipeline, lora)
    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module):
            check_finite(f"generation.generator: the {name} of {source.name}", part)
    if spec.class_tokens:
        add_class_tokens(pipeline, read_class_tokens(spec.class_tokens))
    if spec.control is not None:
        controlnet = load_controlnet(spec.control, dtype)
        pipeline = with_controlnet(pipeline, controlnet, spec.control, spec.model)
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
