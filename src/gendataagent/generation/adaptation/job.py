"""One adaptation in progress: its inputs, and the folder it owns."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gendataagent.config import AUTO, RunConfig
from gendataagent.config.settings import iterate_settings
from gendataagent.core import files
from gendataagent.core.environment import environment, other_environment
from gendataagent.core.errors import RunFolderError
from gendataagent.core.progress import Progress, Stopwatch
from gendataagent.core.protocols import Captioner
from gendataagent.core.records import ModelDescription, derive_seed
from gendataagent.core.seals import Seals
from gendataagent.data import LabelledImages
from gendataagent.generation.diffusion import DiffusionSpec

SETTINGS_FILE = "settings.json"
CONFIG_FILE = "config.toml"
PROMPTS_FILE = "prompts.jsonl"
BEFORE_FILE = "before.safetensors"
CHECKPOINTS = "checkpoints"
_ENVIRONMENT = "environment"
_FOLDER_HASH = re.compile("[0-9a-f]{16}")
_FROM_INPUTS = (PROMPTS_FILE, BEFORE_FILE, CHECKPOINTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptationJob:
    """One adaptation in progress.

    Args:
        images: the training images.
        reference: held-out images to measure the distance to; None = the training images.
        spec: the generator to adapt.
        precision: no, fp16 or bf16.
    """

    config: RunConfig
    images: LabelledImages
    reference: LabelledImages | None
    folder: Path
    spec: DiffusionSpec
    precision: str
    captioner: Captioner
    progress: Progress
    watch: Stopwatch = field(default_factory=Stopwatch)

    @property
    def seals(self) -> Seals:
        """The recorded hashes of the folder's files."""
        return Seals(self.folder)

    @property
    def seed(self) -> int:
        return self.config.seed


def check_folder(folder: Path) -> None:
    """Raise `RunFolderError` if the folder holds anything but an adaptation, begun or finished."""
    if folder.is_dir() and not (files.holds_nothing(folder) or (folder / SETTINGS_FILE).is_file()):
        raise RunFolderError(
            f"{folder} is not empty and holds no adaptation; name a new or an empty folder"
        )


def claim_folder(job: AdaptationJob) -> None:
    """Write the inputs of the job to its folder, or check that they equal those written there.

    Raises:
        RunFolderError: the folder belongs to a job with other inputs.
    """
    path, own = job.folder / SETTINGS_FILE, inputs_of(job)
    begun = {**own, _ENVIRONMENT: environment(job.spec.device)}
    # Until something depends on the inputs, they may still change.
    if not any((job.folder / name).exists() for name in _FROM_INPUTS):
        job.seals.write(path, files.json_bytes(begun))
        return
    if damage := job.seals.damage(path):
        raise RunFolderError(
            f"{damage}; it says what the adaptation is made from. Put it back from a copy, or name "
            "another folder"
        )
    written = files.read_json(path)
    differences = [
        f"{key} is {written.get(key)!r} there, not {own.get(key)!r}"
        for key in dict.fromkeys([*written, *own])
        if key != _ENVIRONMENT and written.get(key) != own.get(key)
    ]
    if differences:
        raise RunFolderError(
            f"{job.folder} holds an adaptation with other settings: {'; '.join(differences)}. Name "
            "another folder, or use the same settings"
        )


def with_recorded(config: RunConfig, folder: Path) -> RunConfig:
    """Return the settings with what they leave to decide as the adaptation there was begun."""
    try:
        written = files.read_json(folder / SETTINGS_FILE)
    except RunFolderError:  # missing, or damaged, which `claim_folder` finds
        return config
    recorded = written if isinstance(written, dict) else {}
    threads, precision = recorded.get("threads"), recorded.get("precision")
    if not config.threads and isinstance(threads, int) and threads > 0:
        config = replace(config, threads=threads)
    if config.adaptation.mixed_precision == AUTO and precision in ("no", "fp16", "bf16"):
        adaptation = replace(config.adaptation, mixed_precision=precision)
        config = replace(config, adaptation=adaptation)
    return config


def say_if_elsewhere(job: AdaptationJob) -> None:
    """Say what is different on this machine, if the adaptation was begun on another."""
    begun_in = files.read_json(job.folder / SETTINGS_FILE).get(_ENVIRONMENT, {})
    if sentence := other_environment(begun_in, environment(job.spec.device)):
        job.progress.say(sentence)


def inputs_of(job: AdaptationJob) -> dict[str, Any]:
    """Return everything the weights depend on, as JSON values."""
    generator, captioner = job.spec.describe(), job.captioner.description
    images = hashlib.blake2b(digest_size=8)
    for image_id, label, content in zip(
        job.images.ids, job.images.labels, job.images.content_hashes(), strict=True
    ):
        images.update(f"{image_id}\0{job.images.class_names[label]}\0{content}\n".encode())
    resolved = ("enabled", "mixed_precision")
    settings = {
        row.key: row.value
        for row in iterate_settings(job.config.adaptation)
        if row.setting.affects_results and row.key.rpartition(".")[2] not in resolved
    }
    return {
        "seed": job.seed,
        "threads": job.config.threads,
        "generator": _identity(generator),
        "captioner": _identity(captioner),
        "images": f"{len(job.images)} {images.hexdigest()}",
        "generation.size_px": job.config.generation.size_px,
        "precision": job.precision,
        **{f"adaptation.{key.removeprefix('adaptation.')}": v for key, v in settings.items()},
    }


def _identity(model: ModelDescription) -> str:
    """Return what identifies a model: the hash of its folder, wherever it is, else its name too."""
    if _FOLDER_HASH.fullmatch(model.revision):
        return model.revision
    return f"{model.name} {model.revision}".strip()


def shuffled(seed: int, purpose: str, images: LabelledImages) -> list[int]:
    """Return all indices of `images` in an order that depends on seed, purpose and ids only."""
    return sorted(range(len(images)), key=lambda i: derive_seed(seed, purpose, images.ids[i]))
