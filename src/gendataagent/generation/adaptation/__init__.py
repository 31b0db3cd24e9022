"""Adapting the generator to the real training images by LoRA, in a folder of its own.

Recipe: Real-Fake's (see `config.AdaptationConfig`). What lies in the folder:

    config.toml                         all settings, for --resume
    settings.json                       what it is made of; a folder is never used for anything else
    prompts.jsonl                       caption and full prompt of each training image
    checkpoints/epoch-0000400/          states to resume from; the number counts steps
    before.safetensors                  what the distances before are measured on
    samples/epoch-0010.png              above the real images, below what their prompts now give
    pytorch_lora_weights.safetensors    the LoRA, as diffusers writes it; loads elsewhere too
    adaptation.json                     written last: `Adaptation`
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from gendataagent.config import RunConfig
from gendataagent.core import files
from gendataagent.core.devices import resolve_device
from gendataagent.core.errors import ConfigError
from gendataagent.core.memory import PeakMemory
from gendataagent.core.progress import Progress, SilentProgress
from gendataagent.core.protocols import Captioner
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import LabelledImages
from gendataagent.generation.adaptation.job import (
    CONFIG_FILE,
    Job,
    check_free,
    claim,
    full_prompts,
    made_of,
)
from gendataagent.generation.adaptation.outcome import (
    RECORD_FILE,
    Adaptation,
    Distances,
    read_adaptation,
    rows_of,
)
from gendataagent.generation.backends import build_backends

__all__ = ["CONFIG_FILE", "Adaptation", "Distances", "adapt", "read_adaptation", "rows_of"]


def adapt(
    config: RunConfig,
    images: LabelledImages,
    out: str | Path,
    *,
    reference: LabelledImages | None = None,
    captioner: Captioner | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Adaptation:
    """Adapt the generator of `config` to `images`; go on where an earlier attempt stopped.

    A folder that is finished is read back. At most `adaptation.checkpoint_every_steps` steps are
    lost, however it is stopped, and the outcome is the same to the bit as without the stop.

    Args:
        images: the training images.
        reference: real images kept out of training, such as the validation split, to measure
            the distance to; None = the training images themselves, then without a floor.
        captioner: None = the one of the settings.
        device: torch device; None = the one of the settings.

    Raises:
        ConfigError, DataError, ModelError: settings, images or generator do not fit.
        RunFolderError: the folder is of another adaptation, or taken.
        TrainingDivergedError: the loss is not a finite number.
    """
    from gendataagent.generation.adaptation.lora_trainer import resolve_precision
    from gendataagent.generation.diffusion import DiffusionFactory

    if config.generation.lora:
        raise ConfigError(
            "generation.lora must be empty when the generator is adapted (the new weights would be "
            f"fitted without it); got {config.generation.lora!r}"
        )
    device = device or resolve_device(config.device)
    backends = build_backends(replace(config, device=device))
    if not isinstance(backends.generator, DiffusionFactory):
        raise ConfigError(
            "generation.generator must be a diffusers pipeline to be adapted, got "
            f"{config.generation.generator!r}"
        )
    job = Job(
        config=config,
        images=images,
        reference=reference if reference is not None and len(reference) else None,
        folder=Path(out),
        factory=backends.generator,
        precision=resolve_precision(config.adaptation.mixed_precision, device),
        captioner=captioner or backends.captioner,
        progress=progress or SilentProgress(),
    )
    check_free(job.folder)
    job.folder.mkdir(parents=True, exist_ok=True)
    with RunFolder(job.folder).lock():
        claim(job)
        files.write_bytes(job.folder / CONFIG_FILE, config.to_toml().encode())
        if (job.folder / RECORD_FILE).is_file():
            return read_adaptation(job.folder)
        return _adapt(job)


def _adapt(job: Job) -> Adaptation:
    from gendataagent.generation.adaptation.fitting import fit
    from gendataagent.generation.adaptation.lora_trainer import LoraTrainer, check_fit, weight_dtype
    from gendataagent.generation.adaptation.measuring import Measure
    from gendataagent.generation.diffusion.loading import load_pipeline

    settings = job.config.adaptation
    with PeakMemory(job.factory.device) as memory:
        # The pipeline first, though captions come before it: what does not fit shows at once.
        pipeline = load_pipeline(job.factory, weight_dtype(job.precision))
        size_px = _size_px(job, pipeline)
        check_fit(pipeline, job.images, settings, size_px=size_px)
        if settings.batch_size > len(job.images):
            job.progress.say(
                f"adaptation.batch_size is {settings.batch_size}, but there are {len(job.images)} "
                "images: each step takes them all"
            )
        prompts = full_prompts(job)
        measure = Measure(job, pipeline, prompts, size_px)
        measure.before()
        trainer = LoraTrainer(
            pipeline,
            job.images,
            prompts,
            settings,
            seed=job.seed,
            size_px=size_px,
            device=job.factory.device,
            precision=job.precision,
        )
        with trainer:
            losses = fit(job, trainer, prompts, size_px)
            weights = trainer.layers.save(job.folder)
        distances = measure.after(weights)
    files.write_json(
        job.folder / RECORD_FILE,
        {
            "weights_sha256": files.file_sha256(weights),
            "generator": asdict(job.factory.describe()),
            "images": len(job.images),
            "epochs": settings.epochs,
            "steps": trainer.steps,
            "size_px": size_px,
            "precision": job.precision,
            "settings": made_of(job),
            "losses": losses,
            "seconds": job.watch.seconds,
            "peak_memory_mib": memory.mib,
            "distances": None if distances is None else asdict(distances),
        },
    )
    if distances is not None:
        job.progress.say(_in_words(distances))
    return read_adaptation(job.folder)


def _in_words(distances: Distances) -> str:
    """Return one sentence on how near the generator was and is; MMD^2 x 1000."""
    named = [
        f"{name} {1000 * distance.mmd2:.2f} ± {1000 * distance.standard_error:.2f}"
        for name, distance in rows_of(distances)
    ]
    return f"adapted; distance to real images (MMD² x 1000): {'; '.join(named)}"


def _size_px(job: Job, pipeline: Any) -> int:
    """Return the side of the training images: the setting, else that of the generator's own."""
    asked = job.config.adaptation.size_px or job.config.generation.size_px
    if asked or not hasattr(pipeline, "unet"):
        return asked
    return int(pipeline.unet.config.sample_size) * int(pipeline.vae_scale_factor)
