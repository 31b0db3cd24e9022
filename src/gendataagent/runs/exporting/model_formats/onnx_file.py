"""ONNX: one file for onnxruntime, OpenVINO, TensorRT, a browser or a phone."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gendataagent.core.errors import ModelError
from gendataagent.runs.exporting.model_formats.deployable import Deployable, example, exporting
from gendataagent.runs.exporting.model_formats.model_format import ModelFormat
from gendataagent.runs.exporting.preprocessing import INPUT, OUTPUT, preprocessing
from gendataagent.training.classifier import Classifier

FILE = "model.onnx"
_NEEDS = ("onnx", "onnxscript", "onnxruntime")
_LARGEST = 1 << 30  # bytes of weights inside the file; a protobuf holds at most 2 GiB


def check_installed() -> None:
    """Raise `ModelError` if a library that writes or checks ONNX is missing."""
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"--to onnx needs {', '.join(missing)}, not installed here; install with: pip install "
            f"{' '.join(missing)} (or the extra: pip install 'gendataagent[onnx]')"
        )


def write(classifier: Classifier, folder: Path) -> None:
    """Write `model.onnx`, with its classes and preprocessing in its metadata as JSON."""
    module = Deployable(classifier)
    size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    with exporting("ONNX"):
        program: Any = torch.onnx.export(
            module,
            (example(classifier),),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}},
            verbose=False,
        )
        about = preprocessing(classifier, normalised_by_the_model=True)
        program.model.metadata_props["classes"] = json.dumps(about["classes"])
        program.model.metadata_props["preprocessing"] = json.dumps(about)
        program.save(str(folder / FILE), external_data=size > _LARGEST)


def read(folder: Path) -> Callable[[Tensor], Tensor]:
    """Return `model.onnx` opened in onnxruntime."""
    with exporting("ONNX"):
        import onnxruntime

        session = onnxruntime.InferenceSession(
            str(folder / FILE), providers=["CPUExecutionProvider"]
        )

    def logits(images_B3SS: Tensor) -> Tensor:
        (found,) = session.run([OUTPUT], {INPUT: images_B3SS.numpy()})
        return torch.from_numpy(found)

    return logits


FORMAT = ModelFormat(
    file=FILE, normalises=True, check_installed=check_installed, write=write, read=read
)
