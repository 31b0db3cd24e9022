"""Tiny things to learn from: 8 px images, and a network with BatchNorm and dropout."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gendataagent.data.pixels import Pixels
from gendataagent.training.classifier import Classifier

SIDE = 8
CLASSES = ("red", "green", "blue")


def tiny_network(seed: int = 0) -> nn.Module:
    """Return a convolution, BatchNorm, dropout and a linear head with seeded weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(24, len(CLASSES)),
        )


def noisy_pixels(count: int, *, seed: int = 0, prefix: str = "p", side: int = SIDE) -> Pixels:
    """Return `count` noisy images; class c is brighter in colour channel c."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % len(CLASSES)
    images = torch.randint(0, 128, (count, 3, side, side), generator=generator)
    images[torch.arange(count), labels] += 100
    return Pixels(
        images.to(torch.uint8).__getitem__,
        labels,
        ids=[f"{prefix}{index}" for index in range(count)],
        size_px=side,
    )


def classifier_of(module: nn.Module) -> Classifier:
    return Classifier.wrap(module, class_names=CLASSES, size_px=SIDE)


def weights_of(classifier: Classifier) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in classifier.module.state_dict().items()}


@pytest.fixture
def network() -> Callable[[int], nn.Module]:
    return tiny_network


@pytest.fixture
def make_pixels() -> Callable[..., Pixels]:
    return noisy_pixels


@pytest.fixture
def classifier() -> Classifier:
    """A classifier whose BatchNorm has seen data, so that train and eval mode differ."""
    classifier = classifier_of(tiny_network())
    classifier.module.train()
    with torch.no_grad():
        for start in range(3):
            images = noisy_pixels(16, seed=start).batch(torch.arange(16)).float() / 255
            classifier.logits(images)
    return classifier


@pytest.fixture
def snapshot() -> Callable[[Classifier], dict[str, Tensor]]:
    return weights_of
