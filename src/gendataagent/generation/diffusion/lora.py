"""LoRA weights for a pipeline: find them, check them, and merge them into its weights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gendataagent.core import hub
from gendataagent.core.errors import ModelError
from gendataagent.core.files import expand
from gendataagent.core.hub import ModelSource
from gendataagent.core.text import reason_of
from gendataagent.core.weight_files import WEIGHTS, find_files, stored_in

FILE_NAME = f"pytorch_lora_weights{WEIGHTS}"  # the name that diffusers' save_lora_weights writes
_NOT_MATRICES = (".alpha", ".dora_scale")
# lora_A, lora.down, to_q_lora.down, lora_down, lora_linear_layer.down, qkv_lora1.down
_HALF = re.compile(r"(lora(?:_linear_layer|\d)?[._])(A|B|down|up)(?=(?:\.\w+)?\.weight$)")
_OTHER_HALF = {"A": "B", "B": "A", "down": "up", "up": "down"}
# Raised by peft, diffusers and safetensors for a file that is no LoRA, or one for another model.
_LOAD_ERRORS = (RuntimeError, ValueError, LookupError, TypeError, AttributeError, OSError)


@dataclass(frozen=True, slots=True)
class Lora:
    """LoRA weights that a setting names.

    Args:
        setting: the setting, for messages.
        name: a safetensors file; a folder; a hub id, or OWNER/NAME/FILE.safetensors on the hub.
        scale: strength; 0 = none, 1 = as trained.
    """

    setting: str
    name: str
    scale: float


def apply_lora(pipeline: Any, lora: Lora) -> None:
    """Merge LoRA weights into those of a pipeline: W + scale * B A.

    Merged weights cost no time at inference. At scale 0 the weights are unchanged, to the bit.

    Raises:
        ModelError: there is no such LoRA, it is incomplete, or it is for another base model.
    """
    pipeline.fuse_lora(components=add_lora(pipeline, lora), lora_scale=lora.scale)
    pipeline.unload_lora_weights()


def add_lora(pipeline: Any, lora: Lora) -> list[str]:
    """Add LoRA layers to a pipeline, which may be without weights; return the parts that have some.

    Raises:
        ModelError: as `apply_lora`.
    """
    path = find_lora(lora)
    kind = type(pipeline).__name__
    if not hasattr(pipeline, "load_lora_weights"):
        raise ModelError(f"{lora.setting}: a {kind} takes no LoRA; leave it empty")
    misfit = (
        f"{lora.setting}: {path.name} does not fit this generator, a {kind}; name a LoRA made for "
        "it, or the base model of this one"
    )
    try:
        pipeline.load_lora_weights(
            str(path.parent), weight_name=path.name, use_safetensors=True, local_files_only=True
        )
    except _LOAD_ERRORS as error:
        reason = reason_of(error, 200)
        raise ModelError(f"{misfit} ({reason})") from error
    parts = [
        name
        for name in pipeline._lora_loadable_modules
        if getattr(pipeline, name, None) is not None
    ]
    applied = sum(
        ".lora_" in name for part in parts for name, _ in getattr(pipeline, part).named_parameters()
    )
    # diffusers only warns of matrices that match no layer.
    expected = sum(not name.endswith(_NOT_MATRICES) for name in stored_in(path))
    if applied < max(expected, 1):
        raise ModelError(f"{misfit} ({applied} of its {expected} matrices match a layer)")
    return parts


def _check_pairs(setting: str, path: Path) -> None:
    """Raise `ModelError` unless each matrix "down" or "A" has its "up" or "B" of the same rank.

    diffusers takes the missing half as zero, so that the layer is left as it was.
    """
    tensors = stored_in(path)
    halves = {name: twin for name in tensors if (twin := _twin(name)) != name}
    alone = sorted(name for name, twin in halves.items() if twin not in tensors)
    if alone:
        raise ModelError(
            f"{setting}: {path} lacks the other half of {len(alone)} of its {len(halves)} "
            f"matrices ({', '.join(map(_twin, alone[:3]))} ...); it is damaged, download it again"
        )
    for name in sorted(halves):
        down, up = tensors[name].shape, tensors[halves[name]].shape
        if _HALF.search(name)[2] in ("A", "down") and down[:1] != up[1:2]:  # type: ignore[index]
            raise ModelError(
                f"{setting}: in {path}, {name} has shape {list(down)} but {halves[name]} has "
                f"{list(up)}, of another rank; it is damaged, download it again"
            )


def _twin(name: str) -> str:
    """Return the name of a LoRA matrix' other half; any other name is returned unchanged."""
    return _HALF.sub(lambda found: found[1] + _OTHER_HALF[found[2]], name, count=1)


