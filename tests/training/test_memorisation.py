"""The ratio is 0.5 without copying, and rises with it, source or not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gendataagent.core.errors import DataError
from gendataagent.data.pixels import Pixels
from gendataagent.training.classifier import Classifier
from gendataagent.training.memorisation import memorisation

SIDE = 4


@pytest.fixture
def classifier() -> Classifier:
    """A classifier whose features are the pixels themselves."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2))
    return Classifier.wrap(module, class_names=("a", "b"), size_px=SIDE)


def noise(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=generator).to(torch.uint8)


def pixels_of(images: Tensor, prefix: str, labels: Tensor | None = None) -> Pixels:
    count = len(images)
    labels = torch.arange(count) % 2 if labels is None else labels
    ids = [f"{prefix}{index}" for index in range(count)]
    return Pixels(images.__getitem__, labels, ids=ids, size_px=SIDE)


TRAIN, HELD_OUT = noise(200, 0), noise(200, 1)


def test_unrelated_images_are_as_near_to_either(classifier: Classifier) -> None:
    found = memorisation(
        classifier,
        pixels_of(noise(600, 2), "s"),
        [f"t{i % 200}" for i in range(600)],
        train=pixels_of(TRAIN, "t"),
        held_out=pixels_of(HELD_OUT, "h"),
        control=pixels_of(noise(600, 3), "c"),
        seed=0,
    )
    assert found.ratio == pytest.approx(0.5, abs=0.07)
    assert found.without_source == pytest.approx(0.5, abs=0.07)
    assert found.control == pytest.approx(0.5, abs=0.07)
    assert (found.images, found.references, found.draws) == (600, 200, 5)


def test_images_like_their_source_raise_the_ratio_only_with_the_source(
    classifier: Classifier,
) -> None:
    near = (0.8 * TRAIN + 0.2 * noise(200, 4).float()).to(torch.uint8)
    arguments = {"train": pixels_of(TRAIN, "t"), "held_out": pixels_of(HELD_OUT, "h"), "seed": 0}
    own = memorisation(classifier, pixels_of(near, "s"), [f"t{i}" for i in range(200)], **arguments)  # type: ignore[arg-type]
    assert own.ratio == 1.0
    assert own.without_source == pytest.approx(0.5, abs=0.1)
    assert own.control is None
    # a copy of a training image that was not the source is copying in both
    others = [f"t{(i + 2) % 200}" for i in range(200)]
    copied = memorisation(classifier, pixels_of(near, "s"), others, **arguments)  # type: ignore[arg-type]
    assert copied.without_source == 1.0


def test_leaving_the_source_out_keeps_the_sets_equal(classifier: Classifier) -> None:
    """With two training images, one of them the source, 0.5 must still be the middle."""
    count = 2000
    votes = memorisation(
        classifier,
        pixels_of(noise(count, 5), "s"),
        [f"t{i % 2}" for i in range(count)],
        train=pixels_of(TRAIN[:2], "t", torch.zeros(2).long()),
        held_out=pixels_of(HELD_OUT[:2], "h", torch.zeros(2).long()),
        seed=0,
        draws=1,
    )
    assert votes.without_source == pytest.approx(0.5, abs=0.12)


def test_both_sets_hold_the_same_number_of_each_class(classifier: Classifier) -> None:
    train = pixels_of(TRAIN[:30], "t", torch.tensor([0] * 20 + [1] * 10))
    held_out = pixels_of(HELD_OUT[:30], "h", torch.tensor([0] * 4 + [1] * 26))
    synthetic = pixels_of(noise(10, 6), "s")
    found = memorisation(classifier, synthetic, ["t0"] * 10, train=train, held_out=held_out, seed=0)
    assert found.references == 4 + 10
    again = memorisation(classifier, synthetic, ["t0"] * 10, train=train, held_out=held_out, seed=0)
    assert found == again
    other = memorisation(classifier, synthetic, ["t0"] * 10, train=train, held_out=held_out, seed=1)
    assert found != other


def test_images_as_near_to_either_count_half(classifier: Classifier) -> None:
    found = memorisation(
        classifier,
        pixels_of(noise(20, 7), "s"),
        ["t0"] * 20,
        train=pixels_of(TRAIN[:50], "t"),
        held_out=pixels_of(TRAIN[:50], "h"),
        seed=0,
    )
    assert found.ratio == 0.5
    assert found.to_json()["ratio"] == 0.5


def test_invalid_input_is_refused(classifier: Classifier) -> None:
    train, held_out = pixels_of(TRAIN, "t"), pixels_of(HELD_OUT[:9], "h", torch.ones(9).long())
    some = pixels_of(noise(3, 8), "s")
    with pytest.raises(DataError, match="3 images and 2 sources"):
        memorisation(classifier, some, ["t0", "t1"], train=train, held_out=held_out, seed=0)
    with pytest.raises(DataError, match="0 images"):
        memorisation(
            classifier, pixels_of(TRAIN[:0], "s"), [], train=train, held_out=held_out, seed=0
        )
    zeros = pixels_of(TRAIN[:9], "t", torch.zeros(9).long())
    with pytest.raises(DataError, match="give the data a validation split"):
        memorisation(classifier, some, ["t0"] * 3, train=zeros, held_out=held_out, seed=0)
