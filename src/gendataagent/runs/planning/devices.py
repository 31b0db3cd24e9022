"""The stages of a run whose images are made on many devices.

Images are made by workers (`generation.executor`), one per device, and the classifier is trained by
`training.processes` of one machine; everything else stays on the first device. The main process
reads sources, sends tasks and writes images, which bounds how many images it can take a second.
Both figures of that were measured with `scripts/devices`, see docs/devices.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gendataagent.config import RunConfig
from gendataagent.runs.planning.costs import StageCost

SPREAD = ("feedback", "render")  # stages that workers share
WORKER_EFFICIENCY = 0.9  # images per second of N workers / N times those of one
TRAINING_EFFICIENCY = 0.8  # images per second of N processes / N times those of one; assumed
IN_ONE_MACHINE = 8  # GPUs, at most: what auto is taken for
MAIN_PROCESS_S_A_PX = 1 / (250 * 512 * 512)  # 250 images of 512 px a second


def training_processes(config: RunConfig, devices: int, *, is_gpu: bool) -> int:
    """Return the number of processes that train in a run on that many devices.

    Args:
        is_gpu: of one kind, not the cores of a CPU.
    """
    if isinstance(config.training.processes, int):
        return config.training.processes
    overlaps = config.agent.enabled and config.agent.overlap
    return 1 if overlaps or not is_gpu else min(devices, IN_ONE_MACHINE)


def trained_by(stage: StageCost, processes: int) -> StageCost:
    """Return the train stage with its seconds divided by the processes, each with a GPU."""
    if processes == 1 or stage.seconds is None:
        return stage
    note = f"{stage.note}; " if stage.note else ""
    seconds = min(stage.seconds, stage.seconds / (processes * TRAINING_EFFICIENCY))
    return replace(stage, seconds=seconds, note=f"{note}{processes} processes")


def on_devices(
    stages: Sequence[StageCost], devices: int, *, images: int, size_px: int
) -> list[StageCost]:
    """Return the stages with the seconds of those that workers share divided by the devices.

    Args:
        images: made by the render stage.
        size_px: side of an image.
    """
    if devices == 1:
        return list(stages)
    least_s = images * size_px**2 * MAIN_PROCESS_S_A_PX
    spread = []
    for stage in stages:
        if stage.name in SPREAD and stage.seconds is not None:
            shared_s = stage.seconds / (devices * WORKER_EFFICIENCY)
            bound = stage.name == "render" and least_s > shared_s
            note = f"{devices} workers" + (", bound by the main process" if bound else "")
            note = f"{stage.note}; {note}" if stage.note else note
            seconds = min(stage.seconds, max(shared_s, least_s if bound else 0.0))
            stage = replace(stage, seconds=seconds, note=note)
        spread.append(stage)
    return spread
