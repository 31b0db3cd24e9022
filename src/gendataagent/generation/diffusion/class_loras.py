"""A LoRA for each class: the folder of their files, and which of them is merged into the UNet.

FOLDER/class_loras.json             class -> its file, and the SHA-256 of it
FOLDER/classes/cat/...safetensors   the LoRA of a class, in diffusers' format
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gendataagent.core import files
from gendataagent.core.errors import ModelError, RunFolderError
from gendataagent.core.files import expand
from gendataagent.core.text import as_name
from gendataagent.core.weight_files import stored_in
from gendataagent.generation.diffusion.class_tokens import check_classes
from gendataagent.generation.diffusion.lora import Lora, find_lora

if TYPE_CHECKING:
    from torch import Tensor

SETTING = "generation.class_loras"
INDEX_FILE = "class_loras.json"
_KEY = re.compile(r"unet\.(.+)\.(lora\.down|lora\.up|lora_A|lora_B)\.weight")
_DOWN = ("lora.down", "lora_A")
_AGAIN = "put the folder back from a copy, or run gendataagent adapt again"


@dataclass(frozen=True, slots=True)
class ClassLoras:
    """The LoRAs of a folder.

    Args:
        files: class name -> file, and its SHA-256.
    """

    folder: Path
    files: Mapping[str, tuple[Path, str]]

    def check_classes(self, class_names: Sequence[str]) -> None:
        """Raise `ConfigError` if one of these classes has none."""
        check_classes(SETTING, self.folder, tuple(self.files), class_names, "LoRA")

    def check(self) -> None:
        """Raise `ModelError` unless every file is there, whole, and what was written."""
        for name in self.files:
            self.path(name)

    def path(self, name: str) -> Path:
        """Return the file of a class, after a look at every byte of it.

        Raises:
            ModelError: it is missing or not what was written.
        """
        if name not in self.files:
            raise ModelError(f"{SETTING}: {self.folder} has no LoRA for {as_name(name)}")
        path, digest = self.files[name]
        if not path.is_file() or files.file_sha256(path) != digest:
            what = "has changed since it was written" if path.is_file() else "is missing"
            raise ModelError(f"{SETTING}: {path}, of {as_name(name)}, {what}; {_AGAIN}")
        return find_lora(Lora(SETTING, str(path), 1.0))

    @property
    def revision(self) -> str:
        """What identifies them: a hash of the classes' names and of their files' hashes."""
        digest = hashlib.blake2b(digest_size=8)
        for name, (_, sha256) in sorted(self.files.items()):
            digest.update(f"{name}\0{sha256}\n".encode())
        return digest.hexdigest()


def write_class_loras(folder: Path, paths: Mapping[str, Path]) -> Path:
    """Write the index of the LoRAs of all classes, whose files are below `folder`; return it."""
    rows = {
        name: {"file": path.relative_to(folder).as_posix(), "sha256": files.file_sha256(path)}
        for name, path in paths.items()
    }
    files.write_json(folder / INDEX_FILE, {"classes": rows})
    return folder / INDEX_FILE


def read_class_loras(name: str) -> ClassLoras:
    """Return the LoRAs of the folder that the setting names; their files are not read.

    Raises:
        ModelError: there is no such folder, or its index is damaged.
    """
    folder = expand(name)
    if not (folder / INDEX_FILE).is_file():
        raise ModelError(
            f"{SETTING}: {folder} has no {INDEX_FILE}; name a folder in which gendataagent adapt "
            "with adaptation.per_class=true has finished"
        )
    try:
        rows = files.read_json(folder / INDEX_FILE)["classes"]
        found = {str(k): (folder / str(r["file"]), str(r["sha256"])) for k, r in rows.items()}
        elsewhere = [
            p for p, _ in found.values() if not p.resolve().is_relative_to(folder.resolve())
        ]
    except (RunFolderError, LookupError, TypeError, AttributeError, ValueError, OSError) as error:
        raise ModelError(f"{SETTING}: {folder / INDEX_FILE} is damaged; {_AGAIN}") from error
    if not found or elsewhere:
        raise ModelError(
            f"{SETTING}: {folder / INDEX_FILE} names no files, or files elsewhere; {_AGAIN}"
        )
    return ClassLoras(folder, found)


def check_loras_fit(pipeline: Any, loras: ClassLoras) -> None:
    """Raise `ModelError` unless the LoRA of each class fits the UNet, which may have no memory."""
    layers = {name: tuple(_matrices(pipeline, loras, name)) for name in loras.files}
    first = next(iter(layers))
    for name, its in layers.items():
        if its != layers[first]:
            raise ModelError(
                f"{SETTING}: the LoRA of {as_name(name)} in {loras.folder} changes other layers "
                f"than that of {as_name(first)}; {_AGAIN}"
            )


def _matrices(pipeline: Any, loras: ClassLoras, name: str) -> dict[str, tuple[str, str]]:
    """Return layer -> the names of A and B of the LoRA of a class.

    Raises:
        ModelError: it is not whole, or does not fit the UNet.
    """
    from torch import nn

    path, unet = loras.path(name), getattr(pipeline, "unet", None)
    modules = dict(unet.named_modules()) if unet is not None else {}
    shapes = {key: tensor.shape for key, tensor in stored_in(path).items()}
    halves = {
        (match[1], match[2] in _DOWN): key for key in shapes if (match := _KEY.fullmatch(key))
    }
    found = {}
    for layer in sorted({layer for layer, _ in halves}):
        down, up = halves.get((layer, True), ""), halves.get((layer, False), "")
        module, fits = modules.get(layer), False
        if isinstance(module, nn.Linear) and down and up:
            merged = (*shapes[up][:1], *shapes[down][1:])
            fits = merged == tuple(module.weight.shape)
        if not fits:
            raise ModelError(
                f"{SETTING}: {path} does not fit this generator: its {type(pipeline).__name__} has "
                f"no layer {layer} of that shape; name the generator that was adapted"
            )
        found[layer] = down, up
    if not found or 2 * len(found) != len(shapes):
        raise ModelError(
            f"{SETTING}: {path} is not a LoRA that gendataagent adapt has written; {_AGAIN}"
        )
    return found


class ClassLoraSwitch:
    """Merges the LoRA of one class at a time into the UNet of a pipeline: W + scale * B A.

    Each starts from the plain weights, of which a copy is kept, so what is merged never depends on
    what was before.

    Raises:
        ModelError: they do not fit.
    """

    def __init__(self, pipeline: Any, loras: ClassLoras, scale: float) -> None:
        check_loras_fit(pipeline, loras)
        self._pipeline, self._loras, self._scale = pipeline, loras, scale
        self._current: str | None = None
        self._plain: dict[str, Tensor] = {
            layer: pipeline.unet.get_submodule(layer).weight.detach().cpu().clone()
            for layer in _matrices(pipeline, loras, next(iter(loras.files)))
        }

    def use(self, name: str) -> None:
        """Merge the LoRA of a class, if it is not.

        Raises:
            ModelError: the class has none, or its file has changed.
        """
        import torch
        from safetensors.torch import load_file

        if name == self._current:
            return
        self._current = None  # until all layers have it
        matrices = _matrices(self._pipeline, self._loras, name)
        stored = load_file(self._loras.path(name))
        if not all(torch.isfinite(matrix).all() for matrix in stored.values()):
            raise ModelError(
                f"{SETTING}: the LoRA of {as_name(name)} in {self._loras.folder} has numbers that "
                "are not finite; run gendataagent adapt again"
            )
        with torch.no_grad():
            for layer, plain in self._plain.items():
                weight = self._pipeline.unet.get_submodule(layer).weight
                down, up = (stored[key].to(weight.device).float() for key in matrices[layer])
                weight.copy_(plain.to(weight.device).float() + self._scale * (up @ down))
        self._current = name

    def remove(self) -> None:
        """Restore the plain weights."""
        import torch

        with torch.no_grad():
            for layer, plain in self._plain.items():
                self._pipeline.unet.get_submodule(layer).weight.copy_(plain)
        self._current = None
