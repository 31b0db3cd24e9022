"""p(y), entropy and the second view of images, on a classifier that can be computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gendataagent.agent.feedback.measuring import measure_hardness
from gendataagent.data.pixels import Pixels
from gendataagent.training.classifier import Classifier

GREY = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


class Brightness(nn.Module):
    """Two logits: ten times the mean brightness, and its opposite."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        mean_B = self.scale * (images_BCHW.mean(dim=(1, 2, 3)) - 0.5)
        return torch.stack([mean_B, -mean_B], dim=1)


def images(values: list[int], labels: list[int]) -> Pixels:
    made = [Image.new("RGB", (16, 16), (value, value, value)) for value in values]
    return Pixels.from_pil(made, labels, ids=[str(i) for i in range(len(made))], size_px=16)


@pytest.fixture
def classifier() -> Classifier:
    mean, std = GREY
    return Classifier(Brightness(), class_names=("light", "dark"), size_px=16, mean=mean, std=std)


def test_it_measures_the_true_class(classifier: Classifier) -> None:
    hardness = measure_hardness(classifier, images([255, 255, 0], [0, 1, 1]))
    sure = 1 / (1 + math.exp(-10))
    assert hardness.p_true == pytest.approx([sure, 1 - sure, sure], abs=1e-5)
    assert hardness.entropy[0] == pytest.approx(hardness.entropy[2])
    assert hardness.recognised == (True, False, True)


def test_the_second_view_sees_the_inner_part_only(classifier: Classifier) -> None:
    pixels_HWC = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels_HWC[1:-1, 1:-1] = 160  # light inside, dark on the border: dark in all, light inside
    framed = Pixels.from_pil([Image.fromarray(pixels_HWC)], [0], ids=["a"], size_px=16)
    hardness = measure_hardness(classifier, framed)
    assert hardness.p_true[0] < 0.5
    assert hardness.recognised == (True,)


def test_the_classifier_is_left_as_found(classifier: Classifier) -> None:
    classifier.module.train()
    measure_hardness(classifier, images([10, 200], [0, 1]))
    assert classifier.module.training
