"""The full prompt of each training image: captioned once, then read from disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gendataagent.core import files
from gendataagent.core.records import Scored
from gendataagent.data.class_names import readable_class_name
from gendataagent.generation.adaptation.job import PROMPTS_FILE, AdaptationJob
from gendataagent.generation.class_mentions import names_another_class
from gendataagent.generation.diffusion.class_tokens import token_names
from gendataagent.generation.known_classes import words_for
from gendataagent.generation.prompts import compose_prompt
from gendataagent.generation.stages import caption, plan


@dataclass(frozen=True, slots=True)
class TrainingPrompts:
    """The prompts of the training images, in order.

    Args:
        plain: with the names of the classes, for the generator as it was.
        full: with the words of the classes where such are learned, else the same.
    """

    plain: list[str]
    full: list[str]

    def at(self, indices: list[int]) -> TrainingPrompts:
        """Return those of some images."""
        return TrainingPrompts([self.plain[i] for i in indices], [self.full[i] for i in indices])


def class_names_in_words(job: AdaptationJob) -> Mapping[str, str]:
    """Return class name -> the words that name it for the generator."""
    names = job.images.class_names
    words = words_for(job.spec.describe().name, names)
    return {name: words.get(name, readable_class_name(name)) for name in names}


def training_prompts(job: AdaptationJob) -> TrainingPrompts:
    """Return the prompts of the training images; their captions are written to prompts.jsonl."""
    plain_of = class_names_in_words(job)
    learns = job.config.adaptation.trains_tokens
    full_of = token_names(job.images.class_names) if learns else plain_of
    classes = [job.images.class_names[label] for label in job.images.labels]
    known = _written_captions(job)
    captions = _captions(job) if known is None else known
    plain, full = (
        [compose_prompt(of[name], text) for name, text in zip(classes, captions, strict=True)]
        for of in (plain_of, full_of)
    )
    if known is None:
        rows = zip(job.images.ids, captions, full, strict=True)
        written = [{"id": id_, "caption": text, "prompt": prompt} for id_, text, prompt in rows]
        job.seals.write(job.folder / PROMPTS_FILE, files.jsonl_bytes(written))
    return TrainingPrompts(plain, full)


def _written_captions(job: AdaptationJob) -> list[str] | None:
    """Return the captions on disk; None if they are missing, damaged, or of other images."""
    path = job.folder / PROMPTS_FILE
    if job.seals.damage(path) is not None:
        return None
    rows = files.read_jsonl(path)
    if [row.get("id") for row in rows] != list(job.images.ids):
        return None
    return [str(row.get("caption", "")) for row in rows]


def _captions(job: AdaptationJob) -> list[str]:
    """Return the caption of each image, "" where it names another class."""
    names = job.images.class_names
    planned = plan(
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
        candidates = list(
            caption(
                list(planned),
                job.captioner,
                lambda source: job.images.image(job.images.index_of(source)),
                run_seed=job.seed,
                known={},
                progress=job.progress,
            )
        )
    job.captioner.release()
    words = [(c.source_caption or "", c.class_name) for c in candidates]
    # as in a round: no prompt may ask for the wrong class
    return ["" if names_another_class(text, name, names) else text for text, name in words]
