"""What this machine can do for a run, and what to type to mend what it cannot."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gendataagent.config.presets import list_presets, preset_settings
from gendataagent.generation.backends import STABLE_DIFFUSION_15, stable_diffusion_is_here

_CORE = (
    "torch", "diffusers", "transformers", "peft", "accelerate", "datasets", "pyarrow",
    "safetensors", "PIL",
)  # fmt: skip
_DISTRIBUTION = {"PIL": "Pillow"}
_EXTRAS = {
    "timm": "classifiers by timm:NAME",
    "gguf": "language models from GGUF files",
}
MIN_FREE_DISK_GB = 2.0
MIN_FREE_MEMORY_GB = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: "ok", "note" (works, with a limit) or "wrong", and how to mend it."""

    what: str
    state: str
    found: str
    mend: str = ""


def examine(folder: Path) -> list[Finding]:
    """Return what was found on this machine; `folder` is where runs would be written."""
    return [
        _python(),
        *_packages(),
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
    for module in _CORE:
        name = _DISTRIBUTION.get(module, module)
        try:
            version = importlib.metadata.version(name)
            importlib.import_module(module)
        except Exception as error:  # broken installs raise all kinds, RuntimeError and OSError too
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            yield Finding(name, "wrong", f"does not import: {reason}", f"pip install -U {name}")
        else:
            yield Finding(name, "ok", version)
    if importlib.util.find_spec("torchvision") is not None:
        try:
            importlib.import_module("torchvision")
        except Exception as error:  # a build for another torch raises RuntimeError
            yield Finding(
                "torchvision",
                "wrong",
                f"installed but broken ({type(error).__name__}), which breaks diffusers too",
                "pip uninstall torchvision",
            )


def _extras() -> Iterator[Finding]:
    """Look at packages that are asked for only by some settings; their lack is no fault."""
    for module, use in _EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            yield Finding(module, "note", f"not installed; for {use}", f"pip install {module}")
        else:
            yield Finding(module, "ok", f"{importlib.metadata.version(module)}, for {use}")


def _device() -> Finding:
    try:
        import torch
    except Exception:  # a library it needs may be missing: OSError
        return Finding("device", "wrong", "torch does not import", "pip install -U torch")
    if torch.cuda.is_available():
        free, total = (amount / 2**30 for amount in torch.cuda.mem_get_info())
        name = torch.cuda.get_device_name()
        return Finding("device", "ok", f"{name}, {free:.1f} of {total:.1f} GiB free")
    if torch.backends.mps.is_available():
        return Finding("device", "ok", "Apple GPU (mps)")
    return Finding(
        "device",
        "note",
        f"CPU, {torch.get_num_threads()} threads: fine for the bundled generator, hours a round "
        "for Stable Diffusion 1.5",
    )


def _memory() -> Finding:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        (available,) = [line for line in lines if line.startswith("MemAvailable:")]
        free = int(available.split()[1]) / 2**20
    except (ValueError, OSError):
        return Finding("memory", "note", "cannot be read on this system")
    state = "ok" if free >= MIN_FREE_MEMORY_GB else "note"
    mend = "" if state == "ok" else "close other programs, or use a smaller batch size"
    return Finding("memory", state, f"{free:.1f} GiB free", mend)


def _disk(folder: Path) -> Finding:
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**30
    if not os.access(place, os.W_OK):
        return Finding("disk", "wrong", f"{place} cannot be written", "choose another --out")
    if free < MIN_FREE_DISK_GB:
        return Finding("disk", "note", f"{free:.1f} GiB free at {place}", "free some space")
    return Finding("disk", "ok", f"{free:.1f} GiB free at {place}")


def _bundled_generator() -> Finding:
    from gendataagent.core.errors import ModelError
    from gendataagent.generation.tiny.model import model_folder

    try:
        model_folder()
    except ModelError as error:
        return Finding("tiny-sd", "wrong", str(error), "pip install --force-reinstall gendataagent")
    return Finding("tiny-sd", "ok", "the bundled generator, 32 px, for trying out")


def _stable_diffusion() -> Finding:
    if stable_diffusion_is_here():
        return Finding("SD 1.5", "ok", f"{STABLE_DIFFUSION_15} is on this machine")
    return Finding(
        "SD 1.5",
        "note",
        "not on this machine",
        f"hf download {STABLE_DIFFUSION_15} (about 4 GB)",
    )


def _models_of_presets() -> Finding:
    """Say which of the models that presets name are in the hub's cache, weights included."""
    names = sorted(set(_named_by_presets()))
    here = [name for name in names if _has_weights(name)]
    if len(here) == len(names):
        return Finding("models", "ok", "all that the presets name are on this machine")
    lacking = ", ".join(name for name in names if name not in here)
    found = f"{len(here)} of {len(names)} that the presets name are here; not: {lacking}"
    return Finding(
        "models", "note", found, "gendataagent plan --preset NAME says what it will load"
    )


def _named_by_presets() -> Iterator[str]:
    keys = (("generation", "generator"), ("prompting", "captioner"), ("prompting", "rewriter"),
            ("classifier", "model"))  # fmt: skip
    for preset in list_presets():
        settings = preset_settings(preset.name)
        named = (settings.get(section, {}).get(key, "") for section, key in keys)
        yield from (name for name in named if "/" in name)


def _has_weights(hub_id: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    for index in ("model_index.json", "config.json"):
        found = try_to_load_from_cache(hub_id, index)
        if isinstance(found, str) and any(Path(found).parent.rglob("*.safetensors")):
            return True
    return False


def _browser() -> Finding:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found:
        return Finding("browser", "ok", f"{found} (the report's browser test uses it)")
    return Finding("browser", "note", "none on the PATH; only the report's browser test wants one")
