from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from gendataagent.core.errors import DataError, ScoreError
from gendataagent.data.pixels import Pixels
from gendataagent.training.classifier import Classifier
from gendataagent.training.evaluation import (
    evaluate,
    expected_calibration_error,
    measure,
    worst_case_disparity,
)

NAMES = ("ant", "bee", "cat")


class FromTable(nn.Module):
    """Gives, for an image of value v, the logits of row v of a table."""

    def __init__(self, logits_VC: Tensor) -> None:
        super().__init__()
        self.logits_VC = logits_VC

    def forward(self, images: Tensor) -> Tensor:
        return self.logits_VC[(images[:, 0, 0, 0] * 255).round().long()]


def case(probabilities: list[list[float]], labels: list[int]) -> tuple[Classifier, Pixels]:
    module = FromTable(torch.tensor(probabilities).log())
    classifier = Classifier.wrap(
        module, class_names=NAMES, size_px=2, mean=(0, 0, 0), std=(1, 1, 1)
    )
    values = torch.arange(len(labels), dtype=torch.uint8)
    images = values[:, None, None, None].expand(-1, 3, 2, 2)
    ids = [f"x{index}" for index in range(len(labels))]
    return classifier, Pixels(images.__getitem__, labels, ids=ids, size_px=2)


def test_every_measure_by_hand() -> None:
    classifier, pixels = case(
        [
            [0.7, 0.2, 0.1],  # ant, right
            [0.1, 0.8, 0.1],  # ant taken for bee
            [0.6, 0.3, 0.1],  # ant, right
            [0.1, 0.7, 0.2],  # bee, right
            [0.5, 0.1, 0.4],  # cat taken for ant
            [0.25, 0.15, 0.6],  # cat, right
            [0.2, 0.6, 0.2],  # cat taken for bee
        ],
        [0, 0, 0, 1, 2, 2, 2],
    )
    result = evaluate(classifier, pixels, "test", batch_size=3)
    assert (result.split, result.images) == ("test", 7)
    assert result.top1 == 4 / 7
    assert result.per_class == {"ant": 2 / 3, "bee": 1.0, "cat": 1 / 3}
    assert (result.worst_class, result.worst_class_accuracy) == ("cat", 1 / 3)
    assert result.worst_case_disparity == 1 / 3
    assert result.confusion == ((2, 1, 0), (0, 1, 0), (1, 1, 1))
    true = [0.7, 0.1, 0.6, 0.7, 0.4, 0.6, 0.2]
    assert result.loss == pytest.approx(-sum(map(math.log, true)) / 7, rel=1e-6)
    # bins of 1/15: 0.5 | 0.6, 0.6, 0.6 | 0.7, 0.7 | 0.8 with 0, 2, 2, 0 right
    gaps = abs(0 - 0.5) + abs(2 - 1.8) + abs(2 - 1.4) + abs(0 - 0.8)
    assert result.ece == pytest.approx(gaps / 7, abs=1e-6)
    assert result.to_json()["confusion"][0] == (2, 1, 0)


def test_a_class_without_images_is_left_out() -> None:
    classifier, pixels = case([[0.7, 0.2, 0.1], [0.6, 0.2, 0.2]], [0, 1])
    result = evaluate(classifier, pixels, "validation")
    assert result.per_class == {"ant": 1.0, "bee": 0.0}
    assert (result.worst_class, result.worst_case_disparity) == ("bee", 0.0)


def test_disparity_is_0_when_no_prediction_is_right() -> None:
    assert worst_case_disparity({"a": 0.0, "b": 0.0}) == 0.0
    assert worst_case_disparity({"a": 0.5, "b": 0.5}) == 1.0


def test_calibration_bins_are_closed_above() -> None:
    confidence = torch.tensor([0.5, 0.50001], dtype=torch.float64)
    right = torch.tensor([True, False])
    # with 2 bins, 0.5 is in the first: gaps |1 - 0.5| and |0 - 0.50001|
    assert expected_calibration_error(confidence, right, bins=2) == pytest.approx(0.500005)
    assert expected_calibration_error(confidence, right, bins=1) == pytest.approx(5e-6)
    certain = torch.ones(4, dtype=torch.float64)
    assert expected_calibration_error(certain, torch.ones(4, dtype=torch.bool)) == 0.0


def test_not_finite_logits_are_named() -> None:
    classifier, pixels = case([[0.7, 0.2, 0.1], [math.nan, 0.2, 0.2]], [0, 1])
    with pytest.raises(ScoreError, match=r"1 of 2 images \(x1\)"):
        evaluate(classifier, pixels, "test")


def test_an_empty_split_and_an_unknown_label_are_refused() -> None:
    classifier, pixels = case([[0.7, 0.2, 0.1]], [3])
    with pytest.raises(DataError, match="x0 has label 3"):
        evaluate(classifier, pixels, "test")
    classifier, pixels = case([], [])
    with pytest.raises(DataError, match="test split has no images"):
        evaluate(classifier, pixels, "test")


def test_classes_tied_for_the_worst_are_counted() -> None:
    labels_N = torch.tensor([0, 1, 2, 2])
    logits_NC = torch.nn.functional.one_hot(torch.tensor([1, 0, 2, 2]), 3).float()
    measured = measure(logits_NC, labels_N, ("a", "b", "c"), "test")
    assert (measured.worst_class, measured.tied_at_worst) == ("a", 2)
    assert measured.others_as_bad == " and 1 more"
    alone = measure(logits_NC[1:], labels_N[1:], ("a", "b", "c"), "test")
    assert (alone.worst_class, alone.others_as_bad) == ("b", "")
