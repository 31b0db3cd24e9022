"""Entropy: images on which the classifier cannot decide (Deliberate Practice, arXiv 2502.15588)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def entropy(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Return the entropy of the softmax in nats, [B]; the labels are not used."""
    log_p_BC = logits_BC.log_softmax(dim=1)
    return -(log_p_BC.exp() * log_p_BC).sum(dim=1)
