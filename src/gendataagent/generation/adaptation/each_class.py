"""A LoRA for each class, trained on its own images, one class after the other.

DataDream-cls (Kim et al., ECCV 2024). The folder of an adaptation then holds, for each class:

    classes/cat/checkpoints/                       states to resume from, until the class is done
    classes/cat/samples/                           sample images
    classes/cat/pytorch_lora_weights.safetensors   its LoRA
    classes/cat/trained.json                       its losses, and the SHA-256 of its LoRA

and, once all classes are done, class_loras.json. A class that is done is not trained again.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

from gendataagent.core import files
from gendataagent.core.errors import RunFolderError
from gendataagent.core.progress import Stopwatch
from gendataagent.core.text import as_name
from gendataagent.generation.adaptation.job import CHECKPOINTS, AdaptationJob
from gendataagent.generation.adaptation.lora_layers import WEIGHTS_FILE
from gendataagent.generation.adaptation.training_loop import Trained, train_and_save
from gendataagent.generation.adaptation.training_prompts import TrainingPrompts
from gendataagent.generation.diffusion.class_loras import write_class_loras
from gendataagent.generation.diffusion.class_tokens import token_names

CLASSES, TRAINED_FILE = "classes", "trained.json"


def train_each_class(
    job: AdaptationJob, pipeline: Any, prompts: TrainingPrompts, size_px: int
) -> Trained:
    """Train the LoRA of each class that has none yet, and write the index of all."""
    names = job.images.class_names
    done: dict[str, Trained] = {}
    for label, name in enumerate(names):
        indices = [i for i, its in enumerate(job.images.labels) if its == label]
        folder = job.folder / CLASSES / token_names(names)[name].strip("<>")
        own = replace(
            job, images=job.images.subset(indices), folder=folder, watch=Stopwatch(),
            reference=None,
        )  # fmt: skip
        trained = _finished(own)
        if trained is None:
            job.progress.say(f"class {label + 1} of {len(names)}: {as_name(name)}")
            files.make_folder(folder)
            trained = train_and_save(own, pipeline, prompts.at(indices), size_px)
            _finish(own, trained)
        if (folder / CHECKPOINTS).is_dir():  # three times the size of what is kept
            shutil.rmtree(folder / CHECKPOINTS)
        for stage, seconds in own.watch.seconds.items():
            job.watch.seconds[stage] = job.watch.seconds.get(stage, 0.0) + seconds
        done[name] = trained
    index = write_class_loras(job.folder, {name: each.paths[0] for name, each in done.items()})
    epochs = job.config.adaptation.epochs
    return Trained(
        paths=(index, *(each.paths[0] for each in done.values())),
        losses=[
            sum(each.losses[epoch] for each in done.values()) / len(done) for epoch in range(epochs)
        ],
        epochs=epochs,
        steps=sum(each.steps for each in done.values()),
    )


def _finish(job: AdaptationJob, trained: Trained) -> None:
    row = {
        "sha256": files.file_sha256(trained.paths[0]),
        "losses": trained.losses,
        "steps": trained.steps,
        "seconds": job.watch.seconds,
    }
    files.write_json(job.folder / TRAINED_FILE, row)


def _finished(job: AdaptationJob) -> Trained | None:
    """Return the training of a class that is done; None if it is not, or its LoRA has changed."""
    path, epochs = job.folder / WEIGHTS_FILE, job.config.adaptation.epochs
    try:
        row = files.read_json(job.folder / TRAINED_FILE)
        losses = [float(loss) for loss in row["losses"]]
        trained = Trained(paths=(path,), losses=losses, epochs=epochs, steps=int(row["steps"]))
        job.watch.seconds.update(row["seconds"])
        whole = path.is_file() and files.file_sha256(path) == row["sha256"]
    except (RunFolderError, LookupError, TypeError, ValueError):
        return None
    return trained if whole and len(losses) == epochs else None
