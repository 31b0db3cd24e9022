"""Image-to-image with any latent diffusion pipeline of diffusers, the bundled one included."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from gendataagent.core.devices import (
    BatchSize,
    image_dtype_name,
    repeatable_kernels,
    torch_dtype,
)
from gendataagent.core.errors import GenerationError
from gendataagent.core.protocols import Guide, Rendered, RenderRequest
from gendataagent.generation.diffusion.class_loras import ClassLoraSwitch, read_class_loras
from gendataagent.generation.diffusion.encoding_cache import (
    LATENT_CACHE_BYTES,
    PROMPT_CACHE_BYTES,
    CachedImageEncoder,
    CachedPromptEncoder,
    EncodingCache,
)
from gendataagent.generation.diffusion.loading import load_pipeline, move_to_device
from gendataagent.generation.diffusion.prompts import TokenCounter, truncates_class_name
from gendataagent.generation.diffusion.signature import CallSignature
from gendataagent.generation.diffusion.spec import DiffusionSpec
from gendataagent.generation.diffusion.steerer import Steerer
from gendataagent.generation.diffusion.switches import flip_switches

_BLACK_BELOW = 8  # of 255: NaN latents and safety checkers leave an image darker than this


class DiffusionGenerator:
    """Makes images with a diffusers image-to-image pipeline.

    The noise of an image comes from a CPU generator seeded by its request. Matrix kernels round
    differently for different batch sizes, so every pipeline call has `generation.batch_size`
    images, the last request repeated where there are fewer: an image is then the same to the bit
    whatever it is batched with. Only when the device runs out of memory is the batch made smaller.

    A request with feedback is steered by `guide`, see `generation.feedback`. With a ControlNet an
    image follows the edges of its source, found in the square that would be its start. With a LoRA
    for each class, requests are grouped by class, and each group is drawn with the LoRA of its own.

    Sources and texts are encoded once (`encoding_cache`). A prompt whose class name does not fit
    the text encoder is rejected, because its image could show anything.
    """

    def __init__(self, spec: DiffusionSpec, guide: Guide | None = None) -> None:
        self._dtype = torch_dtype(image_dtype_name(spec.dtype, spec.device))
        self._pipeline = load_pipeline(spec, self._dtype)
        self._signature = CallSignature.of(self._pipeline, spec.model, spec.size_px, spec.control)
        move_to_device(self._pipeline, spec)
        self._class_loras: ClassLoraSwitch | None = None
        if spec.class_loras:
            loras = read_class_loras(spec.class_loras)
            self._class_loras = ClassLoraSwitch(self._pipeline, loras, spec.lora_scale)
        self.description = spec.describe()  # after loading, when the mirror in use is on disk
        self._count_tokens = TokenCounter.of_pipeline(self._pipeline)
        self.latent_cache = EncodingCache(LATENT_CACHE_BYTES)
        self.prompt_cache = EncodingCache(PROMPT_CACHE_BYTES)
        self._pipeline.vae.encode = CachedImageEncoder(self._pipeline.vae, self.latent_cache)
        self._pipeline.encode_prompt = CachedPromptEncoder(self._pipeline, self.prompt_cache)
        self._steerer: Steerer | None = None
        if guide is not None:
            self._steerer = Steerer(
                self._pipeline, guide, decoder=spec.feedback_decoder, size_px=self.size_px
            )
        flip_switches(self._pipeline, spec)  # last: feedback decodes by the VAE all the same
        self._batch_size = BatchSize(
            spec.batch_size,
            too_large="the device has not enough memory for a single image; lower "
            "generation.size_px, set generation.dtype=float16, or name another device",
            make_room=self._enable_vae_slicing,
        )

    @property
    def size_px(self) -> int:
        """Side of the square images made, in pixels."""
        return self._signature.size_px

    @property
    def pipeline(self) -> Any:
        """The pipeline of diffusers."""
        return self._pipeline

    @property
    def batch_size(self) -> int:
        """Images per pipeline call; less than the spec's once the memory ran out."""
        return self._batch_size.size

    def render(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        """Return one result per request, in order; an unusable one has a rejection reason.

        Reasons: class-cut-off, flagged-by-safety-checker, black-image.
        """
        rendered = [Rendered(image=None, rejected_by="class-cut-off")] * len(requests)
        groups: dict[tuple[str, tuple[object, ...]], list[int]] = {}
        for i, request in enumerate(requests):
            if not truncates_class_name(request.prompt, self._count_tokens):
                drawn_by = request.class_name if self._class_loras else ""
                groups.setdefault((drawn_by, _shared_settings(request)), []).append(i)
        for (drawn_by, _), group in groups.items():
            if self._class_loras is not None:
                self._class_loras.use(drawn_by)
            results = self._render_group([requests[i] for i in group])
            for i, result in zip(group, results, strict=True):
                rendered[i] = result
        return rendered

    def _render_group(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        """Render requests of the same settings, black images a second time in full precision."""
        results = self._batch_size.map(self._run_pipeline, requests)
        black = [i for i, result in enumerate(results) if result.rejected_by == "black-image"]
        if black and self._dtype != torch.float32:
            # Half precision can overflow to NaN latents, which decode to black.
            self._pipeline.to(torch.float32)
            retried = self._batch_size.map(self._run_pipeline, [requests[i] for i in black])
            self._pipeline.to(self._dtype)
            for i, result in zip(black, retried, strict=True):
                results[i] = result
        return results

    def _enable_vae_slicing(self) -> bool:
        """Make the VAE work on one image at a time; return False if it did already or cannot."""
        vae = self._pipeline.vae
        if not hasattr(vae, "enable_slicing") or vae.use_slicing:
            return False
        vae.enable_slicing()
        return True

    def _steering(self, requests: Sequence[RenderRequest]) -> AbstractContextManager[None]:
        if requests[0].feedback is None:
            return nullcontext()
        if self._steerer is None:
            raise GenerationError(
                "a request has feedback, but the generator was built without a guide; build it "
                "with DiffusionFactory.with_guide"
            )
        return self._steerer.steering(requests)

    def _run_pipeline(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        missing = self._batch_size.size - len(requests)
        padded = [*requests, *[requests[-1]] * missing]
        # A network that is moved in inference mode, as SDXL's autoencoder is, passes no gradients.
        no_gradients = torch.no_grad() if self._steerer else torch.inference_mode()
        with repeatable_kernels(), no_gradients, self._steering(padded):
            output = self._pipeline(**self._signature.arguments(padded))
        flagged = getattr(output, "nsfw_content_detected", None) or [False] * len(padded)
        return [
            Rendered(image=image, rejected_by=_rejection_reason(image, bool(flag)))
            for image, flag in zip(output.images, flagged, strict=True)
        ][: len(requests)]


def _shared_settings(request: RenderRequest) -> tuple[object, ...]:
    feedback = request.feedback
    return (
        request.strength,
        request.guidance_scale,
        request.num_inference_steps,
        replace(feedback, label=0) if feedback else None,
    )


def _rejection_reason(image: Image.Image, flagged: bool) -> str | None:
    if flagged:
        return "flagged-by-safety-checker"
    return "black-image" if int(np.asarray(image).max()) < _BLACK_BELOW else None
