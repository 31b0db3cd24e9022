"""Image-to-image with any pipeline of diffusers, the bundled one included."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from PIL import Image

from gendataagent.core.devices import BatchSize, resolve_dtype
from gendataagent.core.protocols import Rendered, RenderRequest
from gendataagent.generation.diffusion.encoding_cache import (
    LATENTS_BYTES,
    TEXTS_BYTES,
    Kept,
    LatentsOnce,
    TextsOnce,
)
from gendataagent.generation.diffusion.loading import load_pipeline, place
from gendataagent.generation.diffusion.prompts import loses_its_class, token_counter_of
from gendataagent.generation.diffusion.signature import Calling
from gendataagent.generation.diffusion.spec import DiffusionSpec

_BLACK_BELOW = 8  # of 255: what NaN latents and safety checkers leave behind


class DiffusionGenerator:
    """Makes images with a diffusers image-to-image pipeline.

    The noise of an image comes from a CPU generator seeded by its request. Matrix kernels round
    otherwise for other batch sizes, so the pipeline always draws as many images at a time
    (`generation.batch_size`), the last ones repeated where fewer are asked for: an image is
    then the same to the bit whatever it is asked for with. Only on a device whose memory is too
    small for that are fewer drawn.

    Sources and texts are encoded once and kept (`keeping`). A prompt that is cut before its class
    is told is refused, since its image would show anything.
    """

    def __init__(self, spec: DiffusionSpec) -> None:
        self._dtype = resolve_dtype(spec.dtype, spec.device)
        self._pipeline = load_pipeline(spec, self._dtype)
        self._calling = Calling.of(self._pipeline, spec.model, spec.size_px)
        place(self._pipeline, spec)
        self.description = spec.describe()  # now it is known which mirror it came from
        self._counter = token_counter_of(self._pipeline)
        self.latents, self.texts = Kept(LATENTS_BYTES), Kept(TEXTS_BYTES)
        self._pipeline.vae.encode = LatentsOnce(self._pipeline.vae, self.latents)
        self._pipeline.encode_prompt = TextsOnce(self._pipeline, self.texts)
        self._batch_size = BatchSize(
            spec.batch_size,
            too_large="the device has not enough memory for a single image; lower "
            "generation.size_px, set generation.dtype=float16, or name another device",
            make_room=self._slice_vae,
        )

    @property
    def size_px(self) -> int:
        """Side of the square images made, in pixels."""
        return self._calling.size_px

    def render(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        """Return one result per request; what is no use comes with a reason.

        Reasons: class-cut-off, flagged-by-safety-checker, black-image.
        """
        refused = Rendered(image=None, rejected_by="class-cut-off")
        cut = [loses_its_class(request.prompt, self._counter) for request in requests]
        whole = [request for request, is_cut in zip(requests, cut, strict=True) if not is_cut]
        made: list[Rendered] = []
        for _, group in groupby(whole, key=_shared_settings):
            made.extend(self._render_alike(list(group)))
        remaining = iter(made)
        return [refused if is_cut else next(remaining) for is_cut in cut]

    def _render_alike(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        results = self._batch_size.map(self._run_pipeline, requests)
        black = [i for i, result in enumerate(results) if result.rejected_by == "black-image"]
        if black and self._dtype != torch.float32:
            # Half precision can overflow to NaN latents, which decode to black: try those in full.
            self._pipeline.to(torch.float32)
            again = self._batch_size.map(self._run_pipeline, [requests[i] for i in black])
            self._pipeline.to(self._dtype)
            for i, result in zip(black, again, strict=True):
                results[i] = result
        return results

    def _slice_vae(self) -> bool:
        """Let the VAE work on one image at a time; return whether it did not before."""
        vae = self._pipeline.vae
        if not hasattr(vae, "enable_slicing") or vae.use_slicing:
            return False
        vae.enable_slicing()
        return True

    @torch.inference_mode()
    def _run_pipeline(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        missing = self._batch_size.size - len(requests)
        padded = [*requests, *[requests[-1]] * missing]
        output = self._pipeline(**self._calling.arguments(padded))
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
