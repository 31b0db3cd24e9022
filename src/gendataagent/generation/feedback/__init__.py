"""Feedback: the classifier in training steers each denoising step (docs/feedback.md).

To add a criterion: write `def my_criterion(logits_BC, labels_B) -> Tensor`, which returns a value
per image, shape [B], in a new file of this folder and add one line to `CRITERIA`; its name then
works as `generation.feedback`. Steps move the image towards a higher value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from gendataagent.core.errors import ConfigError
from gendataagent.core.plugins import Parts
from gendataagent.core.suggestions import did_you_mean
from gendataagent.generation.feedback.controls import easiness
from gendataagent.generation.feedback.entropy import entropy
from gendataagent.generation.feedback.loss import loss
from gendataagent.generation.feedback.margin import confusion

if TYPE_CHECKING:
    from torch import Tensor

    Criterion = Callable[[Tensor, Tensor], Tensor]

OFF = "none"
RANDOM = "random"  # a control: a direction drawn by seed instead of a gradient

EASY = "easy"
CONTROLS = (EASY, RANDOM)

CRITERIA: Mapping[str, Criterion | None] = Parts(
    "criteria",
    {"entropy": entropy, "loss": loss, "margin": confusion, EASY: easiness, RANDOM: None},
)


def criterion_of(name: str) -> Criterion | None:
    """Return the criterion of a name, None for the random control.

    Raises:
        ConfigError: there is no such criterion.
    """
    if name not in CRITERIA:
        hint = did_you_mean(name, [OFF, *CRITERIA])
        raise ConfigError(f"generation.feedback: there is no criterion {name!r}; {hint}")
    return CRITERIA[name]
