"""What each run would have cost by itself, where images and warm-up were found ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gendataagent.experiments.time_costs import (
    Timed,
    arm_cost,
    caption_prices,
    image_prices,
    images_alike,
    read_timed,
)

KEY = "seconds_alone"


def with_seconds_alone(rows: Sequence[Mapping[str, Any]], out: Path) -> list[dict[str, Any]]:
    """Return the rows of an experiment with `seconds_alone`, the same for all seeds of an arm.

    Prices of a step, an image and a caption, medians over the runs in `out`, times their numbers;
    reading the data and measuring accuracy are left out. The key is missing where a run is not in
    `out`, or nothing tells a price.
    """
    folders = sorted(path.parent for path in (out / "runs").glob("*/manifest.json"))
    runs = {folder.name: read_timed(folder) for folder in folders}
    images, captions = image_prices(runs.values()), caption_prices(runs.values())
    costs = {}
    for arm in dict.fromkeys(row["arm"] for row in rows):
        names = [row["run"] for row in rows if row["arm"] == arm and "run" in row]
        own = [runs[name] for name in names if name in runs]
        if own and len(own) == len(names) and _have_prices(own, images, captions):
            costs[arm] = arm_cost(own, images=images, captions=captions)
    return [
        {**row, KEY: costs[row["arm"]].seconds(row["optimizer_steps"])}
        if row["arm"] in costs
        else dict(row)
        for row in rows
    ]


def _have_prices(
    runs: Sequence[Timed], images: Mapping[str, float], captions: Mapping[str, float]
) -> bool:
    """Return whether steps, images and captions of these runs were timed by anybody."""
    config = runs[0].config
    draws = any(record.made for run in runs for record in run.rounds)
    captioned = any(run.captions for run in runs)
    return (
        any(run.steps for run in runs)
        and (not draws or images_alike(config) in images)
        and (not captioned or config.prompting.captioner in captions)
    )
