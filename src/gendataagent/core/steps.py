"""How many denoising steps an image takes."""

from __future__ import annotations

import math

_ROUNDING = 1e-9  # 0.29 * 100 is 28.999999999999996 as a float


def executed_steps(num_inference_steps: int, strength: float) -> int:
    """Return how many of a scheduler's steps an image-to-image call executes, in every model."""
    return math.floor(num_inference_steps * strength + _ROUNDING)
