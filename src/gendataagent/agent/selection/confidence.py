"""The paper's marginal score."""

from __future__ import annotations

import numpy as np

from gendataagent.agent.selection.ranking import FloatArray, SelectionContext


def marginal_score(context: SelectionContext) -> FloatArray:
    """Return p(true class | image), shape [N]: the paper's marginal score [R]."""
    scores: FloatArray = context.probabilities_NC[
        np.arange(len(context.labels_N)), context.labels_N
    ]
    return scores
