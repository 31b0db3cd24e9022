"""TorchScript: one file for torch without Python code of ours, in C++ or Python."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from gendataagent.core import files
from gendataagent.runs.exporting.model_formats.deployable import Deployable, example, exporting
from gendataagent.runs.exporting.model_formats.model_format import ModelFormat
from gendataagent.training.classifier import Classifier

FILE = "model.pt"


def write(classifier: Classifier, folder: Path) -> None:
    """Write `model.pt`, by tracing: a classifier does the same to every image."""
    with exporting("TorchScript"):
        traced: Any = torch.jit.trace(
            Deployable(classifier), example(classifier), check_trace=False
        )  # fmt: skip
        buffer = io.BytesIO()  # torch itself does not say when a disk is full
        torch.jit.save(traced, buffer)
    files.write_bytes(folder / FILE, buffer.getvalue())


def read(folder: Path) -> Callable[[Tensor], Tensor]:
    """Return `model.pt` as torch loads it."""
    with exporting("TorchScript"):
        module: Any = torch.jit.load(str(folder / FILE), map_location="cpu")

    def logits(images_B3SS: Tensor) -> Tensor:
        with torch.no_grad():
            return cast(Tensor, module(images_B3SS))

    return logits


FORMAT = ModelFormat(
    file=FILE, normalises=True, check_installed=lambda: None, write=write, read=read
)
