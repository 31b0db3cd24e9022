"""Put a ControlNet of diffusers beside a pipeline."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch

from gendataagent.core import hub
from gendataagent.core.completeness import check_finite
from gendataagent.core.errors import ModelError
from gendataagent.core.hub import ModelSource
from gendataagent.generation.diffusion.control import Control
from gendataagent.generation.diffusion.parts import check_network
from gendataagent.generation.diffusion.quiet import import_diffusers_quietly

_CLASS = "ControlNetModel"
_SHARED = (
    "in_channels", "block_out_channels", "layers_per_block", "cross_attention_dim",
    "addition_embed_type",
)  # fmt: skip
_SUPPORTED = "name a Stable Diffusion 1, 2 or XL, or set generation.condition=none"


def controlnet_without_weights(control: Control) -> Any | None:
    """Return a ControlNet without memory, its files checked as far as they are here.

    Returns:
        None where not even its settings are here.

    Raises:
        ModelError: it is missing, incomplete or of another kind.
    """
    source = control.source
    hub.check(source)
    network, folder = check_network(source, _CLASS), hub.local_folder(source)
    if network is not None or folder is None:
        return network
    cls = getattr(import_diffusers_quietly(), _CLASS)
    try:  # of a hub model whose weights are downloaded later
        with torch.device("meta"):
            return cls.from_config(cls.load_config(str(folder)))
    except Exception as error:  # as when it is loaded
        raise ModelError(hub.advice(source, error)) from error


def load_controlnet(control: Control, dtype: torch.dtype) -> Any:
    """Return a ControlNet on the CPU.

    Raises:
        ModelError: it cannot be loaded; the message says what to do.
    """
    source = control.source
    if was_here := hub.is_here(source):
        _check_quietly(source)
    network = hub.load(source, functools.partial(_read, dtype=dtype))
    if not was_here:
        _check_quietly(source)
    check_finite(f"{source.setting}: {source.name}", network)
    return network


def _check_quietly(source: ModelSource) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what can be checked only by loading it
        check_network(source, _CLASS)


def _read(place: str, *, trust_remote_code: bool, **options: Any) -> Any:
    del trust_remote_code  # a ControlNet brings no code
    cls = getattr(import_diffusers_quietly(), _CLASS)
    return cls.from_pretrained(place, use_safetensors=True, **options)


def with_controlnet(pipeline: Any, network: Any, control: Control, model: str) -> Any:
    """Return the image-to-image pipeline with a ControlNet, of the same parts.

    Args:
        model: name of the generator, for messages.

    Raises:
        ModelError: as `check_takes_controlnet`; or the ControlNet is for another model.
    """
    check_takes_controlnet(pipeline, model)
    if fault := _misfit(pipeline, network.config):
        raise ModelError(
            f"generation.controlnet: {control.name!r} does not fit the generator {model!r}: "
            f"{fault}; name a ControlNet that was made for this generator"
        )
    diffusers = import_diffusers_quietly()
    return diffusers.AutoPipelineForImage2Image.from_pipe(pipeline, controlnet=network)


def check_takes_controlnet(pipeline: Any, model: str) -> None:
    """Raise `ModelError` if an image-to-image pipeline of diffusers has no form with a ControlNet.

    Of Flux there is one, with other ControlNets, which are not supported here.
    """
    kind = type(pipeline).__name__
    plain = kind.replace("ControlNet", "")
    wanted = plain.replace("Img2ImgPipeline", "ControlNetImg2ImgPipeline")
    has_one = wanted != plain and hasattr(import_diffusers_quietly(), wanted)
    if not has_one or getattr(pipeline, "unet", None) is None:
        raise ModelError(
            f"generation.condition=edges needs a generator that takes a ControlNet; {model!r} is a "
            f"{kind}, which does not: {_SUPPORTED}"
        )


def _misfit(pipeline: Any, config: Any) -> str | None:
    """Return in what a ControlNet differs from the UNet that it adds to; None = in nothing."""
    unet = pipeline.unet.config
    for key in _SHARED:
        its, wanted = _plain(config.get(key)), _plain(unet.get(key))
        if its != wanted:
            return f"its {key} is {its}, that of the UNet {wanted}"
    if (colours := config.get("conditioning_channels")) != 3:
        return f"it is shown images of {colours} channels, edges have 3"
    shrink = 2 ** (len(config.get("conditioning_embedding_out_channels") or ()) - 1)
    if shrink != pipeline.vae_scale_factor:
        return (
            f"it makes images {shrink:g} times smaller, the autoencoder "
            f"{pipeline.vae_scale_factor} times"
        )
    return None


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value
