"""From scores to selected images. N = training images, C = classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gendataagent.core.errors import ScoreError
from gendataagent.core.records import Scored

if TYPE_CHECKING:
    from gendataagent.config import SelectionConfig

FloatArray = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]

BY_SIZE, BY_VALIDATION_ERROR, BY_TRAINING_ERROR = "size", "validation-error", "training-error"
MIN_ERROR = 0.01  # so that a class that is never missed still gets images


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionContext:
    """The inputs of a selector: the current classifier's predictions on the training images.

    Args:
        probabilities_NC: softmax output in eval mode, without augmentation.
        seed: seed of this round's selection, for selectors that draw.
        untrained: whether the classifier has not been trained at all.
        validation_error_C: see `class_errors`; None where there are no validation images.
        times_used_N: in how many earlier rounds each image was a source; those used least go first.
            None = does not matter.
    """

    source_ids: tuple[str, ...]
    labels_N: Labels
    probabilities_NC: FloatArray
    seed: int
    validation_error_C: FloatArray | None = None
    untrained: bool = False
    times_used_N: Labels | None = None


Selector = Callable[[SelectionContext], FloatArray]
"""Returns one score per image, shape [N]; the lowest scores are selected."""


def take_lowest(
    context: SelectionContext,
    scores_N: FloatArray,
    share: float,
    *,
    per_class: bool,
    budget_by: str = BY_SIZE,
    skip_hardest: float = 0.0,
) -> list[Scored]:
    """Return the `share` of images with the lowest scores, lowest first.

    Ties are broken by id, so the order of the images does not matter. The number depends on the
    class sizes alone, see `count_selected`.

    Args:
        budget_by: "size", or "validation-error" / "training-error": the same number in all, but a
            class's part follows its size times its error (which implies per_class).
        skip_hardest: share of the set (or class) skipped at the low end; fewer if too few images
            would remain.

    Raises:
        ScoreError: a score is NaN or infinite; ranking it would call it hardest or easiest.
    """
    scores_N = _checked(context, scores_N)
    used_N = context.times_used_N if context.times_used_N is not None else np.zeros(len(scores_N))
    order = sorted(
        range(len(scores_N)),
        key=lambda index: (used_N[index], scores_N[index], context.source_ids[index]),
    )
    if per_class or budget_by != BY_SIZE:
        labels = [int(label) for label in np.unique(context.labels_N)]
        groups = [[i for i in order if context.labels_N[i] == label] for label in labels]
        counts = [_count(len(group), share) for group in groups]
        if budget_by != BY_SIZE:
            counts = _by_error(context, labels, [len(g) for g in groups], sum(counts), budget_by)
    else:
        groups, counts = [order], [_count(len(order), share)]
    taken: set[int] = set()
    for group, count in zip(groups, counts, strict=True):
        skipped = min(int(skip_hardest * len(group) + 1e-9), len(group) - count)
        taken.update(group[skipped : skipped + count])
    return [
        Scored(
            source_id=context.source_ids[index],
            label=int(context.labels_N[index]),
            score=float(scores_N[index]),
        )
        for index in order
        if index in taken
    ]


def count_selected(images_per_class: Sequence[int], settings: SelectionConfig) -> int:
    """Return how many images `take_lowest` will select; no classifier is needed.

    Rounded to the nearest and at least one, of the whole set or (per class) of each class.
    """
    if settings.per_class or settings.budget_by != BY_SIZE:
        return sum(_count(images, settings.share) for images in images_per_class)
    return _count(sum(images_per_class), settings.share)


def class_errors(labels_N: Labels, probabilities_NC: FloatArray) -> FloatArray:
    """Return 1 - mean p(true class) of each class, shape [C]; the mean of all where it has none.

    A soft error rate: with few images per class the plain rate is mostly sampling noise.
    """
    classes = probabilities_NC.shape[1]
    missed_N = 1 - probabilities_NC[np.arange(len(labels_N)), labels_N].astype(np.float64)
    overall = missed_N.mean() if len(missed_N) else 1.0
    errors_C: FloatArray = np.array(
        [
            missed_N[labels_N == label].mean() if (labels_N == label).any() else overall
            for label in range(classes)
        ]
    )
    return errors_C


def _count(images: int, share: float) -> int:
    return min(images, max(1, round(share * images)))


def _by_error(
    context: SelectionContext, labels: Sequence[int], sizes: Sequence[int], total: int, by: str
) -> list[int]:
    """Divide `total` over the classes in proportion to size * error, at most `sizes`.

    Largest remainders; what exceeds a class's size is divided over the others. Without validation
    images the error on the training images is used.
    """
    errors_C = context.validation_error_C if by == BY_VALIDATION_ERROR else None
    if errors_C is None:
        errors_C = class_errors(context.labels_N, context.probabilities_NC)
    weights = {
        i: size * max(MIN_ERROR, float(errors_C[label]))
        for i, (label, size) in enumerate(zip(labels, sizes, strict=True))
    }
    counts = dict.fromkeys(weights, 0)
    while weights and total > 0:
        wanted = {i: total * weight / sum(weights.values()) for i, weight in weights.items()}
        full = [i for i in weights if wanted[i] >= sizes[i]]
        for i in full:
            counts[i] = sizes[i]
            total -= sizes[i]
            del weights[i]
        if not full:
            counts |= _largest_remainders(wanted, total)
            break
    return [counts[i] for i in range(len(labels))]


def _largest_remainders(wanted: Mapping[int, float], total: int) -> dict[int, int]:
    """Return whole numbers next to `wanted` whose sum is `total`."""
    counts = {i: int(value) for i, value in wanted.items()}
    by_remainder = sorted(wanted, key=lambda i: (counts[i] - wanted[i], i))
    for i in by_remainder[: total - sum(counts.values())]:
        counts[i] += 1
    return counts


def _checked(context: SelectionContext, scores_N: FloatArray) -> FloatArray:
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
    return scores_N
