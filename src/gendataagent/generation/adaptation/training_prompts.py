"""The full prompt of each training image: captioned once, then read from disk."""

from __future__ import annotations

from gendataagent.core import files
from gendataagent.core.records import Scored
from gendataagent.generation.adaptation.job import PROMPTS_FILE, AdaptationJob
from gendataagent.generation.class_mentions import names_another_class
from gendataagent.generation.known_classes import words_for
from gendataagent.generation.prompts import compose_prompt
from gendataagent.generation.stages import caption, plan


def training_prompts(job: AdaptationJob) -> list[str]:
    """Return the prompt of each training image, in order; written to prompts.jsonl."""
    path = job.folder / PROMPTS_FILE
    if job.seals.damage(path) is None:
        rows = files.read_jsonl(path)
        if [row.get("id") for row in rows] == list(job.images.ids):
            return [str(row.get("prompt", "")) for row in rows]
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
        candidates = caption(
            list(planned),
            job.captioner,
            lambda source: job.images.image(job.images.index_of(source)),
            run_seed=job.seed,
            known={},
            progress=job.progress,
        )
    job.captioner.release()
    word_of = words_for(job.spec.describe().name, names)
    rows = []
    for candidate in candidates:
        words = candidate.source_caption or ""
        if names_another_class(words, candidate.class_name, names):
            words = ""  # as in a round: no prompt may ask for the wrong class
        name = word_of.get(candidate.class_name, candidate.class_name)
        prompt = compose_prompt(name, words)
        rows.append({"id": candidate.source_id, "caption": words, "prompt": prompt})
    job.seals.write(path, files.jsonl_bytes(rows))
    return [row["prompt"] for row in rows]
