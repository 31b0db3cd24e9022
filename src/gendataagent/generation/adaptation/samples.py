"""Images from text alone, to see and to measure what the adaptation did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from gendataagent.config import GenerationConfig
from gendataagent.core.devices import BatchSize
from gendataagent.core.progress import Progress
from gendataagent.generation.diffusion.loading import square

DRAWN_TOGETHER = 8
_GAP_PX = 2


class TextToImage:
    """Draws from prompts with fixed seeds, with the parts of an image-to-image pipeline.

    From text alone, not from real images: of what is drawn from a real latent, much is the real
    image's own, and the generator's share would hardly show.
    """

    def __init__(self, pipeline: Any, settings: GenerationConfig, *, size_px: int) -> None:
        from diffusers import AutoPipelineForText2Image

        self._pipeline = AutoPipelineForText2Image.from_pipe(pipeline)
        self._pipeline.set_progress_bar_config(disable=True)
        self._settings = settings
        self._size_px = size_px
        self._batch_size = BatchSize(
            DRAWN_TOGETHER,
            too_large="the device has not enough memory to draw a single image; lower "
            "adaptation.size_px, or set adaptation.measure_images=0 and "
            "adaptation.sample_every_epochs=0",
        )

    def latents(
        self, prompts: Sequence[str], seeds: Sequence[int], progress: Progress, name: str
    ) -> Tensor:
        """Return the latents the drawings end with, before decoding, float32 on the CPU."""
        with progress.stage(name, len(prompts), "images") as stage:

            def draw(batch: Sequence[tuple[str, int]]) -> Sequence[Tensor]:
                latents_BCSS = self._draw(batch, "latent").float().cpu()
                stage.advance(len(batch))
                return list(latents_BCSS)

            drawn = self._batch_size.map(draw, list(zip(prompts, seeds, strict=True)))
        return torch.stack(drawn)

    def images(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """Return the images; a safety checker, where the pipeline has one, blackens some."""
        return self._batch_size.map(
            lambda batch: self._draw(batch, "pil"), list(zip(prompts, seeds, strict=True))
        )

    @torch.inference_mode()
    def _draw(self, batch: Sequence[tuple[str, int]], kind: str) -> Any:
        """Return one image for each (prompt, seed), as a list ("pil") or a tensor ("latent")."""
        settings = self._settings
        return self._pipeline(
            prompt=[prompt for prompt, _ in batch],
            negative_prompt=[settings.negative_prompt] * len(batch),
            height=self._size_px,
            width=self._size_px,
            guidance_scale=settings.guidance_scale,
            num_inference_steps=settings.num_inference_steps,
            generator=[torch.Generator("cpu").manual_seed(seed) for _, seed in batch],
            output_type=kind,
        ).images


def sheet(rows: Sequence[Sequence[Image.Image]], size_px: int) -> Image.Image:
    """Return the images as one: a row under another, each brought to a square of `size_px`."""
    step = size_px + _GAP_PX
    columns = max(len(row) for row in rows)
    whole = Image.new("RGB", (columns * step - _GAP_PX, len(rows) * step - _GAP_PX), "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            whole.paste(square(image.convert("RGB"), size_px), (x * step, y * step))
    return whole
