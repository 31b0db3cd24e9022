"""What a run will download, make and cost: estimated without loading weights or using a network."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from gendataagent.config import AUTO, RunConfig
from gendataagent.core.devices import resolve_device
from gendataagent.core.errors import ConfigError
from gendataagent.core.launch import processes_of
from gendataagent.core.memory import free_disk
from gendataagent.generation.backends import with_backends_chosen
from gendataagent.runs.planning.beside import overlap_notes
from gendataagent.runs.planning.checks import check_known_controlnet, check_models_here
from gendataagent.runs.planning.costs import (
    CAPTION_TOKENS,
    REWRITE_PROMPT_TOKENS,
    REWRITE_TOKENS,
    Costs,
    Disk,
    StageCost,
)
from gendataagent.runs.planning.counts import (
    Counts,
    RealImageCounts,
    count_real,
    count_work,
    what_data_is_needed,
)
from gendataagent.runs.planning.devices import (
    MAIN_PROCESS_S_A_PX,
    TRAINING_EFFICIENCY,
    WORKER_EFFICIENCY,
    on_devices,
    trained_by,
    training_processes,
)
from gendataagent.runs.planning.downloads import HUB, MISSING, ModelNeeded, models_needed
from gendataagent.runs.planning.facts import (
    BANDWIDTH_UTILISATION,
    CPU_FLOPS_PER_S_A_CORE,
    GIB,
    GPUS,
    Device,
    cpu,
    find_gpu,
)
from gendataagent.runs.planning.outlook import outlook
from gendataagent.runs.preflight import check_tracker, few_step_notes

__all__ = ["Plan", "find_device", "make_plan", "what_data_is_needed"]

_TYPICAL_SIDE_PX = 224  # of photographs, where there are no images to measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything known of a run beforehand.

    Args:
        devices: how many of `device` make images; config.training.processes of them train.
        notes: what a reader should do or know, one sentence each.
        assumptions: what the estimates are based on.
    """

    config: RunConfig
    device: Device
    devices: int
    real: RealImageCounts
    counts: Counts
    models: tuple[ModelNeeded, ...]
    stages: tuple[StageCost, ...]
    disk: Disk
    notes: tuple[str, ...]
    assumptions: tuple[str, ...]

    @property
    def seconds(self) -> float | None:
        """Of all stages; None where one is not known."""
        return _sum([stage.seconds for stage in self.stages])

    @property
    def flops(self) -> float | None:
        """Of all stages; None where one is not known."""
        return _sum([stage.flops for stage in self.stages])

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values; the settings are left out."""
        tree = {name: asdict(getattr(self, name)) for name in ("device", "real", "counts", "disk")}
        tree["real"]["train"] = self.real.train
        del tree["real"]["train_per_class"], tree["real"]["class_names"], tree["real"]["notes"]
        return {
            "estimate": True,
            "devices": self.devices,
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


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def make_plan(
    config: RunConfig,
    *,
    gpu: str | None = None,
    devices: int = 1,
    images: int | None = None,
    utilisation: float | None = None,
    folder: Path = Path("."),
) -> Plan:
    """Return the plan of a run; loads no model and uses no network.

    Args:
        gpu: name of the GPU to plan for; None = this machine's device.
        devices: how many of them make images; up to eight train the classifier too, unless
            training.processes says otherwise.
        images: training images to assume where there is no data to count.
        utilisation: share of the device's peak rate assumed to be reached.
        folder: where the run would be written.

    Raises:
        ConfigError: an unknown GPU, the number of images is not known, a data.group_by that fits
            nothing, or a tracker that is not installed.
        DataError: the data cannot be listed, or a run would refuse its classes.
        ModelError: a run would refuse a model that is on this machine.
    """
    check_tracker(config)
    device = find_device(gpu, wanted=config.device)
    if utilisation is not None:
        device = replace(device, utilisation=utilisation)
    real = count_real(config, images=images)
    check_models_here(config)
    few_steps = few_step_notes(config.generation) if config.agent.enabled else ()
    config = _resolved(config, device, real.train)
    check_known_controlnet(config)
    processes = training_processes(config, devices, is_gpu=device.is_gpu)
    if gpu is None and processes > 1:
        processes = processes_of(processes, resolve_device(config.device))
    config = replace(config, training=replace(config.training, processes=processes))
    ahead = outlook(config, real, config.generation.generator if config.agent.enabled else None)
    config = ahead.config
    counts = count_work(config, real)
    models = tuple(models_needed(config))
    costs = Costs(config, counts, models, device)
    stages, space = costs.stages(), costs.disk()
    stages = on_devices(stages, devices, images=counts.images, size_px=costs.image_px)
    if device.is_gpu:  # the processes of a CPU share its cores
        stages = [trained_by(s, processes) if s.name == "train" else s for s in stages]
    notes = [
        *real.notes,
        *ahead.sentences,
        *few_steps,
        *_model_notes(models),
        *costs.advice(stages),
        *overlap_notes(config, stages, device, devices),
        *_disk_notes(space, folder),
    ]
    if not config.data.path:
        needed = what_data_is_needed(config.data.layout)
        notes.append(f"data.path is empty: give --data DIR, {needed}.")
    return Plan(
        config=config,
        device=device,
        devices=devices,
        real=real,
        counts=counts,
        models=models,
        stages=tuple(stages),
        disk=space,
        notes=tuple(notes),
        assumptions=_assumptions(device, devices, processes),
    )


def _resolved(config: RunConfig, device: Device, images: int) -> RunConfig:
    """Return the settings with every "auto" resolved as a run on that device does."""
    named = (config.classifier.model, config.prompting.captioner, config.prompting.rewriter,
             config.generation.generator)  # fmt: skip
    where = "cuda" if device.is_gpu else "cpu"
    if AUTO not in named:
        return with_backends_chosen(config, where)  # what follows imports torch
    from gendataagent.data import load_data, median_side_px
    from gendataagent.runs.preflight import resolve_auto

    side = _TYPICAL_SIDE_PX
    if config.classifier.model == AUTO and config.data.path.startswith("bundled:"):
        side = median_side_px(load_data(config.data, seed=config.seed).train)
    return resolve_auto(config, device=where, typical_side_px=side, images=images)[0]


def find_device(gpu: str | None, *, wanted: str = AUTO) -> Device:
    """Return the device to plan for: the GPU named, else this machine's, else its CPU.

    Raises:
        ConfigError: a GPU that is not in the table.
    """
    if gpu is not None:
        found = find_gpu(gpu)
        if found is None:
            raise ConfigError(f"unknown GPU {gpu!r}; known are {', '.join(GPUS)}")
        return found
    name, memory_bytes = _first_gpu() if wanted == AUTO or "cuda" in wanted else ("", 0.0)
    here = find_gpu(name)
    if here is not None:
        return replace(here, memory_bytes=memory_bytes or here.memory_bytes)
    return cpu(os.cpu_count() or 1, float(psutil.virtual_memory().total))


def _first_gpu() -> tuple[str, float]:
    """Return name and memory in bytes of the first GPU by its driver; ("", 0) without one."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    if shutil.which(query[0]) is None:
        return "", 0.0
    try:
        rows = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
        name, _, mib = rows.splitlines()[0].rpartition(",")
        return name.strip(), float(mib) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):  # no driver, no GPU
        return "", 0.0