def find_lora(lora: Lora) -> Path:
    """Return the file that a setting names, downloaded if it is only on the hub.

    Raises:
        ModelError: there is none, or it is incomplete.
    """
    path = local_lora(lora.name, lora.setting)
    if path is None:
        source, name = _on_hub(lora.name, lora.setting)
        path = hub.load(source, _Fetcher(name))
    hub.check_file(lora.setting, path)
    _check_pairs(lora.setting, path)
    return path


def local_lora(lora: str, setting: str = "generation.lora") -> Path | None:
    """Return the file that a setting names, or None if it names weights on the hub.

    Raises:
        ModelError: it names a path, and there is no such file.
    """
    path = expand(lora)
    if path.is_file():
        if path.suffix != WEIGHTS:
            raise ModelError(
                f"{setting}: {lora} is no safetensors file; pickled weights can run code and are "
                "refused. Convert it, or download the safetensors file"
            )
        return path
    if path.is_dir():
        files = find_files(path, f"*{WEIGHTS}", deep=False)
        named = path / FILE_NAME
        if named in files or len(files) == 1:
            return named if named in files else files[0]
        found = f"several: {', '.join(file.name for file in files[:4])}" if files else "none"
        raise ModelError(
            f"{setting}: the folder {lora} must hold {FILE_NAME} or exactly one safetensors file, "
            f"it holds {found}; name the file"
        )
    if not is_on_hub(lora):
        raise ModelError(
            f"{setting}: there is no file or folder {lora}; name an existing one, or a hub id "
            "such as OWNER/NAME or OWNER/NAME/FILE.safetensors"
        )
    return None


def is_on_hub(lora: str) -> bool:
    """Return whether a name is one on the hub: neither a path that exists nor one that could."""
    could = lora.startswith((".", "~", "/")) or not 1 <= lora.count("/") <= 3
    return not (could or expand(lora).exists())


def lora_revision(lora: str) -> str:
    """Return what identifies these LoRA weights: a hash of their file.

    For weights on the hub that are not on this machine yet it is their name.
    """
    path = local_lora(lora)
    if path is None:
        source, name = _on_hub(lora)
        path = hub.cached_file(source, name)
    return lora if path is None else hub.file_hash(path)


def _on_hub(lora: str, setting: str = "generation.lora") -> tuple[ModelSource, str]:
    owner, name, *inside = lora.split("/")
    source = ModelSource(
        setting=setting, kind="LoRA weights", name=f"{owner}/{name}", index_file=FILE_NAME,
        instead=f"For another file than {FILE_NAME} set OWNER/NAME/FILE.safetensors.",
    )  # fmt: skip
    return source, "/".join(inside) or FILE_NAME


class _Fetcher:
    """Downloads a file and returns its path; `hub.load` calls it like `from_pretrained`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(
        self, place: str, *, local_files_only: bool, revision: str | None, trust_remote_code: bool
    ) -> Path:
        from huggingface_hub import hf_hub_download

        del trust_remote_code  # weights contain no code
        return Path(
            hf_hub_download(place, self._name, revision=revision, local_files_only=local_files_only)
        )
