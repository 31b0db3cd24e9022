"""Real images replaced by synthetic ones that were made from them, instead of both in one epoch.

Trabucco et al., ICLR 2024 (DA-Fusion): each time a real image is read, one of its synthetic images
takes its place with a probability.

Letters in tensor names: N real images, M synthetic images, B images of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def with_siblings(
    batches: Sequence[Tensor],
    real_ids: Sequence[str],
    source_ids: Sequence[str],
    probability: float,
    seed: int,
) -> list[Tensor]:
    """Return batches of real images with some replaced by one of their siblings.

    Each occurrence of an image is drawn for anew, and each of its siblings is equally likely. An
    image without siblings stays. The result depends on the seed and the order of the images alone.

    Args:
        batches: indices [B] of real images.
        real_ids: id of each real image, [N].
        source_ids: id of the real image that each synthetic one was made from, [M].

    Returns:
        Indices [B] of the real images followed by the synthetic ones, 0 to N + M - 1.
    """
    place = {id_: index for index, id_ in enumerate(real_ids)}
    source_M = torch.tensor([place.get(id_, len(place)) for id_ in source_ids], dtype=torch.long)
    by_source_M = source_M.argsort(stable=True)
    siblings_N = torch.bincount(source_M, minlength=len(place) + 1)[: len(place)]
    first_N = siblings_N.cumsum(0) - siblings_N
    generator = torch.Generator().manual_seed(seed)
    replaced = []
    for indices_B in batches:
        draws_2B = torch.rand((2, len(indices_B)), generator=generator, dtype=torch.float64)
        count_B = siblings_N[indices_B]
        nth_B = torch.minimum((draws_2B[1] * count_B).long(), (count_B - 1).clamp(min=0))
        is_replaced_B = (draws_2B[0] < probability) & (count_B > 0)
        chosen_B = indices_B.clone()
        rows_B = (first_N[indices_B] + nth_B)[is_replaced_B]
        chosen_B[is_replaced_B] = len(place) + by_source_M[rows_B]
        replaced.append(chosen_B)
    return replaced
