"""Checks of this machine: what a run can use, and the command that fixes what it cannot."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gendataagent.config.presets import list_presets, preset_settings
from gendataagent.core.devices import AUTO
from gendataagent.core.launch import processes_of
from gendataagent.core.memory import free_disk
from gendataagent.generation.backends import stable_diffusion_is_here
from gendataagent.generation.diffusion.mirrors import STABLE_DIFFUSION_15
from gendataagent.runs.planning.downloads import is_cached
from gendataagent.runs.planning.facts import MODELS
from gendataagent.runs.requirements import Conflict, conflicts, pip_name, requirements

_TESTED_PYTHON = ((3, 11), (3, 13))  # what `make test-python` was run with
_MODULES = {"pillow": "PIL"}  # import name, where it is not that of the distribution
_EXTRAS = {  # extra: its package, and what for
    "timm": ("timm", "classifiers named timm:NAME"),
    "gguf": ("gguf", "language models in GGUF files"),
    "endpoint": ("openai", "prompting.rewriter=endpoint"),
    "plots": ("matplotlib", "plots of experiments"),
    "ray": ("ray", "generation.executor=ray"),
    "onnx": ("onnxruntime", "export --to onnx"),
}
MIN_FREE_DISK_GB = 2.0
MIN_FREE_MEMORY_GB = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Args:
        state: "ok", "note" (works, with a limit) or "wrong".
        fix: what to type or do about it.
    """

    what: str
    state: str
    found: str
    fix: str = ""


def examine(folder: Path, data: str | None = None) -> list[Finding]:
    """Return the result of every check.

    Args:
        folder: where runs would be written.
        data: images to train on; their classes are compared with the bundled generator's.
    """
    return [
        _python(),
        *_packages(),
        _device(),
        _memory(),
        _disk(folder),
        _bundled_generator(),
        *([] if data is None else [_classes(data)]),
        _stable_diffusion(),
        _models_of_presets(),
        _browser(),
    ]


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    oldest, newest = _TESTED_PYTHON
    if oldest <= sys.version_info[:2] <= newest:
        return Finding("Python", "ok", found)
    tested = " to ".join(".".join(map(str, version)) for version in _TESTED_PYTHON)
    return Finding("Python", "note", f"{found}; tested with {tested}")


def _packages() -> Iterator[Finding]:
    """Check that packages import, in versions that this package and the others work with."""
    needed = requirements()
    if not needed:
        reason = "not installed, so the packages that it needs are not checked"
        yield Finding("gendataagent", "note", reason, "pip install gendataagent")
    optional = [(name, r) for name in _EXTRAS for r in requirements(extras=[name])]
    refused = conflicts([*needed, *(r for _, r in optional if _is_here(r))])
    for requirement in needed:
        yield _package(requirement, refused.pop(canonicalize_name(requirement.name), None))
    for name, requirement in optional:
        module, use = _EXTRAS[name]
        if module == requirement.name:
            conflict = refused.pop(canonicalize_name(module), None)
            yield _optional_package(requirement, use, conflict)
    yield from map(_refused, refused.values())
    yield from _torchvision()


def _package(requirement: Requirement, conflict: Conflict | None) -> Finding:
    name = requirement.name
    try:
        version = importlib.metadata.version(name)
        importlib.import_module(_module(requirement))
    except Exception as error:  # a broken install may raise RuntimeError, OSError and others
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        fix = conflict.fix if conflict else f"pip install -U '{pip_name(requirement)}'"
        return Finding(name, "wrong", f"does not import: {reason}", fix)
    return _refused(conflict) if conflict else Finding(name, "ok", version)


def _optional_package(requirement: Requirement, use: str, conflict: Conflict | None) -> Finding:
    name = requirement.name
    if not _is_here(requirement):
        fix = f"pip install '{pip_name(requirement)}'"
        return Finding(name, "note", f"not installed; needed only for {use}", fix)
    if conflict:
        return _refused(conflict)
    return Finding(name, "ok", f"{importlib.metadata.version(name)}, for {use}")


def _refused(conflict: Conflict) -> Finding:
    """Versions below a bound are wrong; newer ones than others allow often work."""
    state = "wrong" if conflict.is_too_old else "note"
    return Finding(conflict.name, state, conflict.sentence, conflict.fix)


def _module(requirement: Requirement) -> str:
    name = canonicalize_name(requirement.name)
    return _MODULES.get(name, name.replace("-", "_"))


def _is_here(requirement: Requirement) -> bool:
    return importlib.util.find_spec(_module(requirement)) is not None


def _torchvision() -> Iterator[Finding]:
    """Report one that does not import: diffusers and transformers then fail too."""
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # a build for another torch raises RuntimeError
        yield Finding(
            "torchvision",
            "wrong",
            f"installed but does not import ({type(error).__name__}); diffusers then fails too",
            "pip uninstall torchvision",
        )


