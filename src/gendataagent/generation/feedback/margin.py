"""Margin: images between their class and the class they are most easily taken for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def confusion(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Return -|logit of the class - largest other logit|, [B]: highest on the boundary.

    The classes of the boundary are those of the image at this step.
    """
    import torch

    own_B1 = logits_BC.gather(1, labels_B[:, None])
    others_BC = logits_BC.scatter(1, labels_B[:, None], -torch.inf)
    return -(own_B1[:, 0] - others_BC.amax(dim=1)).abs()
