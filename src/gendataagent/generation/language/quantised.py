"""Language models in one GGUF file, unpacked into an ordinary model when loaded."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from gendataagent.core.completeness import Lacks
from gendataagent.core.errors import ModelError
from gendataagent.core.files import expand, open_regular
from gendataagent.core.hub import ModelSource
from gendataagent.core.text import reason_of
from gendataagent.core.weight_files import find_files, zeros_at_end

SUFFIX = ".gguf"
_MAGIC = b"GGUF"
_MOST_ZEROS = 1 << 12  # bytes at the end of a whole file
_OUTPUT = "output.weight"
# architectures of llama.cpp whose tensors transformers reads as they are
_ALIKE = frozenset({"llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3", "starcoder2"})
_INSTALL = "pip install 'gendataagent[gguf]'"


def quantised_file(name: str) -> Path | None:
    """Return the GGUF file that a name means: the file itself, or the only one of a folder.

    A folder with a config.json is an ordinary model, whatever else it holds.
    """
    place = expand(name)
    if place.suffix.lower() == SUFFIX and place.is_file():
        return place
    if place.is_dir() and not (place / "config.json").exists():
        inside = find_files(place, "*", deep=False)
        files = [path for path in inside if path.suffix.lower() == SUFFIX]
        if len(files) > 1:
            raise ModelError(
                f"the folder {place} holds {len(files)} GGUF files ({files[0].name}, "
                f"{files[1].name}, ...); set one of them"
            )
        return files[0] if files else None
    return None


def check_quantised(source: ModelSource, file: Path) -> None:
    """Raise `ModelError` for a missing package, or a file that is truncated or not GGUF."""
    start = f"{source.setting}: cannot load {file}"
    try:
        with open_regular(file) as stream:
            magic = stream.read(len(_MAGIC))
    except OSError as error:
        raise ModelError(f"{start}: {reason_of(error)}; make it readable") from error
    if magic != _MAGIC:
        raise ModelError(f"{start}: it is not a GGUF file despite its name; download it again")
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(f"{start}: reading GGUF files needs a package that is missing: {_INSTALL}")
    reader = importlib.import_module("gguf").GGUFReader
    try:
        opened = reader(file)
        tensors = opened.tensors
        lacks = _lacks(file, opened)
    except (ValueError, LookupError, TypeError, OSError, OverflowError) as error:
        # what the reader raises for missing or wrong bytes
        raise ModelError(f"{start}: the file is truncated or damaged; download it again") from error
    if (zeros := zeros_at_end(file)) > _MOST_ZEROS:
        raise ModelError(
            f"{start}: it ends in {zeros:,} zeros, so it was not fully copied; download it again"
        )
    if not tensors:
        raise ModelError(f"{start}: it holds no weights; set the file of a language model")
    if lacks:
        raise ModelError(f"{source.setting}: {lacks.sentence(str(file))}")


def _lacks(file: Path, opened: Any) -> Lacks | None:
    """Return what a file lacks of the model that it describes, or None where that cannot be said.

    A file without "output.weight" is of a model that shares the matrix with its embeddings. Of
    other architectures it shows when the model is loaded.
    """
    fields = opened.fields
    architecture = bytes(_value(fields["general.architecture"])).decode()
    if architecture not in _ALIKE or f"{architecture}.expert_count" in fields:
        return None
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    reading = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    config = AutoConfig.from_pretrained(
        str(file.parent), gguf_file=file.name, local_files_only=True, trust_remote_code=False
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    processor = reading.TENSOR_PROCESSORS.get(architecture, reading.TensorProcessor)(config=config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    try:
        names = reading.get_gguf_hf_weights_map(model, processor)
    except NotImplementedError:  # Mistral's calls itself a Llama
        return None
    wanted = {name: shapes[own] for name, own in names.items() if own in shapes}
    found = {t.name: tuple(int(side) for side in reversed(t.shape)) for t in opened.tensors}
    if _OUTPUT not in found:
        wanted.pop(_OUTPUT, None)
    return Lacks.between(type(model).__name__, wanted, found)


def _value(field: Any) -> Any:
    return field.parts[field.data[0]]


def load_quantised(source: ModelSource, file: Path, dtype: Any) -> tuple[Any, Any, Any]:
    """Return tokenizer, model and transformers' report on its loading; raises `ModelError`."""
    check_quantised(source, file)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), **place)
        model, report = AutoModelForCausalLM.from_pretrained(
            str(file.parent), dtype=dtype, output_loading_info=True, **place, **_unpacked()
        )
    except Exception as error:  # transformers and gguf raise a dozen kinds for the same faults
        reason = reason_of(error)
        raise ModelError(
            f"{source.setting}: cannot load {file} as {source.kind}: {reason}. transformers reads "
            "GGUF files of common architectures only; use the same model as safetensors"
        ) from error
    return tokenizer, model, report


def _unpacked() -> dict[str, Any]:
    """Return the argument that unpacks all weights; older transformers always unpack."""
    import transformers

    if not hasattr(transformers, "GgufConfig"):
        return {}
    # left packed, a matrix product on a CPU takes ten times as long
    return {"quantization_config": transformers.GgufConfig(dequantize=True)}
