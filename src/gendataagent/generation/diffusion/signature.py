"""Which arguments a pipeline is called with, found from the signature of its `__call__`."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from gendataagent.core.errors import ConfigError, ModelError
from gendataagent.core.protocols import RenderRequest
from gendataagent.data.images import centre_square

_REQUIRED = ("prompt", "image", "strength", "num_inference_steps", "generator")


@dataclass(frozen=True, slots=True)
class CallSignature:
    """The parameters of one pipeline.

    Args:
        parameters: names of all parameters of its `__call__`.
        guidance_name: the one of these that sets classifier-free guidance.
        size_px: side of the images it makes.
    """

    parameters: frozenset[str]
    guidance_name: str
    size_px: int

    @classmethod
    def of(cls, pipeline: Any, name: str, size_px: int) -> CallSignature:
        """Return the signature of a pipeline.

        Some families (Flux, Qwen-Image) have models with guidance as an embedding and models with
        guidance by a second pass, under two parameters; the one that the model uses is chosen.

        Args:
            name: name of the model, for error messages.
            size_px: side of the images; 0 = the model's own.

        Raises:
            ModelError: it does not make images from an image, a text and a strength.
            ConfigError: the pipeline cannot make images of this size.
        """
        parameters = frozenset(inspect.signature(type(pipeline).__call__).parameters)
        config = _denoiser_of(pipeline, parameters, name).config
        by_second_pass = "true_cfg_scale" in parameters and not config.get("guidance_embeds")
        return cls(
            parameters=parameters,
            guidance_name="true_cfg_scale" if by_second_pass else "guidance_scale",
            size_px=_image_size(pipeline, config, size_px),
        )

    def arguments(self, requests: Sequence[RenderRequest]) -> dict[str, Any]:
        """Return the arguments of one call; the requests share strength, guidance and steps.

        A pipeline without a negative prompt (LCM's own, guidance-distilled models) gets none. It
        executes strength * num_inference_steps steps, rounded down by Stable Diffusion with a UNet,
        rounded up by flow matching (SD 3, Flux).
        """
        first = requests[0]
        arguments: dict[str, Any] = {
            "prompt": [request.prompt for request in requests],
            "image": self._squares([request.source for request in requests]),
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
        return arguments | {name: v for name, v in optional.items() if name in self.parameters}

    def _squares(self, sources: Sequence[Image.Image]) -> list[Image.Image]:
        """Return the centre squares; a source that several requests share is resized once."""
        squares = {
            key: centre_square(source, self.size_px, on_pixel_grid=True)
            for key, source in {id(source): source for source in sources}.items()
        }
        return [squares[id(source)] for source in sources]


def _denoiser_of(pipeline: Any, parameters: frozenset[str], name: str) -> Any:
    """Return the UNet or transformer.

    Raises:
        ModelError: it is no latent image-to-image pipeline with a strength.
    """
    subject = f"generation.generator: {name!r} is a {type(pipeline).__name__}"
    missing = [name for name in _REQUIRED if name not in parameters]
    if missing:
        raise ModelError(
            f"{subject}, which takes no {', '.join(missing)}; name an image-to-image pipeline "
            "with a strength, such as a Stable Diffusion"
        )
    denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    if denoiser is None or getattr(pipeline, "vae", None) is None:
        raise ModelError(
            f"{subject}, which has no UNet or transformer that works on the latents of a VAE; "
            "name a latent diffusion model, such as a Stable Diffusion"
        )
    return denoiser


def _image_size(pipeline: Any, config: Any, requested_px: int) -> int:
    scale = int(pipeline.vae_scale_factor)
    side = config.get("sample_size") or getattr(pipeline, "default_sample_size", 64)
    latent_px = max(side) if isinstance(side, Sequence) else int(side)
    size_px = requested_px or latent_px * scale
    multiple = scale * int(config.get("patch_size") or 1)
    if size_px % multiple:
        raise ConfigError(
            f"generation.size_px must be a multiple of {multiple} for this generator, got {size_px}"
        )
    return size_px
