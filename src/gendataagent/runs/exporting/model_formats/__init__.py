"""The formats of an exported model, one file each. None imports its libraries before it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gendataagent.runs.exporting.model_formats.model_format import ModelFormat


def _onnx() -> ModelFormat:
    from gendataagent.runs.exporting.model_formats.onnx_file import FORMAT

    return FORMAT


def _torchscript() -> ModelFormat:
    from gendataagent.runs.exporting.model_formats.torchscript import FORMAT

    return FORMAT


def _safetensors() -> ModelFormat:
    from gendataagent.runs.exporting.model_formats.safetensors_folder import FORMAT

    return FORMAT


MODEL_FORMATS: Mapping[str, Callable[[], ModelFormat]] = {
    "onnx": _onnx,
    "torchscript": _torchscript,
    "safetensors": _safetensors,
}
