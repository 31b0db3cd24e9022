"""Safetensors: the folder that transformers loads in one line, as RUN/classifier."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from gendataagent.core import files
from gendataagent.runs.exporting.model_formats.model_format import ModelFormat
from gendataagent.training.classifier import Classifier
from gendataagent.training.saving import read_classifier, save_classifier

FILE = "model.safetensors"
_INSIDE = "transformers"  # `save_classifier` writes a folder of its own


def write(classifier: Classifier, folder: Path) -> None:
    """Write what `from_pretrained` of transformers reads; its README is left to the card."""
    save_classifier(classifier, folder / _INSIDE, resize_px=classifier.resize_px)
    for path in (folder / _INSIDE).iterdir():
        shutil.move(path, folder / path.name)
    (folder / _INSIDE).rmdir()
    files.sync_folder(folder)


def read(folder: Path) -> Callable[[Tensor], Tensor]:
    """Return the classifier that transformers loads from the folder."""
    classifier = read_classifier(folder)

    def logits(images_B3SS: Tensor) -> Tensor:
        with torch.no_grad():
            return classifier.logits(images_B3SS)

    return logits


FORMAT = ModelFormat(
    file=FILE, normalises=False, check_installed=lambda: None, write=write, read=read
)
