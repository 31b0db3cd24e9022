"""The training to its end, with checkpoints, sample images and the loss curve."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gendataagent.core import files
from gendataagent.core.checkpoints import load_latest, save_checkpoint
from gendataagent.core.errors import DataError
from gendataagent.core.records import derive_seed
from gendataagent.core.text import as_name, counted
from gendataagent.generation.adaptation.batches import MIN_IMAGES
from gendataagent.generation.adaptation.job import CHECKPOINTS, AdaptationJob, shuffled
from gendataagent.generation.adaptation.training_prompts import (
    TrainingPrompts,
    class_names_in_words,
)

if TYPE_CHECKING:
    from gendataagent.generation.adaptation.trainer import AdaptationTrainer, Step

SAMPLES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A finished training.

    Args:
        paths: the files that were written.
        losses: mean loss of each epoch.
    """

    paths: tuple[Path, ...]
    losses: list[float]
    epochs: int
    steps: int


def check_images(job: AdaptationJob, pipeline: Any, size_px: int) -> None:
    """Raise for images that the training cannot use, before any slow step.

    Raises:
        ConfigError, DataError, ModelError: settings, images or pipeline do not fit together.
    """
    from gendataagent.generation.adaptation.trainable import check_trainable

    settings, images = job.config.adaptation, job.images
    check_trainable(pipeline, images, settings, size_px=size_px)
    counts = Counter(images.labels)
    least = MIN_IMAGES if settings.per_class and settings.mmd_weight > 0 else 1
    few = [name for label, name in enumerate(images.class_names) if counts[label] < least]
    learned = "words" if settings.trains_tokens else "LoRAs"
    if few and (settings.trains_tokens or settings.per_class):
        raise DataError(
            f"adaptation: {learned} of classes are learned from at least "
            f"{counted(least, 'training image', 'training images')} of each, but {as_name(few[0])} "
            f"has {counts[images.class_names.index(few[0])]}; add images, or leave the class out"
        )
    if settings.trains_lora and settings.batch_size > len(images):
        job.progress.say(
            f"adaptation.batch_size is {settings.batch_size}, but there are {len(images)} "
            "images: each step uses all of them"
        )


def train_and_save(
    job: AdaptationJob, pipeline: Any, prompts: TrainingPrompts, size_px: int
) -> Trained:
    """Train on all images of a job at once, and write what was trained."""
    from gendataagent.generation.adaptation.trainer import AdaptationTrainer

    trainer = AdaptationTrainer(
        pipeline,
        job.images,
        prompts.full,
        job.config.adaptation,
        seed=job.seed,
        size_px=size_px,
        device=job.spec.device,
        precision=job.precision,
        words=class_names_in_words(job),
        labels=job.images.labels,
    )
    with trainer:
        losses = train_to_end(job, trainer, prompts.full, size_px)
        paths = tuple(part.save(job.folder) for part in trainer.parts.values())
    return Trained(paths=paths, losses=losses, epochs=trainer.epochs_done, steps=trainer.steps)


def train_to_end(
    job: AdaptationJob, trainer: AdaptationTrainer, prompts: list[str], size_px: int
) -> list[float]:
    """Train to the last step, from the newest valid checkpoint; return each epoch's mean loss."""
    settings, checkpoints = job.config.adaptation, job.folder / CHECKPOINTS
    trainer.cache(job.progress)
    curve = _LossCurve()
    found = load_latest(checkpoints)
    if found is not None:
        for sentence in found.damaged:
            job.progress.say(f"{sentence}; using the one before")
        trainer.load_state(found.tensors, found.state["trainer"])
        curve = _LossCurve(**found.state["curve"])
        for name, seconds in found.state["seconds"].items():
            job.watch.seconds[name] = job.watch.seconds.get(name, 0.0) + seconds
        job.progress.say(f"resuming after step {trainer.steps_done} of {trainer.steps}")
    elif settings.sample_every_epochs:
        _write_samples(job, trainer, prompts, size_px)
    with (
        job.progress.stage("adapt", trainer.steps, "steps", trainer.steps_done) as stage,
        contextlib.closing(trainer.train()) as steps,
    ):
        while True:
            with job.watch.measure("train"):
                step = next(steps, None)
            if step is None:
                return curve.losses
            last = step.number == trainer.steps
            ends_epoch = last or step.number % trainer.steps_per_epoch == 0
            curve.add(step, ends_epoch=ends_epoch)
            every = settings.sample_every_epochs
            if every and ends_epoch and (last or step.epoch % every == 0):
                _write_samples(job, trainer, prompts, size_px)
            if last or step.number % settings.checkpoint_every_steps == 0:
                tensors, state = trainer.state()
                rest = {"curve": asdict(curve), "seconds": job.watch.seconds}
                save_checkpoint(checkpoints, step.number, tensors, {"trainer": state, **rest})
            stage.advance()


@dataclass(slots=True)
class _LossCurve:
    """Mean loss of each finished epoch, and the running sum of the current one."""

    losses: list[float] = field(default_factory=list)
    sum: float = 0.0
    images: int = 0

    def add(self, step: Step, *, ends_epoch: bool) -> None:
        self.sum += step.loss * step.images
        self.images += step.images
        if ends_epoch:
            self.losses.append(self.sum / self.images)
            self.sum, self.images = 0.0, 0


def _write_samples(
    job: AdaptationJob, trainer: AdaptationTrainer, prompts: list[str], size_px: int
) -> None:
    """Write this epoch's contact sheet: a LoRA at full strength, fixed prompts and seeds."""
    from gendataagent.generation.adaptation.samples import TextToImage, contact_sheet

    chosen = _balanced_sample(job, SAMPLES)
    with job.watch.measure("sample"), trainer.sampling() as pipeline:
        generated = TextToImage(pipeline, job.config.generation, size_px=size_px).images(
            [prompts[i] for i in chosen],
            [derive_seed(job.seed, "sample", job.images.ids[i]) for i in chosen],
        )
    real = [job.images.image(i) for i in chosen]
    buffer = io.BytesIO()
    contact_sheet([real, generated], size_px).save(buffer, format="PNG")
    name = f"epoch-{trainer.epochs_done:04d}.png"
    files.write_bytes(job.folder / "samples" / name, buffer.getvalue())


def _balanced_sample(job: AdaptationJob, count: int) -> list[int]:
    """Return up to `count` random indices, spread over the classes as evenly as possible."""
    labels = job.images.labels
    seen: dict[int, int] = {}
    ranked = []
    for index in shuffled(job.seed, "sample", job.images):
        turn = seen[labels[index]] = seen.get(labels[index], 0) + 1
        ranked.append((turn, labels[index], index))
    return [index for _, _, index in sorted(ranked)[:count]]
