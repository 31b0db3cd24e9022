"""Selection at random, independent of the classifier."""

from __future__ import annotations

import numpy as np

from gendataagent.agent.selection.ranking import FloatArray, SelectionContext
from gendataagent.core.records import derive_seed


def uniform_score(context: SelectionContext) -> FloatArray:
    """Return a draw from [0, 1) per image, shape [N], that depends on the seed and its id alone."""
    return np.array([derive_seed(context.seed, i) / 2**63 for i in context.source_ids])