def _model_notes(models: tuple[ModelNeeded, ...]) -> Iterator[str]:
    for model in models:
        if model.where == MISSING:
            yield f"{model.setting}: there is no folder {model.name}."
        if model.where == HUB and model.gated:
            yield (
                f"{model.setting}: {model.name} is gated. Accept its terms at "
                f"https://huggingface.co/{model.name}, then: hf auth login."
            )
        if model.where == HUB and model.weight_bytes is None:
            yield f"{model.setting}: the size of {model.name} is not known here."


def _disk_notes(space: Disk, folder: Path) -> Iterator[str]:
    place, free = free_disk(folder)
    needed = (space.images or 0) + (space.checkpoints or 0)
    if needed > free:
        yield (
            f"The run needs about {needed / GIB:.0f} GiB of disk, but {place} has "
            f"{free / GIB:.0f} GiB free; choose another folder with --out."
        )


def _assumptions(device: Device, devices: int, processes: int) -> tuple[str, ...]:
    if device.is_gpu:
        rate = (
            f"the run reaches {device.utilisation:.0%} of {device.name}'s "
            f"{device.flops_per_s / 1e12:.0f} dense half-precision TFLOP/s (--utilisation; not "
            f"measured), and {BANDWIDTH_UTILISATION:.0%} of its memory bandwidth in decoding text"
        )
    else:
        rate = (
            f"{device.flops_per_s / 1e9:.0f} GFLOP/s: {CPU_FLOPS_PER_S_A_CORE / 1e9:.0f} a core, "
            "as measured on one core of an AMD EPYC, 2026-11-25, with the bundled models"
        )
    spread = (
        f"{devices} devices make images {WORKER_EFFICIENCY:.0%} as fast as {devices} times one, at "
        f"most {1 / MAIN_PROCESS_S_A_PX / 512**2:.0f} images of 512 px a second for the main "
        "process (docs/devices.md)"
    )
    trained = (
        f"the classifier is trained on {processes} of one machine (training.processes), "
        f"{TRAINING_EFFICIENCY:.0%} as fast as on {processes} times one (not measured)"
    )
    return (
        rate,
        *([spread] if devices > 1 else []),
        *([trained] if device.is_gpu and processes > 1 else []),
        *(["all else runs on one device"] if max(devices, processes) > 1 else []),
        f"a caption has {CAPTION_TOKENS} tokens; a rewriter reads {REWRITE_PROMPT_TOKENS} tokens "
        f"and writes {REWRITE_TOKENS} a rewrite, and its first reply is used",
        "memory is weights, activations counted from the architecture and 1.5 GiB for CUDA; stages "
        "release their models when memory is short",
        "reading images, moving data and starting up are not counted",
    )
