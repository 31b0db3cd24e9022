"""How far what the generator draws lies from real images, before and after."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from gendataagent.core import files
from gendataagent.core.errors import ModelError
from gendataagent.core.records import derive_seed
from gendataagent.data import LabelledImages
from gendataagent.generation.adaptation.job import Job, shuffled
from gendataagent.generation.adaptation.latents import LatentEncoder, LatentSource
from gendataagent.generation.adaptation.mmd import Yardstick, latent_features
from gendataagent.generation.adaptation.outcome import Distances
from gendataagent.generation.adaptation.samples import TextToImage

MIN_MEASURED = 3
REFERENCE_FOR_EACH_DRAWN = 5  # real images are cheap beside drawn ones, and steady the distance


class Measure:
    """The distances before and after; what is needed of before is kept on disk."""

    def __init__(self, job: Job, pipeline: Any, prompts: list[str], size_px: int) -> None:
        self._job, self._pipeline, self._size_px = job, pipeline, size_px
        wanted = job.config.adaptation.measure_images
        self._chosen = shuffled(job.seed, "measure", job.images)[:wanted]
        self._prompts = [prompts[i] for i in self._chosen]
        self._seeds = [derive_seed(job.seed, "measure", job.images.ids[i]) for i in self._chosen]
        against = job.images if job.reference is None else job.reference
        order = shuffled(job.seed, "reference", against)
        self._against = against
        self._reference = order[: REFERENCE_FOR_EACH_DRAWN * wanted]
        self._wanted = wanted > 0 and min(len(self._chosen), len(order)) >= MIN_MEASURED
        if wanted and not self._wanted:
            job.progress.say(
                f"no distance is measured: it takes {MIN_MEASURED} images on either side"
            )

    def before(self) -> None:
        """Draw with the model as it is, and encode the real images, unless that is on disk."""
        if not self._wanted or self._kept() is not None:
            return
        job = self._job
        with job.watch.measure("measure"):
            tensors = {
                "before": self._drawn("draw before"),
                "train": self._real(job.images, self._chosen),
                "reference": self._real(self._against, self._reference),
            }
        content = safetensors.torch.save(tensors, metadata={"of": self._of()})
        files.write_bytes(job.folder / "before.safetensors", content)

    def after(self, weights: Path) -> Distances | None:
        """Load the written LoRA as any user would, draw the same again, and compare.

        Raises:
            ModelError: the written weights change nothing about what is drawn.
        """
        kept = self._kept() if self._wanted else None
        if kept is None:
            return None
        job, scale = self._job, self._job.config.generation.lora_scale
        with job.watch.measure("measure"):
            self._pipeline.load_lora_weights(
                str(weights.parent), weight_name=weights.name, adapter_name="written"
            )
            self._pipeline.set_adapters("written", scale)
            after_ND = self._drawn("draw after")
            self._pipeline.unload_lora_weights()
        if scale > 0 and torch.equal(after_ND, kept["before"]):
            raise ModelError(f"the LoRA in {weights} changes nothing when it is loaded again")
        yardstick = Yardstick(kept["reference"])
        held_out = job.reference is not None
        return Distances(
            before=yardstick.distance(kept["before"]),
            after=yardstick.distance(after_ND),
            change=yardstick.change(kept["before"], after_ND),
            floor=yardstick.distance(kept["train"]) if held_out else None,
            images=len(self._chosen),
            reference_images=len(self._reference),
            lora_scale=scale,
        )

    def _drawn(self, name: str) -> Tensor:
        self._pipeline.to(self._job.factory.device)
        drawing = TextToImage(self._pipeline, self._job.config.generation, size_px=self._size_px)
        return latent_features(
            drawing.latents(self._prompts, self._seeds, self._job.progress, name)
        )

    def _real(self, images: LabelledImages, indices: list[int]) -> Tensor:
        source = LatentSource(
            images,
            LatentEncoder(self._pipeline),
            size_px=self._size_px,
            random_crop=False,
            flip=False,
        )
        return latent_features(source.means(indices, self._job.progress, "encode real"))

    def _kept(self) -> dict[str, Tensor] | None:
        """Return what `before` wrote, None if it is not there or of other images or settings."""
        path = self._job.folder / "before.safetensors"
        try:
            with safetensors.safe_open(path, framework="pt") as opened:
                if (opened.metadata() or {}).get("of") != self._of():
                    return None
            return safetensors.torch.load_file(path)
        except (OSError, safetensors.SafetensorError):  # not there, or not whole
            return None

    def _of(self) -> str:
        """Return a hash of what the distances are measured on."""
        generation = self._job.config.generation
        parts = [
            self._prompts, self._seeds, [self._against.ids[i] for i in self._reference],
            generation.guidance_scale, generation.num_inference_steps, generation.negative_prompt,
            generation.scheduler, self._size_px,
        ]  # fmt: skip
        return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()
