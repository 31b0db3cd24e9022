"""Precision, recall, density and coverage, against their definitions written out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from gendataagent.core.coverage import mean_coverage
from gendataagent.core.errors import DataError
from gendataagent.data.pixels import Pixels
from gendataagent.training.coverage import NEIGHBOURS, _measures, coverage_by_class


def written_out(made: list[list[float]], real: list[list[float]], k: int) -> dict[str, float]:
    """Return the four measures by the formulas of Naeem et al., one pair at a time."""

    def reach(points: list[list[float]], of: int) -> float:
        others = (math.dist(points[of], p) for i, p in enumerate(points) if i != of)
        return sorted(others)[k - 1]

    near_real = [[math.dist(r, m) < reach(real, i) for m in made] for i, r in enumerate(real)]
    near_made = [[math.dist(r, m) < reach(made, j) for j, m in enumerate(made)] for r in real]
    return {
        "precision": sum(any(column) for column in zip(*near_real, strict=True)) / len(made),
        "recall": sum(any(row) for row in near_made) / len(real),
        "density": sum(sum(row) for row in near_real) / (k * len(made)),
        "coverage": sum(any(row) for row in near_real) / len(real),
    }


def points(count: int, *, shift: float = 0.0, seed: int = 0) -> Tensor:
    return torch.randn((count, 6), generator=torch.Generator().manual_seed(seed)) + shift


@pytest.mark.parametrize("shift", [0.0, 0.7, 9.0])
def test_measures_are_those_of_the_papers(shift: float) -> None:
    made, real = points(23, shift=shift, seed=1), points(17, seed=2)
    found = _measures(made, real, 3)
    assert found == pytest.approx(written_out(made.tolist(), real.tolist(), 3), abs=1e-6)


def test_copies_of_the_real_images_cover_them_and_far_ones_none() -> None:
    real = points(20, seed=3)
    assert _measures(real.clone(), real, 5)["coverage"] == 1.0
    assert set(_measures(points(20, shift=50.0), real, 5).values()) == {0.0}


class Looked:
    """A classifier that knows the features of each image by its id."""

    class_names = ("a", "b", "c")

    def __init__(self) -> None:
        self.of_id: dict[str, Tensor] = {}

    def features(self, pixels: Pixels) -> Tensor:
        return torch.stack([self.of_id[id_] for id_ in pixels.ids])

    def pixels(self, features_ND: Tensor, labels: list[int], prefix: str) -> Pixels:
        ids = [f"{prefix}{index}" for index in range(len(labels))]
        self.of_id.update(zip(ids, features_ND, strict=True))
        return Pixels(lambda _: torch.empty(0), labels, ids=ids, size_px=8)


def test_classes_are_measured_by_themselves() -> None:
    real_ND = points(27, seed=4)
    labels = [0] * 12 + [1] * 12 + [2] * 3  # c has too few
    classifier: Any = Looked()
    real = classifier.pixels(real_ND, labels, "v")
    train_ND = points(27, seed=5)
    train = classifier.pixels(train_ND, labels, "t")
    made_MD = torch.cat([real_ND[:12], real_ND[:12] + 40.0, real_ND[24:]])
    made = classifier.pixels(made_MD, labels, "m")
    found = coverage_by_class(classifier, made, list(train.ids), train=train, real=real)
    assert list(found) == ["a", "b"]
    assert found["a"].coverage == 1.0
    assert found["b"].coverage < 0.5
    assert (found["a"].images, found["a"].references) == (12, 12)
    cosine = torch.nn.functional.cosine_similarity(made_MD[:12], train_ND[:12])
    assert found["a"].source_distance == pytest.approx(float((1 - cosine).mean()), abs=1e-5)
    mean = mean_coverage(found)
    assert mean is not None
    assert mean.coverage == pytest.approx((found["a"].coverage + found["b"].coverage) / 2)
    assert mean.images == 24
    of_none = ["" if label == 0 else id_ for id_, label in zip(train.ids, labels, strict=True)]
    from_text = coverage_by_class(classifier, made, of_none, train=train, real=real)
    assert from_text["a"].source_distance is None
    mean = mean_coverage(from_text)
    assert mean is not None
    assert mean.source_distance == from_text["b"].source_distance
    only = mean_coverage({"a": from_text["a"]})
    assert only is not None
    assert only.source_distance is None
    assert mean_coverage({}) is None


def test_each_image_needs_its_source() -> None:
    classifier: Any = Looked()
    some = classifier.pixels(points(NEIGHBOURS + 1), [0] * (NEIGHBOURS + 1), "x")
    with pytest.raises(DataError, match="6 synthetic images but 1 sources"):
        coverage_by_class(classifier, some, ["x0"], train=some, real=some)
