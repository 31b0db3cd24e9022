"""From scores to the chosen images. N = training images, C = classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gendataagent.errors import ScoreError
from gendataagent.records import Scored

FloatArray = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionContext:
    """What a selector may look at: how the current classifier does on the real training images.

    Args:
        probabilities_NC: softmax output in eval mode, without augmentation.
        seed: seed of this round's selection, for selectors that draw.
    """

    source_ids: tuple[str, ...]
    labels_N: Labels
    probabilities_NC: FloatArray
    seed: int


Selector = Callable[[SelectionContext], FloatArray]
"""Returns one score per image, shape [N]; the lowest scores are chosen."""


def choose(
    context: SelectionContext, scores_N: FloatArray, share: float, *, per_class: bool
) -> list[Scored]:
    """Return the `share` of images with the lowest scores, lowest first.

    Ties are broken by id, so the choice does not depend on the order of the images. The number is
    rounded to the nearest and at least one, of the whole set or (per_class) of each class.

    Raises:
        ScoreError: a score is NaN or infinite; ranking it would call it hardest or easiest.
    """
    scores_N = np.asarray(scores_N, dtype=np.float64)
    if scores_N.shape != (len(context.source_ids),):
        raise ScoreError(
            f"a selector must return one score per image, shape ({len(context.source_ids)},); "
            f"got shape {scores_N.shape}"
        )
    broken = [context.source_ids[i] for i in np.flatnonzero(~np.isfinite(scores_N))]
    if broken:
        raise ScoreError(
            f"the selection score of {len(broken)} images is not finite: {', '.join(broken[:5])}"
            f"{'...' if len(broken) > 5 else ''}. The classifier has probably diverged; "
            "lower training.learning_rate"
        )
    order = sorted(
        range(len(scores_N)), key=lambda index: (scores_N[index], context.source_ids[index])
    )
    if per_class:
        groups: list[Sequence[int]] = [
            [index for index in order if context.labels_N[index] == label]
            for label in np.unique(context.labels_N)
        ]
    else:
        groups = [order]
    taken = {
        index for group in groups for index in group[: max(1, round(share * len(group)))]
    }  # fmt: skip
    return [
        Scored(
            source_id=context.source_ids[index],
            label=int(context.labels_N[index]),
            score=float(scores_N[index]),
        )
        for index in order
        if index in taken
    ]
