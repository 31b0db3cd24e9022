"""Checks of this machine: what a run can use, and the command that fixes what it cannot."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from packaging.utils import canonicalize_name

from gendataagent.config.presets import list_presets, preset_settings
from gendataagent.core.memory import free_disk
from gendataagent.generation.backends import stable_diffusion_is_here
from gendataagent.generation.diffusion.mirrors import STABLE_DIFFUSION_15
from gendataagent.runs.planning.downloads import is_cached
from gendataagent.runs.planning.facts import MODELS
from gendataagent.runs.requirements import (
    Conflict,
    conflict,
    conflicts_below,
    pip_name,
    requirements,
)

_CORE = (
    "torch", "diffusers", "transformers", "peft", "accelerate", "datasets", "pyarrow",
    "safetensors", "PIL", "numpy", "scipy", "psutil", "filelock", "huggingface_hub", "tokenizers",
    "jinja2", "packaging", "rich", "tomli_w", "typer",
)  # fmt: skip
_DISTRIBUTION = {"PIL": "Pillow"}
_EXTRAS = {
    "timm": ("timm", "classifiers named timm:NAME"),
    "gguf": ("gguf", "language models in GGUF files"),
    "openai": ("endpoint", "prompting.rewriter=endpoint"),
    "matplotlib": ("plots", "plots of experiments"),
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


def examine(folder: Path) -> list[Finding]:
    """Return the result of every check; `folder` is where runs would be written."""
    return [
        _python(),
        *_packages(),
        *_packages_of_packages(),
        *_extras(),
        _device(),
        _memory(),
        _disk(folder),
        _bundled_generator(),
        _stable_diffusion(),
        _models_of_presets(),
        _browser(),
    ]


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("Python", "ok", found)


def _packages() -> Iterator[Finding]:
    """Check the packages that every run needs: they import, in versions that are tested."""
    needed = {canonicalize_name(r.name): r for r in requirements()}
    if not needed:
        reason = "not installed, so the versions of other packages are not checked"
        yield Finding("gendataagent", "note", reason, "pip install gendataagent")
    for module in _CORE:
        name = _DISTRIBUTION.get(module, module)
        requirement = needed.get(canonicalize_name(name))
        fix = f"pip install -U '{pip_name(requirement) if requirement else name}'"
        try:
            version = importlib.metadata.version(name)
            importlib.import_module(module)
        except Exception as error:  # a broken install may raise RuntimeError, OSError and others
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            yield Finding(name, "wrong", f"does not import: {reason}", fix)
        else:
            too_old = conflict(requirement) if requirement else None
            yield _versioned(name, too_old) if too_old else Finding(name, "ok", version)
    if importlib.util.find_spec("torchvision") is not None:
        try:
            importlib.import_module("torchvision")
        except Exception as error:  # a build for another torch raises RuntimeError
            yield Finding(
                "torchvision",
                "wrong",
                f"installed but does not import ({type(error).__name__}); diffusers then fails too",
                "pip uninstall torchvision",
            )


def _versioned(name: str, broken: Conflict) -> Finding:
    found = f"{broken.found}, but {broken.needed_by} needs {broken.needed}"
    return Finding(name, "wrong", found, broken.fix)


def _packages_of_packages() -> Iterator[Finding]:
    """Check the versions that the packages of every run need themselves."""
    for broken in conflicts_below():
        yield _versioned(broken.name, broken)


def _extras() -> Iterator[Finding]:
    """Check packages that only some settings need."""
    for module, (extra, use) in _EXTRAS.items():
        needed = {r.name: r for r in requirements(extra=extra)}.get(module)
        fix = f"pip install '{pip_name(needed) if needed else module}'"
        if importlib.util.find_spec(module) is None:
            yield Finding(module, "note", f"not installed; needed only for {use}", fix)
        elif needed and (too_old := conflict(needed)):
            yield _versioned(module, too_old)
        else:
            yield Finding(module, "ok", f"{importlib.metadata.version(module)}, for {use}")


def _device() -> Finding:
    try:
        import torch
    except Exception:  # a library it needs may be missing: OSError
        return Finding("device", "wrong", "unknown: torch does not import", "pip install -U torch")
    if torch.cuda.is_available():
        free, total = (amount / 2**30 for amount in torch.cuda.mem_get_info())
        name = torch.cuda.get_device_name()
        return Finding("device", "ok", f"{name}, {free:.1f} of {total:.1f} GiB free")
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
