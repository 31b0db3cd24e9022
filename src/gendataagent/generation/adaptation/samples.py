"""Images from text alone, to show and to measure the effect of the adaptation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from gendataagent.config import GenerationConfig
from gendataagent.core.devices import BatchSize
from gendataagent.core.progress import Progress
from gendataagent.data.decoding.images import centre_square

BATCH_SIZE = 8  # where the settings leave the generator's open
_GAP_PX = 2


class TextToImage:
    """Generates from prompts with fixed seeds, using the parts of an image-to-image pipeline.

    From text alone and not from real images: an image started from a real latent keeps much of the
    real image, which would hide the generator's share.
    """

    def __init__(self, pipeline: Any, settings: GenerationConfig, *, size_px: int) -> None:
        from diffusers import AutoPipelineForText2Image

        self._pipeline = AutoPipelineForText2Image.from_pipe(pipeline)
        self._pipeline.set_progress_bar_config(disable=True)
        self._settings = settings
        self._size_px = size_px
        self._batch_size = BatchSize(
            settings.batch_size if isinstance(settings.batch_size, int) else BATCH_SIZE,
            too_large="the device has not enough memory to generate a single image; lower "
            "adaptation.size_px, or set adaptation.measure_images=0 and "
            "adaptation.sample_every_epochs=0",
        )

    def latents(
        self, prompts: Sequence[str], seeds: Sequence[int], progress: Progress, name: str
    ) -> Tensor:
        """Return the final latents before decoding, float32 on the CPU."""
        with progress.stage(name, len(prompts), "images") as stage:

            def generate(batch: Sequence[tuple[str, int]]) -> Sequence[Tensor]:
                latents_BCSS = self._generate(batch, "latent").float().cpu()
                stage.advance(len(batch))
                return list(latents_BCSS)

            latents = self._batch_size.map(generate, list(zip(prompts, seeds, strict=True)))
        return torch.stack(latents)

    def images(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """Return the images; those that a safety checker flags are black."""
        return self._batch_size.map(
            lambda batch: self._generate(batch, "pil"), list(zip(prompts, seeds, strict=True))
        )

    @torch.inference_mode()
    def _generate(self, batch: Sequence[tuple[str, int]], output_type: str) -> Any:
        """Return one image for each (prompt, seed), as a list ("pil") or a tensor ("latent")."""
        settings = self._settings
        return self._pipeline(
            prompt=[prompt for prompt, _ in batch],
            negative_prompt=[settings.negative_prompt] * len(batch),
            height=self._size_px,
            width=self._size_px,
            guidance_scale=settings.guidance,
            num_inference_steps=settings.steps,
            generator=[torch.Generator("cpu").manual_seed(seed) for _, seed in batch],
            output_type=output_type,
        ).images


def contact_sheet(rows: Sequence[Sequence[Image.Image]], size_px: int) -> Image.Image:
    """Return the rows of images below each other, each image a centre square of `size_px`."""
    step = size_px + _GAP_PX
    columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (columns * step - _GAP_PX, len(rows) * step - _GAP_PX), "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            square = centre_square(image.convert("RGB"), size_px, on_pixel_grid=True)
            sheet.paste(square, (x * step, y * step))
    return sheet
