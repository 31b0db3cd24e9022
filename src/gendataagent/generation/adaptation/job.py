"""One adaptation under way: its parts, its folder, its prompts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gendataagent.config import RunConfig
from gendataagent.config.settings import iterate_settings
from gendataagent.core import files
from gendataagent.core.errors import RunFolderError
from gendataagent.core.progress import Progress, Stopwatch
from gendataagent.core.protocols import Captioner
from gendataagent.core.records import Scored, derive_seed
from gendataagent.data import LabelledImages
from gendataagent.generation.prompts import compose_prompt, names_another_class
from gendataagent.generation.stages import caption, plan

if TYPE_CHECKING:
    from gendataagent.generation.diffusion.factory import DiffusionFactory

SETTINGS_FILE = "settings.json"
CONFIG_FILE = "config.toml"
PROMPTS_FILE = "prompts.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One adaptation under way."""

    config: RunConfig
    images: LabelledImages
    reference: LabelledImages | None
    folder: Path
    factory: DiffusionFactory
    precision: str
    captioner: Captioner
    progress: Progress
    watch: Stopwatch = field(default_factory=Stopwatch)

    @property
    def seed(self) -> int:
        return self.config.seed


def check_free(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()) and not (folder / SETTINGS_FILE).is_file():
        raise RunFolderError(
            f"{folder} is not empty and holds no adaptation; name a new or an empty folder"
        )


def claim(job: Job) -> None:
    """Write down what the adaptation is made of, or see that the folder is of the same one."""
    path, mine = job.folder / SETTINGS_FILE, made_of(job)
    if not (path.is_file() and (job.folder / PROMPTS_FILE).is_file()):  # nothing is made yet
        files.write_json(path, mine)
        return
    theirs = files.read_json(path)
    odd = [
        f"{key} is {theirs.get(key)!r} there, not {mine.get(key)!r}"
        for key in dict.fromkeys([*theirs, *mine])
        if theirs.get(key) != mine.get(key)
    ]
    if odd:
        raise RunFolderError(
            f"{job.folder} holds an adaptation with other settings: {'; '.join(odd)}. Name another "
            "folder, or go on with the same settings"
        )


def made_of(job: Job) -> dict[str, Any]:
    """Return all that the weights depend on, as plain values."""
    generator, captioner = job.factory.describe(), job.captioner.description
    images = hashlib.blake2b(digest_size=8)
    for image_id, label in zip(job.images.ids, job.images.labels, strict=True):
        images.update(f"{image_id}\0{job.images.class_names[label]}\n".encode())
    resolved = ("enabled", "mixed_precision")
    settings = {
        row.key: row.value
        for row in iterate_settings(job.config.adaptation)
        if row.setting.affects_results and row.key.rpartition(".")[2] not in resolved
    }
    return {
        "seed": job.seed,
        "generator": f"{generator.name} {generator.revision}".strip(),
        "captioner": f"{captioner.name} {captioner.revision}".strip(),
        "images": f"{len(job.images)} {images.hexdigest()}",
        "generation.size_px": job.config.generation.size_px,
        "precision": job.precision,
        **{f"adaptation.{key.removeprefix('adaptation.')}": v for key, v in settings.items()},
    }


def full_prompts(job: Job) -> list[str]:
    """Return the full prompt of each image, captioned once and written down."""
    path = job.folder / PROMPTS_FILE
    if path.is_file():
        rows = files.read_jsonl(path)
        if [row.get("id") for row in rows] == list(job.images.ids):
            return [str(row["prompt"]) for row in rows]
    names = job.images.class_names
    candidates = plan(
        [
            Scored(source_id=image_id, label=label, score=0.0)
            for image_id, label in zip(job.images.ids, job.images.labels, strict=True)
        ],
        round_number=0,
        rewrites=1,
        class_names=names,
        settings=job.config.generation,
        run_seed=job.seed,
    )
    with job.watch.measure("caption"):
        candidates = caption(
            candidates,
            job.captioner,
            lambda source: job.images.image(job.images.index_of(source)),
            run_seed=job.seed,
            known={},
            progress=job.progress,
        )
    job.captioner.release()
    rows = []
    for candidate in candidates:
        words = candidate.source_caption or ""
        if names_another_class(words, candidate.class_name, names):
            words = ""  # as in a round: no prompt may ask for the wrong class
        prompt = compose_prompt(candidate.class_name, words)
        rows.append({"id": candidate.source_id, "caption": words, "prompt": prompt})
    files.write_jsonl(path, rows)
    return [row["prompt"] for row in rows]


def shuffled(seed: int, what: str, images: LabelledImages) -> list[int]:
    return sorted(range(len(images)), key=lambda i: derive_seed(seed, what, images.ids[i]))
