"""Loss: images that the classifier gets wrong (feedback-guided synthesis, arXiv 2310.00158)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def loss(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Return the cross-entropy with the intended class, -log p(y), [B]."""
    return -logits_BC.log_softmax(dim=1).gather(1, labels_B[:, None])[:, 0]
