"""Decodes the clean latent for feedback: with the pipeline's autoencoder, small, or a tiny one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gendataagent.core.completeness import Lacks, check_finite
from gendataagent.core.errors import ModelError

VAE, HALF = "vae", "half"

Decode = Callable[[Tensor], Tensor]
"""Clean latents, as the denoiser sees them -> images [B, 3, H, W] in [-1, 1], differentiable."""


def decoder_of(pipeline: Any, kind: str, size_px: int) -> Decode:
    """Return the decoder of a setting.

    Args:
        kind: "vae" = the pipeline's own; "half" = the same at half the image's side, a quarter of
            the memory; else an `AutoencoderTiny` of diffusers: a folder or hub id.
        size_px: side of the images, for pipelines that pack their latents.

    Raises:
        ModelError: the tiny autoencoder cannot be loaded or does not fit the latents.
    """
    if kind in (VAE, HALF):
        return _vae_decoder(pipeline, size_px, halved=kind == HALF)
    tiny = load_tiny(pipeline, kind, "generation.feedback_decoder")
    scaling = float(tiny.config.get("scaling_factor") or 1.0)

    def decode(latents: Tensor) -> Tensor:
        of_tiny = (_unpacked(pipeline, latents, size_px) / scaling).to(tiny.dtype)
        return _sample(tiny.decode, of_tiny)

    return decode


def _vae_decoder(pipeline: Any, size_px: int, *, halved: bool) -> Decode:
    vae = pipeline.vae.requires_grad_(False)
    decode_latents = vae.decode  # generation.decoder may replace it later
    config = vae.config
    scaling = float(config.get("scaling_factor") or 1.0)
    shift = float(config.get("shift_factor") or 0.0)
    mean, std = config.get("latents_mean"), config.get("latents_std")

    def decode(latents: Tensor) -> Tensor:
        latents = _unpacked(pipeline, latents, size_px)
        if halved:
            latents = functional.avg_pool2d(latents, 2)
        if mean is not None and std is not None:
            shape = (1, -1, 1, 1)
            of_mean = torch.tensor(mean, device=latents.device).view(shape)
            of_std = torch.tensor(std, device=latents.device).view(shape)
            latents = latents * of_std / scaling + of_mean
        else:
            latents = latents / scaling + shift
        if vae.dtype == torch.float16 and config.get("force_upcast"):
            vae.to(torch.float32)  # the autoencoder of SDXL overflows in float16
            try:
                return _sample(decode_latents, latents.float())
            finally:
                vae.to(torch.float16)
        return _sample(decode_latents, latents.to(vae.dtype))

    return decode


def _sample(decode: Callable[..., Any], latents: Tensor) -> Tensor:
    image: Tensor = decode(latents, return_dict=False)[0]
    return image


def _unpacked(pipeline: Any, latents: Tensor, size_px: int) -> Tensor:
    """Return latents as [B, C, h, w]; Flux packs them into [B, h w / 4, 4 C]."""
    if latents.ndim != 3:
        return latents
    unpacked: Tensor = pipeline._unpack_latents(
        latents, size_px, size_px, pipeline.vae_scale_factor
    )
    return unpacked


def load_tiny(pipeline: Any, name: str, setting: str) -> Any:
    """Return an `AutoencoderTiny` for a pipeline's latents, on its device and in its dtype.

    Args:
        name: a folder or hub id.
        setting: which names it, for messages.

    Raises:
        ModelError: it cannot be loaded or does not fit the latents.
    """
    from diffusers import AutoencoderTiny

    try:
        tiny, report = AutoencoderTiny.from_pretrained(
            name,
            torch_dtype=pipeline.vae.dtype,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{setting}: {name!r} cannot be loaded as an AutoencoderTiny of diffusers: {error}. "
            "Use vae, or a name such as madebyollin/taesd"
        ) from error
    if lacks := Lacks.of_report(tiny, report):
        raise ModelError(f"{setting}: {lacks.sentence(f'the weights of {name!r}')}")
    check_finite(f"{setting}: {name!r}", tiny)
    check_channels(pipeline, tiny, name, setting)
    return tiny.to(pipeline.vae.device).eval().requires_grad_(False)


def check_channels(pipeline: Any, tiny: Any, name: str, setting: str) -> None:
    """Raise `ModelError` unless a tiny autoencoder decodes the latents of a pipeline."""
    expected = pipeline.vae.config.latent_channels
    if tiny.config.latent_channels != expected:
        raise ModelError(
            f"{setting}: {name!r} decodes {tiny.config.latent_channels} channels, the generator's "
            f"latents have {expected}; use the one made for this model"
        )
