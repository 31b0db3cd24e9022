"""Decodes the clean latent for feedback: with the pipeline's autoencoder, small, or a tiny one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

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
    return _tiny_decoder(pipeline, kind, size_px)


def _vae_decoder(pipeline: Any, size_px: int, *, halved: bool) -> Decode:
    vae = pipeline.vae.requires_grad_(False)
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
                return _sample(vae, latents.float())
            finally:
                vae.to(torch.float16)
        return _sample(vae, latents.to(vae.dtype))

    return decode


def _sample(vae: Any, latents: Tensor) -> Tensor:
    image: Tensor = vae.decode(latents, return_dict=False)[0]
    return image


def _unpacked(pipeline: Any, latents: Tensor, size_px: int) -> Tensor:
    """Return latents as [B, C, h, w]; Flux packs them into [B, h w / 4, 4 C]."""
    if latents.ndim != 3:
        return latents
    unpacked: Tensor = pipeline._unpack_latents(
        latents, size_px, size_px, pipeline.vae_scale_factor
    )
    return unpacked


def _tiny_decoder(pipeline: Any, name: str, size_px: int) -> Decode:
    from diffusers import AutoencoderTiny

    try:
        tiny = AutoencoderTiny.from_pretrained(name, torch_dtype=pipeline.vae.dtype)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"generation.feedback_decoder: {name!r} cannot be loaded as an AutoencoderTiny of "
            f"diffusers: {error}. Use vae, half, or a name such as madebyollin/taesd"
        ) from error
    expected = pipeline.vae.config.latent_channels
    if tiny.config.latent_channels != expected:
        raise ModelError(
            f"generation.feedback_decoder: {name!r} decodes {tiny.config.latent_channels} "
            f"channels, the generator's latents have {expected}; use the one made for this model"
        )
    tiny = tiny.to(pipeline.vae.device).eval().requires_grad_(False)
    scaling = float(tiny.config.get("scaling_factor") or 1.0)

    def decode(latents: Tensor) -> Tensor:
        return _sample(tiny, (_unpacked(pipeline, latents, size_px) / scaling).to(tiny.dtype))

    return decode
