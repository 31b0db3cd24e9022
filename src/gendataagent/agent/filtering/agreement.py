"""Score candidates by the classifier's probability of their class."""

from __future__ import annotations

import numpy as np

from gendataagent.agent.filtering.verdicts import FilterContext, FilterScores


def agreement_scores(context: FilterContext) -> FilterScores:
    """Return p(class it was made for | candidate) by the classifier as it is now.

    Ours, not the paper's. A generator that misses its class makes wrongly labelled images;
    keep = "high" drops those that the classifier doubts most.
    """
    probabilities_NC = context.classifier.predict_probabilities(
        context.pixels, context.batch_size
    ).numpy()
    labels_N = [candidate.label for candidate in context.candidates]
    return FilterScores(probabilities_NC[np.arange(len(labels_N)), labels_N])
