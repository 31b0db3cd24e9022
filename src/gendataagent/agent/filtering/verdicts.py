"""From filter scores to accepted and rejected candidates. N = usable images of a round."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gendataagent.core.errors import ScoreError
from gendataagent.core.records import Candidate

if TYPE_CHECKING:
    from PIL import Image

    from gendataagent.config import FilterConfig
    from gendataagent.data.pixels import Pixels
    from gendataagent.training.classifier import Classifier


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterContext:
    """The inputs of a filter.

    Args:
        candidates: the round's usable candidates; `pixels` holds their images in the same order.
        classifier: the current classifier; a filter leaves it as found.
        snapshots: weight files of earlier states of the classifier, oldest first.
        seed: seed of this round's filter, for filters that draw.
        batch_size: images a pass.
        real: the real training images, for filters that compare with them.
        image_of: returns the image of a candidate as it was made, RGB.
    """

    candidates: Sequence[Candidate]
    pixels: Pixels
    classifier: Classifier
    snapshots: Sequence[Path]
    config: FilterConfig
    seed: int
    batch_size: int
    real: Pixels | None = None
    image_of: Callable[[Candidate], Image.Image] | None = None


@dataclass(frozen=True, slots=True)
class FilterScores:
    """One score per candidate, shape [N], or None with a note why every image passes.

    Args:
        is_vog: whether the scores are variances of gradients, to be recorded as such.
    """

    scores_N: npt.NDArray[np.floating] | None
    note: str = ""
    is_vog: bool = False


Filter = Callable[[FilterContext], FilterScores]


def drop(
    candidates: Sequence[Candidate], scores: FilterScores, config: FilterConfig
) -> list[Candidate]:
    """Return the candidates; floor(drop_share * n) of each class get `rejected_by`, or with
    drop_below those whose score is lower, with keep = "low" higher.

    With keep = "high" the lowest scores of a class are dropped, with "low" the highest; ties are
    broken by id.

    Raises:
        ScoreError: a score is NaN or infinite, or there is not one per candidate.
    """
    if scores.scores_N is None:
        return list(candidates)
    values = np.asarray(scores.scores_N, dtype=np.float64)
    if values.shape != (len(candidates),):
        raise ScoreError(
            f"a filter must return one score per candidate, shape ({len(candidates)},); got shape "
            f"{values.shape}"
        )
    broken = [c.id for c, value in zip(candidates, values, strict=True) if not np.isfinite(value)]
    if broken:
        raise ScoreError(
            f"the filter score of {len(broken)} images is not finite: {', '.join(broken[:5])}"
            f"{'...' if len(broken) > 5 else ''}. The classifier has probably diverged; "
            "lower training.learning_rate"
        )
    sign = 1.0 if config.keep == "high" else -1.0
    refused: set[int] = set()
    if isinstance(config.drop_below, str):
        for label in {candidate.label for candidate in candidates}:
            members = [i for i, candidate in enumerate(candidates) if candidate.label == label]
            members.sort(key=lambda i: (sign * values[i], candidates[i].id))
            # The small amount keeps 0.29 * 100 = 28.999... from dropping 28.
            refused.update(members[: math.floor(config.drop_share * len(members) + 1e-9)])
    else:
        limit = sign * config.drop_below
        refused.update(i for i, value in enumerate(values) if sign * value < limit)
    return [
        replace(
            candidate,
            vog=float(values[i]) if scores.is_vog else candidate.vog,
            rejected_by=config.by if i in refused else candidate.rejected_by,
        )
        for i, candidate in enumerate(candidates)
    ]
