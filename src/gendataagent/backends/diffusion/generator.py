"""Image-to-image with any pipeline of diffusers, the bundled one included."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from PIL import Image

from gendataagent.backends.diffusion.factory import DiffusionFactory
from gendataagent.backends.diffusion.loading import load_pipeline, resolve_dtype, square
from gendataagent.errors import ConfigError, GenerationError, ModelError
from gendataagent.protocols import Rendered, RenderRequest

DRAWN_TOGETHER = 8
_BLACK_BELOW = 8  # of 255: what NaN latents and safety checkers leave behind


class DiffusionGenerator:
    """Makes images with a diffusers image-to-image pipeline.

    The noise of an image comes from a CPU generator seeded by its request. Matrix kernels round
    otherwise for other batch sizes, so the pipeline always draws `DRAWN_TOGETHER` images at a time,
    the last ones repeated where fewer are asked for: an image is then the same to the bit whatever
    it is asked for with. Only on a device whose memory is too small for that are fewer drawn.
    """

    def __init__(self, factory: DiffusionFactory) -> None:
        self.description = factory.describe()
        self._device = torch.device(factory.device)
        self._dtype = resolve_dtype(factory.dtype, self._device)
        self._pipeline = load_pipeline(factory, self._dtype)
        self._pipeline.to(self._device)
        self._size_px = _size_px(factory, self._pipeline)
        self._drawn_together = DRAWN_TOGETHER

    @property
    def size_px(self) -> int:
        """Side of the square images made, in pixels."""
        return int(self._size_px)

    def render(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        """Return one result per request; black or flagged images come with a reason."""
        results: list[Rendered] = []
        for _, group in groupby(requests, key=_shared_settings):
            results.extend(self._render_alike(list(group)))
        return results

    def _render_alike(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        results = self._draw(requests)
        black = [i for i, result in enumerate(results) if result.rejected_by == "black-image"]
        if black and self._dtype != torch.float32:
            # Half precision can overflow to NaN latents, which decode to black: try those in full.
            self._pipeline.to(torch.float32)
            again = self._draw([requests[i] for i in black])
            self._pipeline.to(self._dtype)
            for i, result in zip(black, again, strict=True):
                results[i] = result
        return results

    def _draw(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        """Draw in groups of one size, which is halved if the device runs out of memory."""
        results: list[Rendered] = []
        while len(results) < len(requests):
            group = requests[len(results) : len(results) + self._drawn_together]
            try:
                results.extend(self._run_pipeline(group))
                continue
            except torch.OutOfMemoryError as error:
                if self._drawn_together == 1:
                    raise GenerationError(
                        "the device has not enough memory for a single image; lower "
                        "generation.size_px, set generation.dtype=float16, or name another device"
                    ) from error
            self._drawn_together //= 2
            torch.cuda.empty_cache()
        return results

    @torch.inference_mode()
    def _run_pipeline(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        missing = self._drawn_together - len(requests)
        padded = [*requests, *[requests[-1]] * missing]
        first = padded[0]
        output = self._pipeline(
            prompt=[request.prompt for request in padded],
            negative_prompt=[request.negative_prompt for request in padded],
            image=[square(request.source, self._size_px) for request in padded],
            strength=first.strength,
            guidance_scale=first.guidance_scale,
            num_inference_steps=first.num_inference_steps,
            generator=[torch.Generator("cpu").manual_seed(request.seed) for request in padded],
        )
        flagged = getattr(output, "nsfw_content_detected", None) or [False] * len(padded)
        return [
            Rendered(image=image, rejected_by=_why_refused(image, bool(flag)))
            for image, flag in zip(output.images, flagged, strict=True)
        ][: len(requests)]


def _shared_settings(request: RenderRequest) -> tuple[float, float, int]:
    return request.strength, request.guidance_scale, request.num_inference_steps


def _why_refused(image: Image.Image, flagged: bool) -> str | None:
    if flagged:
        return "flagged-by-safety-checker"
    return "black-image" if int(np.asarray(image).max()) < _BLACK_BELOW else None


def _size_px(factory: DiffusionFactory, pipeline: Any) -> int:
    """Return the side of the images to make; raise for one that the pipeline would change."""
    if not hasattr(pipeline, "unet"):
        raise ModelError(
            f"{factory.model!r} is a {type(pipeline).__name__}, which has no UNet; name a Stable "
            "Diffusion with generation.generator"
        )
    scale = int(pipeline.vae_scale_factor)
    size_px = factory.size_px or int(pipeline.unet.config.sample_size) * scale
    if size_px % scale:
        raise ConfigError(
            f"generation.size_px must be a multiple of {scale} for this generator, got {size_px}"
        )
    return size_px
