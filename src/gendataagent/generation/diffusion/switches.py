"""Switches that make a pipeline faster; each changes the images in their last bits.

The tiny decoder and merged tokens change them visibly. Distances are in docs/speed.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gendataagent.core.errors import ModelError
from gendataagent.generation.diffusion.signature import denoiser_of
from gendataagent.generation.diffusion.spec import DiffusionSpec
from gendataagent.generation.diffusion.token_merging import merge_tokens
from gendataagent.generation.feedback.decoding import VAE, load_tiny


def flip_switches(pipeline: Any, spec: DiffusionSpec) -> None:
    """Apply the switches of a spec to a loaded pipeline, which is on its device.

    Raises:
        ModelError: the pipeline does not have what a switch needs.
    """
    denoiser = denoiser_of(pipeline)
    if spec.channels_last:
        for network in (denoiser, pipeline.vae):
            network.to(memory_format=torch.channels_last)
    if spec.fuse_qkv:
        fuse = getattr(denoiser, "fuse_qkv_projections", None)
        _flip("fuse_qkv", denoiser, fuse)
    if spec.merge_tokens:  # after fusing, which sets processors of its own
        merge_tokens(denoiser, spec.merge_tokens)
    if spec.compile:
        # A padded batch has one shape, so that each kind of block is compiled once.
        repeated = getattr(denoiser, "_repeated_blocks", None)
        compiled = getattr(denoiser, "compile_repeated_blocks", None) if repeated else None
        _flip("compile", denoiser, compiled and (lambda: compiled(fullgraph=True, dynamic=False)))
    if spec.decoder != VAE:
        tiny = load_tiny(pipeline, spec.decoder, "generation.decoder")
        pipeline.vae.decode = TinyDecoder(pipeline.vae, tiny)


def _flip(switch: str, denoiser: Any, apply: Callable[[], object] | None) -> None:
    subject = f"generation.{switch}=true does not work on a {type(denoiser).__name__}"
    if apply is None:
        raise ModelError(f"{subject}: diffusers has no such switch for it; set it to false")
    try:
        apply()
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{subject}: {error}; set it to false") from error


class TinyDecoder:
    """Replaces `vae.decode` by a tiny autoencoder's, which reads the latents of the denoiser.

    A pipeline scales latents for its VAE before it calls `decode`; this scales them back.
    """

    def __init__(self, vae: Any, tiny: Any) -> None:
        config = vae.config
        self._vae, self._tiny = vae, tiny
        self._scaling = float(config.get("scaling_factor") or 1.0)
        self._shift = float(config.get("shift_factor") or 0.0)
        self._mean, self._std = config.get("latents_mean"), config.get("latents_std")
        self._of_tiny = float(tiny.config.get("scaling_factor") or 1.0)

    def __call__(self, z: Tensor, *args: Any, **options: Any) -> Any:
        """Return what `vae.decode` returns, [B, 3, H, W] in [-1, 1]."""
        if self._mean is not None and self._std is not None:
            shape = (1, -1, 1, 1)
            mean = torch.tensor(self._mean, device=z.device, dtype=z.dtype).view(shape)
            std = torch.tensor(self._std, device=z.device, dtype=z.dtype).view(shape)
            latents = (z - mean) * self._scaling / std
        else:
            latents = (z - self._shift) * self._scaling
        if self._tiny.dtype != self._vae.dtype:  # the pipeline was moved to another dtype
            self._tiny.to(self._vae.dtype)
        options.pop("generator", None)  # of a VAE that samples
        return self._tiny.decode((latents / self._of_tiny).to(self._tiny.dtype), **options)
