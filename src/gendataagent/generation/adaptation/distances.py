"""Distance of generated images to real images, before and after the adaptation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from gendataagent.core.errors import ModelError
from gendataagent.core.records import derive_seed
from gendataagent.data import LabelledImages
from gendataagent.generation.adaptation.job import BEFORE_FILE, AdaptationJob, shuffled
from gendataagent.generation.adaptation.latents import LatentEncoder, LatentSource
from gendataagent.generation.adaptation.mmd import MIN_IMAGES, KernelMMD, latent_features
from gendataagent.generation.adaptation.result import Distances
from gendataagent.generation.adaptation.samples import TextToImage
from gendataagent.generation.adaptation.training_prompts import TrainingPrompts
from gendataagent.generation.adaptation.written import with_written

REFERENCES_PER_IMAGE = 5  # real images are cheap beside generated ones, and steady the estimate


class DistanceMeasurement:
    """Measures the distances; the features from before training are kept on disk."""

    def __init__(
        self, job: AdaptationJob, pipeline: Any, prompts: TrainingPrompts, size_px: int
    ) -> None:
        self._job, self._pipeline, self._size_px = job, pipeline, size_px
        count = job.config.adaptation.measure_images
        self._chosen = shuffled(job.seed, "measure", job.images)[:count]
        self._prompts = prompts.at(self._chosen)
        self._seeds = [derive_seed(job.seed, "measure", job.images.ids[i]) for i in self._chosen]
        self._reference_images = job.images if job.reference is None else job.reference
        order = shuffled(job.seed, "reference", self._reference_images)
        self._reference = order[: REFERENCES_PER_IMAGE * count]
        self._enabled = count > 0 and min(len(self._chosen), len(order)) >= MIN_IMAGES
        if count and not self._enabled:
            job.progress.say(
                f"no distance is measured: it needs at least {MIN_IMAGES} training images and "
                f"{MIN_IMAGES} reference images"
            )

    def before(self) -> None:
        """Generate with the original model and encode the real images, unless this is on disk."""
        if not self._enabled or self._read() is not None:
            return
        job = self._job
        with job.watch.measure("measure"):
            tensors = {
                "before": self._generated(self._prompts.plain, "generate before"),
                "train": self._real(job.images, self._chosen),
                "reference": self._real(self._reference_images, self._reference),
            }
        content = safetensors.torch.save(tensors, metadata={"of": self._inputs_hash()})
        job.seals.write(job.folder / BEFORE_FILE, content)

    def after(self) -> Distances | None:
        """Load what was written as any user would, generate the same images, and compare.

        Raises:
            ModelError: it does not change the images.
        """
        features = self._read() if self._enabled else None
        if features is None:
            return None
        job, scale = self._job, self._job.config.generation.lora_scale
        adaptation = job.config.adaptation
        with job.watch.measure("measure"), with_written(self._pipeline, job) as choose:
            after_ND = self._generated(self._prompts.full, "generate after", choose)
        if (scale > 0 or adaptation.trains_tokens) and torch.equal(after_ND, features["before"]):
            raise ModelError(
                f"what was trained in {job.folder} has no effect when it is loaded again; raise "
                "adaptation.learning_rate, adaptation.token_learning_rate or adaptation.epochs"
            )
        mmd = KernelMMD(features["reference"])
        held_out = job.reference is not None
        return Distances(
            before=mmd.distance(features["before"]),
            after=mmd.distance(after_ND),
            change=mmd.change(features["before"], after_ND),
            floor=mmd.distance(features["train"]) if held_out else None,
            images=len(self._chosen),
            reference_images=len(self._reference),
            lora_scale=scale if adaptation.trains_lora else None,
        )

    def _generated(
        self, prompts: list[str], stage: str, choose: Callable[[str], None] | None = None
    ) -> Tensor:
        """Return the features of the images of the prompts, [N, D].

        Args:
            choose: called with a class before its images are generated; None = not needed.
        """
        self._pipeline.to(self._job.spec.device)
        generator = TextToImage(self._pipeline, self._job.config.generation, size_px=self._size_px)
        images = self._job.images
        label_of = [images.labels[i] if choose else 0 for i in self._chosen]
        found: dict[int, Tensor] = {}
        for label in sorted(set(label_of)):
            rows = [row for row, its in enumerate(label_of) if its == label]
            if choose is not None:
                choose(images.class_names[label])
            latents_BCSS = generator.latents(
                [prompts[row] for row in rows],
                [self._seeds[row] for row in rows],
                self._job.progress,
                stage,
            )
            found.update(zip(rows, latents_BCSS, strict=True))
        return latent_features(torch.stack([found[row] for row in range(len(label_of))]))

    def _real(self, images: LabelledImages, indices: list[int]) -> Tensor:
        source = LatentSource(
            images,
            LatentEncoder(self._pipeline),
            size_px=self._size_px,
            random_crop=False,
            flip=False,
        )
        return latent_features(source.means(indices, self._job.progress, "encode real"))

    def _read(self) -> dict[str, Tensor] | None:
        """Return what `before` wrote; None if it is missing, damaged, or of other inputs."""
        path = self._job.folder / BEFORE_FILE
        if self._job.seals.damage(path):
            return None
        try:
            with safetensors.safe_open(path, framework="pt") as opened:
                if (opened.metadata() or {}).get("of") != self._inputs_hash():
                    return None
            return safetensors.torch.load_file(path)
        except (OSError, safetensors.SafetensorError):
            return None

    def _inputs_hash(self) -> str:
        """Return a hash of everything the features depend on."""
        generation = self._job.config.generation
        parts = [
            self._prompts.plain, self._seeds,
            [self._reference_images.ids[i] for i in self._reference],
            self._reference_images.subset(self._reference).content_hashes(),
            generation.guidance, generation.steps, generation.negative_prompt,
            generation.scheduler, generation.batch_size, self._size_px,
        ]  # fmt: skip
        return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()
