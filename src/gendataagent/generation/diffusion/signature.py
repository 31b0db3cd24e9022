"""Which arguments a pipeline is called with, found from the signature of its `__call__`."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image

from gendataagent.core.errors import ConfigError, GenerationError, ModelError
from gendataagent.core.protocols import RenderRequest
from gendataagent.core.steps import executed_steps
from gendataagent.data.decoding.images import centre_square
from gendataagent.generation.diffusion.control import Control

_GREY = (128, 128, 128)
_REQUIRED = ("prompt", "image", "strength", "num_inference_steps", "generator")


@dataclass(frozen=True, slots=True)
class CallSignature:
    """The parameters of one pipeline.

    Args:
        parameters: names of all parameters of its `__call__`.
        guidance_name: the one of these that sets classifier-free guidance.
        size_px: side of the images it makes.
        rounds_up: whether it executes ceil(steps * strength) steps (flow matching: SD 3, Flux)
            instead of floor (Stable Diffusion with a UNet).
        control: what its ControlNet is shown; None = it has none.
    """

    parameters: frozenset[str]
    guidance_name: str
    size_px: int
    rounds_up: bool
    control: Control | None = None

    @classmethod
    def of(
        cls, pipeline: Any, name: str, size_px: int, control: Control | None = None
    ) -> CallSignature:
        """Return the signature of a pipeline.

        Some families (Flux, Qwen-Image) have models with guidance as an embedding and models with
        guidance by a second pass, under two parameters; the one that the model uses is chosen.

        Args:
            name: name of the model, for error messages.
            size_px: side of the images; 0 = the model's own.

        Raises:
            ModelError: it does not make images from an image, a text and a strength, or needs a
                further image that the settings do not give it.
            ConfigError: the pipeline cannot make images of this size.
        """
        parameters = frozenset(inspect.signature(type(pipeline).__call__).parameters)
        config = _checked_denoiser(pipeline, parameters, name).config
        if control is None and "control_image" in parameters:
            raise ModelError(
                f"generation.generator: {name!r} is a {type(pipeline).__name__}, which needs an "
                "image to control it; name a plain generator, such as a Stable Diffusion"
            )
        by_second_pass = "true_cfg_scale" in parameters and not config.get("guidance_embeds")
        return cls(
            parameters=parameters,
            guidance_name="true_cfg_scale" if by_second_pass else "guidance_scale",
            size_px=_image_size(pipeline, config, size_px),
            rounds_up=_executed_by(pipeline, 2, 0.75) == 2,
            control=control,
        )

    def arguments(self, requests: Sequence[RenderRequest]) -> dict[str, Any]:
        """Return the arguments of one call; the requests share strength, guidance and steps.

        A pipeline without a negative prompt (LCM's own, guidance-distilled models) gets none.
        Whatever the pipeline makes of steps and strength, `executed_steps` of them are executed.

        Raises:
            GenerationError: that would be none.
        """
        first = requests[0]
        steps, strength = self._steps(first.num_inference_steps, first.strength)
        arguments: dict[str, Any] = {
            "prompt": [request.prompt for request in requests],
            "image": self._squares(
                [None if request.from_text else request.source for request in requests]
            ),
            "strength": strength,
            "num_inference_steps": steps,
            "generator": [torch.Generator("cpu").manual_seed(r.seed) for r in requests],
        }
        optional = {
            "negative_prompt": [request.negative_prompt for request in requests],
            "height": self.size_px,
            "width": self.size_px,
            self.guidance_name: first.guidance_scale,
        }
        if self.control is not None:
            optional |= {
                "control_image": self._edges([request.source for request in requests]),
                "controlnet_conditioning_scale": self.control.scale,
            }
        return arguments | {name: v for name, v in optional.items() if name in self.parameters}

    def _edges(self, sources: Sequence[Image.Image]) -> list[Image.Image]:
        """Return the edges of each source's square; those of a shared source are found once."""
        assert self.control is not None
        squares = self._squares(sources)
        distinct = {id(square): square for square in squares}
        edges = {key: self.control.image_of(square) for key, square in distinct.items()}
        return [edges[id(square)] for square in squares]

    def _steps(self, steps: int, strength: float) -> tuple[int, float]:
        """Return what to ask the pipeline for, so that it executes `executed_steps`."""
        executed = executed_steps(steps, strength)
        if executed < 1:
            raise GenerationError(
                f"num_inference_steps * strength must be at least 1 executed step, got {steps} * "
                f"{strength:g}; raise one of the two"
            )
        if "original_inference_steps" in self.parameters:
            # LCM's own pipeline executes every step it is asked for, and rounds the schedule down.
            return executed, min(1.0, strength + 1e-9)
        pipelines = (
            steps - int(steps - steps * strength) if self.rounds_up else int(steps * strength)
        )
        if pipelines == executed:
            return steps, strength
        half = -0.5 if self.rounds_up else 0.5  # far from where rounding changes
        return steps, min(1.0, (executed + half) / steps)

    def _squares(self, sources: Sequence[Image.Image | None]) -> list[Image.Image]:
        """Return the centre squares; a source that several requests share is resized once.

        Without a source it is a grey image: at strength 1 the noise covers its latent, which is
        near zero, as where text-to-image pipelines start.
        """
        squares = {
            key: Image.new("RGB", (self.size_px, self.size_px), _GREY)
            if source is None
            else centre_square(source, self.size_px, on_pixel_grid=True)
            for key, source in {id(source): source for source in sources}.items()
        }
        return [squares[id(source)] for source in sources]


def denoiser_of(pipeline: Any) -> Any:
    """Return the UNet or transformer of a pipeline; None where it has neither."""
    return getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)


def _checked_denoiser(pipeline: Any, parameters: frozenset[str], name: str) -> Any:
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
    denoiser = denoiser_of(pipeline)
    if denoiser is None or getattr(pipeline, "vae", None) is None:
        raise ModelError(
            f"{subject}, which has no UNet or transformer that works on the latents of a VAE; "
            "name a latent diffusion model, such as a Stable Diffusion"
        )
    return denoiser


def _executed_by(pipeline: Any, steps: int, strength: float) -> int | None:
    """Return how many steps a pipeline executes by its own count; None where it has no count."""
    count = getattr(type(pipeline), "get_timesteps", None)
    if count is None:
        return None
    # It reads the scheduler's steps, which some schedulers do not have before the first call.
    scheduler = SimpleNamespace(timesteps=range(steps), order=1)
    return int(count(SimpleNamespace(scheduler=scheduler), steps, strength, "cpu")[1])


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
