"""What a run will download, make and cost, told before any weight loads and without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gendataagent.config import AUTO, RunConfig
from gendataagent.core.errors import ConfigError
from gendataagent.runs.planning.costs import (
    CAPTION_WORDS,
    REWRITE_PROMPT_TOKENS,
    REWRITE_TOKENS,
    Disk,
    StageCost,
    disk,
    stage_costs,
    what_to_change,
)
from gendataagent.runs.planning.counts import (
    Counts,
    RealImageCounts,
    count_real,
    count_work,
    what_data_is_needed,
)
from gendataagent.runs.planning.downloads import ModelNeeded, models_needed
from gendataagent.runs.planning.facts import (
    BANDWIDTH_UTILISATION,
    GIB,
    Device,
    cpu,
    find_gpu,
    known_gpus,
)

__all__ = ["Plan", "find_device", "make_plan", "what_data_is_needed"]

_TYPICAL_SIDE_PX = 224  # photographs; of data without images at hand


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything known of a run beforehand.

    Args:
        notes: what a reader should do or know, one sentence each.
        assumptions: what the estimates rest on.
    """

    config: RunConfig
    device: Device
    real: RealImageCounts
    counts: Counts
    models: tuple[ModelNeeded, ...]
    stages: tuple[StageCost, ...]
    disk: Disk
    notes: tuple[str, ...]
    assumptions: tuple[str, ...]

    @property
    def seconds(self) -> float | None:
        """The whole run; None where a part is not known."""
        known = [stage.seconds for stage in self.stages if stage.seconds is not None]
        return sum(known) if len(known) == len(self.stages) else None

    @property
    def flops(self) -> float | None:
        """The whole run; None where a part is not known."""
        known = [stage.flops for stage in self.stages if stage.flops is not None]
        return sum(known) if len(known) == len(self.stages) else None

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values; the settings are left out."""
        tree = {name: asdict(getattr(self, name)) for name in ("device", "real", "counts", "disk")}
        tree["real"]["train"] = self.real.train
        del tree["real"]["train_per_class"]
        return {
            "estimate": True,
            **tree,
            "models": [
                {**asdict(model), "download_bytes": model.download_bytes} for model in self.models
            ],
            "stages": [asdict(stage) for stage in self.stages],
            "seconds": self.seconds,
            "flops": self.flops,
            "notes": list(self.notes),
            "assumptions": list(self.assumptions),
        }


def make_plan(
    config: RunConfig,
    *,
    gpu: str | None = None,
    images: int | None = None,
    utilisation: float | None = None,
    folder: Path = Path("."),
) -> Plan:
    """Return the plan of a run; loads no model and asks no network.

    Args:
        gpu: name of the GPU to plan for; None = what this machine has.
        images: training images to plan with when there is no data to look at.
        utilisation: share of the device's peak rate assumed to be reached.
        folder: where the run would be written.

    Raises:
        ConfigError: an unknown GPU, or nothing tells how many images there are.
        DataError: the data cannot be listed.
    """
    device = find_device(gpu, asked_for=config.device)
    if utilisation is not None:
        device = replace(device, utilisation=utilisation)
    real = count_real(config, images=images)
    config = _decided(config, device)
    counts = count_work(config, real)
    models = models_needed(config)
    stages = stage_costs(config, counts, models, device)
    space = disk(config, counts, models)
    notes = [*_model_notes(models), *what_to_change(config, stages, device)]
    notes += _disk_notes(space, folder)
    if not config.data.path:
        notes.append(
            f"data.path is empty: give --data DIR, {what_data_is_needed(config.data.layout)}."
        )
    return Plan(
        config=config,
        device=device,
        real=real,
        counts=counts,
        models=tuple(models),
        stages=tuple(stages),
        disk=space,
        notes=tuple(notes),
        assumptions=tuple(_assumptions(device)),
    )


def _decided(config: RunConfig, device: Device) -> RunConfig:
    """Return the settings with every "auto" decided as the run would on that device."""
    named = (config.classifier.model, config.prompting.captioner, config.prompting.rewriter,
             config.generation.generator)  # fmt: skip
    if AUTO not in named:
        return config  # what follows imports torch
    from gendataagent.data import load_data, median_side_px
    from gendataagent.runs.preflight import resolve_auto

    side = _TYPICAL_SIDE_PX
    if config.classifier.model == AUTO and config.data.path.startswith("bundled:"):
        side = median_side_px(load_data(config.data, seed=config.seed).train)
    where = "cuda" if device.is_gpu else "cpu"
    return resolve_auto(config, device=where, typical_side_px=side)[0]


def find_device(gpu: str | None, *, asked_for: str = AUTO) -> Device:
    """Return the device to plan for: the GPU named, else this machine's, else its CPU.

    Raises:
        ConfigError: a GPU nothing is known of.
    """
    if gpu is not None:
        found = find_gpu(gpu)
        if found is None:
            raise ConfigError(
                f"nothing is known of a GPU {gpu!r}; known are {', '.join(known_gpus())}"
            )
        return found
    name, memory_bytes = _first_gpu() if asked_for == AUTO or "cuda" in asked_for else ("", 0.0)
    here = find_gpu(name) if name else None
    if here is not None:
        return replace(here, memory_bytes=memory_bytes or here.memory_bytes)
    return cpu(os.cpu_count() or 1, _memory_bytes())


def _first_gpu() -> tuple[str, float]:
    """Return name and memory of the first GPU as its driver says, ("", 0) without one."""
    if shutil.which("nvidia-smi") is None:
        return "", 0.0
    asked = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout
        name, _, mib = told.splitlines()[0].rpartition(",")
        return name.strip(), float(mib) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):  # no driver, no GPU
        return "", 0.0


def _memory_bytes() -> float:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):  # not a POSIX system
        return 0.0


def _model_notes(models: list[ModelNeeded]) -> list[str]:
    notes = []
    for model in models:
        if model.where == "missing":
            notes.append(f"{model.setting}: there is no folder {model.name}.")
        if model.where == "hub" and model.gated:
            notes.append(
                f"{model.setting}: {model.name} is gated. Accept its terms at "
                f"https://huggingface.co/{model.name}, then: hf auth login."
            )
        if model.where == "hub" and model.weight_bytes is None:
            notes.append(f"{model.setting}: the size of {model.name} is not known here.")
    return notes


def _disk_notes(space: Disk, folder: Path) -> list[str]:
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    needed = sum(part or 0 for part in (space.images, space.checkpoints))
    if needed <= free:
        return []
    return [
        f"The run needs about {needed / GIB:.0f} GiB of disk, but {place} has {free / GIB:.0f} GiB "
        "free; name another place with --out."
    ]


def _assumptions(device: Device) -> list[str]:
    if device.is_gpu:
        rate = (
            f"{device.utilisation:.0%} of {device.name}'s {device.flops_per_s / 1e12:.0f} dense "
            f"half-precision TFLOP/s are reached (--utilisation; not measured), and "
            f"{BANDWIDTH_UTILISATION:.0%} of its memory bandwidth while words are written"
        )
    else:
        rate = (
            f"{device.flops_per_s / 1e9:.0f} GFLOP/s: 60 a core, as measured on one core of an AMD "
            "EPYC, 2026-11-25, with the bundled models"
        )
    return [
        rate,
        f"a caption has {CAPTION_WORDS} tokens; a rewriter reads {REWRITE_PROMPT_TOKENS} and "
        f"writes {REWRITE_TOKENS} a rewrite, and its first reply is taken",
        "memory is weights, activations counted from the architecture and 1.5 GiB for CUDA; stages "
        "let go of their models where memory is short",
        "reading images, moving data and starting up are not counted",
    ]
