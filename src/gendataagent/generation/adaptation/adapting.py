"""Adapt the generator to the real training images, in a folder of its own.

The recipes are in `config.AdaptationConfig`. The folder holds:

    config.toml                         all settings, for --resume
    settings.json                       the inputs; the folder accepts no others
    prompts.jsonl                       caption and full prompt of each training image
    checkpoints/epoch-0000400/          states to resume from; the number counts steps
    before.safetensors                  features that the distances before training are measured on
    samples/epoch-0010.png              top row real images, bottom row images from their prompts
    pytorch_lora_weights.safetensors    the LoRA in diffusers' format; other programs load it too
    class_tokens.safetensors            the words of the classes, see `diffusion.class_tokens`
    classes/cat/, class_loras.json      with per_class: the same of each class, see `each_class`
    adaptation.json                     the result: `Adaptation`
    DONE                                written last: SHA-256 of the files above
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from gendataagent.config import RunConfig
from gendataagent.config.paths import with_absolute_paths
from gendataagent.core import files
from gendataagent.core.devices import (
    cpu_threads,
    default_threads,
    repeatable_kernels,
    resolve_device,
)
from gendataagent.core.errors import ConfigError, StorageError
from gendataagent.core.inside import refuse_ways_out
from gendataagent.core.memory import PeakMemory
from gendataagent.core.progress import Progress, SilentProgress
from gendataagent.core.protocols import Captioner
from gendataagent.core.run_folder import DONE, RunFolder, mark_folder_done
from gendataagent.data import LabelledImages
from gendataagent.generation.adaptation.checks import checked_spec
from gendataagent.generation.adaptation.job import (
    CONFIG_FILE,
    AdaptationJob,
    check_folder,
    claim_folder,
    inputs_of,
    say_if_elsewhere,
    with_recorded,
)
from gendataagent.generation.adaptation.result import (
    RECORD_FILE,
    Adaptation,
    Distances,
    distance_rows,
    read_adaptation,
)
from gendataagent.generation.adaptation.training_prompts import training_prompts
from gendataagent.generation.backends import (
    build_backends,
    build_generator,
    with_backends_chosen,
)


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
    """Adapt the generator of `config` to `images`, resuming an earlier attempt in the folder.

    A finished adaptation is read from its folder. An interruption loses at most
    `adaptation.checkpoint_every_steps` steps, and the result is the same to the bit as without it.

    Args:
        images: the training images.
        reference: held-out real images, such as the validation split, to measure the distance to;
            None = the training images themselves, without a floor.
        captioner: None = the one of the settings.
        device: torch device; None = the one of the settings.

    Raises:
        ConfigError, DataError, ModelError: settings, images or generator do not fit together.
        RunFolderError: the folder belongs to another adaptation, or another process uses it.
        TrainingDivergedError: the loss is not a finite number.
    """
    for name in ("lora", "class_loras", "class_tokens"):
        if named := getattr(config.generation, name):
            raise ConfigError(
                f"generation.{name} must be empty when the generator is adapted: the new weights "
                f"would be trained without it; got {named!r}"
            )
    refuse_ways_out(out)
    device = device or resolve_device(config.device)
    # LoRA layers are trained on the plain generator, whose steps and guidance are others.
    plain = replace(config.generation.without_few_steps(), condition="none")
    config = replace(config, generation=plain)
    config = with_backends_chosen(with_recorded(config, Path(out)), device)
    on_device = replace(config, device=device)
    if captioner is None:
        backends = build_backends(on_device)
        generator, captioner = backends.generator, backends.captioner
    else:
        generator = build_generator(on_device)
    spec = checked_spec(config, generator)
    config = replace(config, threads=config.threads or default_threads(workers=1))
    job = AdaptationJob(
        config=config,
        images=images,
        reference=reference if reference is not None and len(reference) else None,
        folder=Path(out),
        spec=spec,
        precision=config.adaptation.mixed_precision,
        captioner=captioner,
        progress=progress or SilentProgress(),
    )
    try:
        check_folder(job.folder)
        files.make_folder(job.folder)
    except OSError as error:
        raise StorageError(
            f"cannot create the folder {job.folder}: {error.strerror or error}; name one that you "
            "can write to"
        ) from error
    with RunFolder(job.folder).lock(), cpu_threads(config.threads), repeatable_kernels():
        claim_folder(job)
        resumed_with = with_absolute_paths(config).to_toml().encode()
        files.write_bytes(job.folder / CONFIG_FILE, resumed_with)
        if not (job.folder / RECORD_FILE).is_file():
            say_if_elsewhere(job)
            (job.folder / DONE).unlink(missing_ok=True)  # of a record that was removed
            _adapt(job)
        if not (job.folder / DONE).is_file():
            mark_folder_done(job.folder)
        return read_adaptation(job.folder)


def _adapt(job: AdaptationJob) -> None:
    from gendataagent.generation.adaptation.distances import DistanceMeasurement
    from gendataagent.generation.adaptation.each_class import train_each_class
    from gendataagent.generation.adaptation.trainer import weight_dtype
    from gendataagent.generation.adaptation.training_loop import check_images, train_and_save
    from gendataagent.generation.diffusion.loading import load_pipeline

    settings = job.config.adaptation
    with PeakMemory(job.spec.device) as memory:
        # Loaded before captioning, so that a pipeline that does not fit fails at once.
        pipeline = load_pipeline(job.spec, weight_dtype(job.precision))
        size_px = _training_size_px(job, pipeline)
        check_images(job, pipeline, size_px)
        prompts = training_prompts(job)
        measurement = DistanceMeasurement(job, pipeline, prompts, size_px)
        measurement.before()
        train = train_each_class if settings.per_class else train_and_save
        trained = train(job, pipeline, prompts, size_px)
        distances = measurement.after()
    files.write_json(
        job.folder / RECORD_FILE,
        {
            "files": {
                path.relative_to(job.folder).as_posix(): files.file_sha256(path)
                for path in trained.paths
            },
            "generator": asdict(job.spec.describe()),
            "images": len(job.images),
            "epochs": trained.epochs,
            "steps": trained.steps,
            "size_px": size_px,
            "precision": job.precision,
            "settings": inputs_of(job),
            "losses": trained.losses,
            "seconds": job.watch.seconds,
            "peak_memory_mib": memory.mib,
            "distances": None if distances is None else asdict(distances),
        },
    )
    if distances is not None:
        job.progress.say(_summary(distances))


def _summary(distances: Distances) -> str:
    named = [
        f"{name} {1000 * distance.mmd2:.2f} ± {1000 * distance.standard_error:.2f}"
        for name, distance in distance_rows(distances)
    ]
    return f"adapted; distance to real images (MMD² x 1000): {'; '.join(named)}"


def _training_size_px(job: AdaptationJob, pipeline: Any) -> int:
    """Return the side of the training images: the setting, else the generator's own."""
    requested = job.config.adaptation.size_px or job.config.generation.size_px
    if requested or not hasattr(pipeline, "unet"):
        return requested
    return int(pipeline.unet.config.sample_size) * int(pipeline.vae_scale_factor)
