"""Parts for GenDataAgent in a package of your own: a selector, a filter, a captioner."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gendataagent.agent.filtering import FilterContext, FilterScores
from gendataagent.agent.selection import FloatArray, SelectionContext
from gendataagent.core.protocols import CaptionRequest
from gendataagent.core.records import ModelDescription


def confident_mistake_scores(context: SelectionContext) -> FloatArray:
    """Return p(true class) minus the largest p of another, [N]: confident mistakes are lowest."""
    p_NC = context.probabilities_NC.copy()
    rows_N = np.arange(len(p_NC))
    true_N = p_NC[rows_N, context.labels_N].copy()
    p_NC[rows_N, context.labels_N] = 0
    scores_N: FloatArray = true_N - p_NC.max(axis=1)
    return scores_N


def contrast_scores(context: FilterContext) -> FilterScores:
    """Return the standard deviation of each candidate's pixels, [N]: flat images are lowest."""
    images_N3SS = context.pixels.batch(range(len(context.pixels))).float()
    return FilterScores(images_N3SS.flatten(1).std(dim=1).numpy())


class BrightnessCaptioner:
    """Captions "bright" or "dark"."""

    description = ModelDescription(name="brightness", revision="1")

    def caption(self, requests: Sequence[CaptionRequest]) -> list[str]:
        """Return one caption per image."""
        return ["bright" if np.asarray(r.image).mean() > 127 else "dark" for r in requests]

    def release(self) -> None:
        """Do nothing: there is no model."""
