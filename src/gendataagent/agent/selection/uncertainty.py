"""Two scores of active learning that ignore the true class."""

from __future__ import annotations

import numpy as np

from gendataagent.agent.selection.ranking import FloatArray, SelectionContext


def negative_entropy(context: SelectionContext) -> FloatArray:
    """Return minus the entropy of the prediction in nats, shape [N]: most uncertain is lowest."""
    clipped_NC = np.clip(context.probabilities_NC, 1e-12, 1.0)
    entropy_N: FloatArray = (clipped_NC * np.log(clipped_NC)).sum(axis=1)
    return entropy_N


def margin_score(context: SelectionContext) -> FloatArray:
    """Return the gap between the two likeliest classes, shape [N]: a narrow gap is lowest."""
    two_N2 = np.sort(context.probabilities_NC, axis=1)[:, -2:]
    gap_N: FloatArray = two_N2[:, 1] - two_N2[:, 0]
    return gap_N
