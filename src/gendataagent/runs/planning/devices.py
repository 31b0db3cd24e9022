"""The stages of a run whose images are made on many devices.

Images are made by workers (`generation.executor`), one per device; everything else stays on the
first. The main process reads sources, sends tasks and writes images, which bounds how many images
it can take a second. Both figures were measured with `scripts/devices`, see docs/devices.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gendataagent.runs.planning.costs import StageCost

SPREAD = ("feedback", "render")  # stages that workers share
WORKER_EFFICIENCY = 0.9  # images per second of N workers / N times those of one
MAIN_PROCESS_S_A_PX = 1 / (250 * 512 * 512)  # 250 images of 512 px a second


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
