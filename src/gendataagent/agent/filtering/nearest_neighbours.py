"""Internet Explorer's filter, the paper's baseline: keep candidates that resemble real images.

Li et al., "Internet Explorer", ICML 2023: the reward of an image is its mean cosine similarity to
its 15 nearest images of the target set in the current encoder's feature space [C, R].
"""

from __future__ import annotations

import numpy as np

from gendataagent.agent.filtering.verdicts import FilterContext, FilterScores
from gendataagent.core.errors import GenDataAgentError


def nearest_neighbour_scores(context: FilterContext) -> FilterScores:
    """Return each candidate's mean cosine similarity to its nearest real images, of any class.

    Features are the inputs of the classifier's last linear layer. With fewer real images than
    `filter.neighbours`, all of them count.

    Raises:
        GenDataAgentError: the context holds no real images.
    """
    if context.real is None or not len(context.real):
        raise GenDataAgentError(
            "filter.by=knn needs the real training images; pass FilterContext(real=...)"
        )
    # These import torch, so only when used.
    from torch.nn.functional import normalize

    real_RD = normalize(context.classifier.features(context.real, context.batch_size))
    made_ND = normalize(context.classifier.features(context.pixels, context.batch_size))
    neighbours = min(context.config.neighbours, len(real_RD))
    nearest = [
        (part_BD @ real_RD.T).topk(neighbours, dim=1).values.mean(dim=1).numpy()
        for part_BD in made_ND.split(context.batch_size)
    ]
    return FilterScores(np.concatenate(nearest))
