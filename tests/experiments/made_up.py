"""Rows of results with made-up figures, for the tests of tables, plots and pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def rows_of(
    values: Mapping[str, Sequence[float]], *, seconds: float = 100.0, **more: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Return rows of arm -> top-1 of seeds 0, 1, 2...; NaN leaves a seed out.

    Args:
        more: measure -> arm -> value of all its seeds.
    """
    return [
        {
            "arm": arm,
            "seed": seed,
            "run": f"{arm}-seed{seed}",
            "top1": top1,
            "worst_class": top1 / 2,
            "optimizer_steps": 720,
            "seconds": seconds + len(arm),
            **{key: by_arm.get(arm) for key, by_arm in more.items()},
        }
        for arm, seeds in values.items()
        for seed, top1 in enumerate(seeds)
        if not math.isnan(top1)
    ]


def efficiency_rows() -> list[dict[str, Any]]:
    """Two series by images: `b` reaches with 400 images what `a` reaches with 1,600."""
    images = {"real": 0, **{f"{name}-x{x}": 200 * x for name in "ab" for x in (1, 2, 4, 8)}}
    means = {"real": 0.30, "a-x1": 0.40, "a-x2": 0.42, "a-x4": 0.44, "a-x8": 0.50,
             "b-x1": 0.40, "b-x2": 0.50, "b-x4": 0.60, "b-x8": 0.70}  # fmt: skip
    spread = (-0.01, 0.0, 0.01)
    values = {arm: [mean + s for s in spread] for arm, mean in means.items()}
    return rows_of(values, generated=images)
