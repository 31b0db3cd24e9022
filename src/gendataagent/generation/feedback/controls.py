"""Controls: what feedback must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gendataagent.generation.feedback.loss import loss

if TYPE_CHECKING:
    from torch import Tensor


def easiness(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Return log p(y), [B]: the opposite of `loss`, towards images the classifier knows well."""
    return -loss(logits_BC, labels_B)
