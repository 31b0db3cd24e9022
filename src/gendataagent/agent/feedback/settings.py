"""Problems of the feedback settings."""

from __future__ import annotations

from collections.abc import Iterator

from gendataagent.config import AUTO, RunConfig
from gendataagent.generation.feedback import CONTROLS, CRITERIA, OFF


def feedback_problems(config: RunConfig) -> Iterator[str]:
    """Yield a sentence for each problem of the feedback settings that needs the criteria."""
    name, scale = config.generation.feedback, config.generation.feedback_scale
    if name == OFF:
        return
    if name not in CRITERIA:
        yield f"generation.feedback must be one of {OFF}, {', '.join(CRITERIA)}; got {name!r}"
    elif name in CONTROLS and scale == AUTO:
        yield (
            f"generation.feedback={name} is a control that makes images no harder, so "
            "generation.feedback_scale must be a number, such as 0.06"
        )
