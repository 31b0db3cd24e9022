"""The filter's controls: drop at random, or drop nothing."""

from __future__ import annotations

import numpy as np

from gendataagent.agent.filtering.verdicts import FilterContext, FilterScores
from gendataagent.core.records import derive_seed


def random_scores(context: FilterContext) -> FilterScores:
    """Return a draw from [0, 1) per candidate that depends on the seed and its id alone."""
    draws = [derive_seed(context.seed, candidate.id) / 2**63 for candidate in context.candidates]
    return FilterScores(np.array(draws))


def no_scores(context: FilterContext) -> FilterScores:
    """Return no scores, so that every image passes."""
    return FilterScores(None)
