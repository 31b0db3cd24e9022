"""Measures of a classifier: accuracy, its spread over classes, calibration, robustness."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gendataagent.core.errors import DataError
from gendataagent.core.records import Evaluation
from gendataagent.data.pixels import Pixels
from gendataagent.training import corruptions
from gendataagent.training.classifier import BATCH_SIZE, Classifier

ECE_BINS = 15  # Guo et al., "On Calibration of Modern Neural Networks", ICML 2017


def evaluate(
    classifier: Classifier,
    pixels: Pixels,
    split: str,
    batch_size: int = BATCH_SIZE,
    *,
    on_batch: Callable[[int], None] | None = None,
    on_predicted: Callable[[Tensor], None] | None = None,
) -> Evaluation:
    """Return the measures of `classifier` on `pixels`, in eval mode; its state is left as found.

    Args:
        on_batch: called after each batch with its number of images.
        on_predicted: called with the predicted class of each image, [N].

    Raises:
        DataError: no images, or a label that is not the index of a class.
        ScoreError: logits that are not finite, with the ids of the images.
    """
    if len(pixels) == 0:
        raise DataError(f"the {split} split has no images to evaluate on")
    logits_NC = classifier.predict_logits(pixels, batch_size, on_batch=on_batch)
    if on_predicted is not None:
        on_predicted(logits_NC.argmax(dim=1))
    return measure(logits_NC, pixels.labels, classifier.class_names, split)


def measure(
    logits_NC: Tensor, labels_N: Tensor, class_names: Sequence[str], split: str
) -> Evaluation:
    """Return the measures of logits, [N, C], of N > 0 images."""
    names, logits_NC = class_names, logits_NC.double()
    predicted_N = logits_NC.argmax(dim=1)
    confusion_CC = confusion_matrix(labels_N, predicted_N, len(names))
    images_C, right_C = confusion_CC.sum(dim=1), confusion_CC.diagonal()
    per_class = {
        name: int(right) / int(images)
        for name, right, images in zip(names, right_C, images_C, strict=True)
        if images > 0
    }
    worst_class = min(per_class, key=lambda name: per_class[name])
    confidence_N = logits_NC.softmax(dim=1).amax(dim=1)
    return Evaluation(
        split=split,
        images=len(labels_N),
        top1=int(right_C.sum()) / len(labels_N),
        per_class=per_class,
        worst_class=worst_class,
        worst_class_accuracy=per_class[worst_class],
        worst_case_disparity=worst_case_disparity(per_class),
        loss=float(functional.cross_entropy(logits_NC, labels_N)),
        ece=expected_calibration_error(confidence_N, predicted_N == labels_N),
        confusion=tuple(tuple(row) for row in confusion_CC.tolist()),
    )


def confusion_matrix(labels_N: Tensor, predicted_N: Tensor, classes: int) -> Tensor:
    """Return counts [C, C]: row = true class, column = predicted class."""
    pairs_N = labels_N * classes + predicted_N
    return torch.bincount(pairs_N, minlength=classes * classes).reshape(classes, classes)


def worst_case_disparity(per_class: dict[str, float]) -> float:
    """Return min / max of the class accuracies (Ghosh et al. 2021); 0 when the best is at 0."""
    best = max(per_class.values())
    return min(per_class.values()) / best if best > 0 else 0.0


def expected_calibration_error(
    confidence_N: Tensor, correct_N: Tensor, bins: int = ECE_BINS
) -> float:
    """Return sum over bins of (share of images) * |accuracy - mean confidence|.

    Bins of equal width, open below and closed above: (0, 1/15], (1/15, 2/15]...
    """
    bin_N = (confidence_N * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.zeros(bins, dtype=torch.float64)
    gaps.index_add_(0, bin_N, correct_N.double() - confidence_N.double())
    return float(gaps.abs().sum() / len(confidence_N))


@dataclass(frozen=True, slots=True, kw_only=True)
class Robustness:
    """Measures of a classifier on corrupted images and on the same images uncorrupted.

    Args:
        images_from: where the images were read from.
        size_px: side at which they were corrupted: the classifier's input size.
        table_px: size whose constants were used.
        noise_seed: seed of the noise; the same for every run, so that runs are comparable.
        corrupted: corruption -> severity -> measures.
    """

    images_from: str
    size_px: int
    table_px: int
    noise_seed: int
    clean: Evaluation
    corrupted: Mapping[str, Mapping[int, Evaluation]]

    def mean_top1(self, corruption: str) -> float:
        """Return the mean over the severities measured."""
        measured = self.corrupted[corruption].values()
        return sum(evaluation.top1 for evaluation in measured) / len(measured)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, without the confusion matrices, which would fill most of it."""
        return {
            "images_from": self.images_from,
            "split": self.clean.split,
            "images": self.clean.images,
            "size_px": self.size_px,
            "table_px": self.table_px,
            "noise_seed": self.noise_seed,
            "clean": _without_confusion(self.clean),
            "corrupted": {
                name: {
                    "mean_top1": self.mean_top1(name),
                    "severity": {
                        str(severity): _without_confusion(evaluation)
                        for severity, evaluation in by_severity.items()
                    },
                }
                for name, by_severity in self.corrupted.items()
            },
        }


def _without_confusion(evaluation: Evaluation) -> dict[str, Any]:
    row = evaluation.to_json()
    del row["confusion"]
    return row


def evaluate_robustness(
    classifier: Classifier,
    pixels: Pixels,
    split: str,
    *,
    names: Sequence[str],
    severities: Sequence[int],
    images_from: str = "",
    noise_seed: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> Robustness:
    """Return the measures of `classifier` on `pixels` under each corruption and severity.

    Raises:
        ConfigError: no such corruption or severity.
        DataError, ScoreError: as `evaluate`.
    """
    corruptions.check(names, severities)
    size_px = classifier.size_px
    clean = evaluate(classifier, pixels, split, on_batch=on_batch)

    def measure(name: str, severity: int) -> Evaluation:
        images = corruptions.corrupted(pixels, name, severity, size_px=size_px, seed=noise_seed)
        return evaluate(classifier, images, split, on_batch=on_batch)

    return Robustness(
        images_from=images_from,
        size_px=size_px,
        table_px=corruptions.table_px(size_px),
        noise_seed=noise_seed,
        clean=clean,
        corrupted={
            name: {severity: measure(name, severity) for severity in severities} for name in names
        },
    )
