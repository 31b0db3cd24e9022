"""Does the classifier see what a candidate was made to show?"""

from __future__ import annotations

import numpy as np

from gendataagent.agent.filtering.verdicts import FilterContext, FilterScores


def agreement_scores(context: FilterContext) -> FilterScores:
    """Return p(class it was made for | candidate) by the classifier as it is now.

    Ours, not the paper's. A generator that misses its class gives wrongly labelled images, which
    cost the classes they look like; keep = "high" drops those the classifier doubts most.
    """
    probabilities_NC = context.classifier.predict_probabilities(
        context.pixels, context.batch_size
    ).numpy()
    labels_N = [candidate.label for candidate in context.candidates]
    return FilterScores(probabilities_NC[np.arange(len(labels_N)), labels_N])