def _device() -> Finding:
    try:
        import torch
    except Exception:  # a library it needs may be missing: OSError
        return Finding("device", "wrong", "unknown: torch does not import", "pip install -U torch")
    if torch.cuda.is_available():
        free, total = (amount / 2**30 for amount in torch.cuda.mem_get_info())
        name = torch.cuda.get_device_name()
        found = f"{name}, {free:.1f} of {total:.1f} GiB free"
        if (gpus := torch.cuda.device_count()) > 1:
            train = processes_of(AUTO, "cuda")
            found += f"; {gpus} GPUs make images, {train} train (training.processes)"
        return Finding("device", "ok", found)
    if torch.backends.mps.is_available():
        return Finding("device", "ok", "Apple GPU (mps)")
    return Finding(
        "device",
        "note",
        f"CPU, {torch.get_num_threads()} threads: fast enough for the bundled generator; Stable "
        "Diffusion 1.5 takes hours a round",
    )


def _memory() -> Finding:
    free = psutil.virtual_memory().available / 2**30
    if free < MIN_FREE_MEMORY_GB:
        advice = "close other programs, or use a smaller batch size"
        return Finding("memory", "note", f"{free:.1f} GiB available", advice)
    return Finding("memory", "ok", f"{free:.1f} GiB available")


def _disk(folder: Path) -> Finding:
    place, free_bytes = free_disk(folder)
    if not os.access(place, os.W_OK):
        return Finding(
            "disk", "wrong", f"no permission to write to {place}", "choose another --out"
        )
    found = f"{free_bytes / 2**30:.1f} GiB free at {place}"
    if free_bytes / 2**30 < MIN_FREE_DISK_GB:
        return Finding("disk", "note", found, "free some space, or choose another --out")
    return Finding("disk", "ok", found)


def _bundled_generator() -> Finding:
    from gendataagent.core.errors import ModelError
    from gendataagent.generation.tiny.model import model_folder

    try:
        model_folder()
    except ModelError as error:
        return Finding("tiny-sd", "wrong", str(error), "pip install --force-reinstall gendataagent")
    return Finding("tiny-sd", "ok", "bundled generator, 32 px, for first trials")


def _classes(data: str) -> Finding:
    """Check whether the bundled generator can draw the classes of some images."""
    from gendataagent.config import RunConfig
    from gendataagent.core.errors import GenDataAgentError
    from gendataagent.generation.known_classes import known_classes
    from gendataagent.generation.tiny.model import MODEL_NAME
    from gendataagent.runs.planning.counts import count_listed

    try:
        names = count_listed(RunConfig.from_dict({"data": {"path": data}})).class_names
    except GenDataAgentError as error:
        return Finding("your images", "wrong", str(error), "give another --data")
    known = known_classes(MODEL_NAME, names)
    if known is None or not known.unknown:
        return Finding("your images", "ok", f"{MODEL_NAME} can draw all {len(names)} classes")
    found, _, fix = known.warning.partition(". ")
    return Finding("your images", "note", found, fix)


def _stable_diffusion() -> Finding:
    if stable_diffusion_is_here():
        return Finding("SD 1.5", "ok", f"{STABLE_DIFFUSION_15} is downloaded")
    full, half = (MODELS[STABLE_DIFFUSION_15].download_bytes(v) / 1e9 for v in ("", "fp16"))
    fix = (
        f"gendataagent run --generator {STABLE_DIFFUSION_15} downloads it: {full:.1f} GB, or "
        f"{half:.1f} GB with --set generation.variant=fp16"
    )
    return Finding("SD 1.5", "note", "not downloaded", fix)


def _models_of_presets() -> Finding:
    """Check which models of the presets are in the hub's cache, weights included."""
    names = sorted(set(_named_by_presets()))
    missing = [name for name in names if not _is_downloaded(name)]
    if not missing:
        return Finding("models", "ok", "all models of the presets are downloaded")
    found = f"{len(names) - len(missing)} of the {len(names)} models of the presets are downloaded"
    fix = "gendataagent plan --preset NAME lists what a run downloads"
    return Finding("models", "note", f"{found}; missing: {', '.join(missing)}", fix)


def _named_by_presets() -> Iterator[str]:
    keys = (("generation", "generator"), ("prompting", "captioner"), ("prompting", "rewriter"),
            ("classifier", "model"))  # fmt: skip
    for preset in list_presets():
        settings = preset_settings(preset.name)
        named = (settings.get(section, {}).get(key, "") for section, key in keys)
        yield from (name for name in named if "/" in name)


def _is_downloaded(hub_id: str) -> bool:
    return any(is_cached(hub_id, index) for index in ("model_index.json", "config.json"))


def _browser() -> Finding:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found:
        return Finding("browser", "ok", f"{found}; used by the browser test of the report")
    return Finding("browser", "note", "none found; only the browser test of the report needs one")
