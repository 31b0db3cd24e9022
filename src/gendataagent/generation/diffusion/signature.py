"""How a pipeline wants to be called: by what its own `__call__` takes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gendataagent.core.errors import ConfigError, ModelError
from gendataagent.core.protocols import RenderRequest
from gendataagent.generation.diffusion.loading import square

_NEEDED = ("prompt", "image", "strength", "num_inference_steps", "generator")


@dataclass(frozen=True, slots=True)
class Calling:
    """How one pipeline is called.

    Args:
        takes: names of the parameters it can be given.
        guidance_name: the one of these that classifier-free guidance goes to.
        size_px: side of the images it makes.
    """

    takes: frozenset[str]
    guidance_name: str
    size_px: int

    @classmethod
    def of(cls, pipeline: Any, name: str, size_px: int) -> Calling:
        """Return how a pipeline is called.

        Where guidance is an embedding in some models of a family and a second pass in others (Flux,
        Qwen-Image), it goes to the one the model was made for.

        Args:
            name: of the model, for messages.
            size_px: the wanted side; 0 = the model's own.

        Raises:
            ModelError: it does not make images from a image, a text and a strength.
            ConfigError: a side that the pipeline would change on its own account.
        """
        takes = frozenset(inspect.signature(type(pipeline).__call__).parameters)
        config = _denoiser_of(pipeline, takes, name).config
        by_second_pass = "true_cfg_scale" in takes and not config.get("guidance_embeds")
        return cls(
            takes=takes,
            guidance_name="true_cfg_scale" if by_second_pass else "guidance_scale",
            size_px=_size_of(pipeline, config, size_px),
        )

    def arguments(self, requests: Sequence[RenderRequest]) -> dict[str, Any]:
        """Return what draws requests of one strength, guidance and number of steps.

        A pipeline that takes no negative prompt (LCM's own, models distilled from guidance) is
        given none. Of the steps, strength * steps are executed: a part of one is left out by Stable
        Diffusion with a UNet, and executed by flow matching (SD 3, Flux).
        """
        first = requests[0]
        arguments: dict[str, Any] = {
            "prompt": [request.prompt for request in requests],
            "image": [square(request.source, self.size_px) for request in requests],
            "strength": first.strength,
            "num_inference_steps": first.num_inference_steps,
            "generator": [torch.Generator("cpu").manual_seed(r.seed) for r in requests],
        }
        optional = {
            "negative_prompt": [request.negative_prompt for request in requests],
            "height": self.size_px,
            "width": self.size_px,
            self.guidance_name: first.guidance_scale,
        }
        return arguments | {name: v for name, v in optional.items() if name in self.takes}


def _denoiser_of(pipeline: Any, takes: frozenset[str], name: str) -> Any:
    """Return the UNet or transformer; raise `ModelError` for what is no such pipeline."""
    what = f"generation.generator: {name!r} is a {type(pipeline).__name__}"
    missing = [needed for needed in _NEEDED if needed not in takes]
    if missing:
        raise ModelError(
            f"{what}, which takes no {', '.join(missing)}; name an image-to-image pipeline with a "
            "strength, such as a Stable Diffusion"
        )
    denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    if denoiser is None or getattr(pipeline, "vae", None) is None:
        raise ModelError(
            f"{what}, which has no UNet or transformer that works on the latents of a VAE; name a "
            "latent diffusion model, such as a Stable Diffusion"
        )
    return denoiser


def _size_of(pipeline: Any, config: Any, wanted_px: int) -> int:
    scale = int(pipeline.vae_scale_factor)
    side = config.get("sample_size") or getattr(pipeline, "default_sample_size", 64)
    latent_px = max(side) if isinstance(side, Sequence) else int(side)
    size_px = wanted_px or latent_px * scale
    multiple = scale * int(config.get("patch_size") or 1)
    if size_px % multiple:
        raise ConfigError(
            f"generation.size_px must be a multiple of {multiple} for this generator, got {size_px}"
        )
    return size_px
