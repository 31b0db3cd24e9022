"""Validation images of a loop of the user's own, in every form they can be given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset

from gendataagent.agent.validation import ValidationImages
from gendataagent.config import DataConfig, RunConfig
from gendataagent.core.errors import DataError
from gendataagent.data import LabelledImages
from gendataagent.data.pixels import Pixels
from gendataagent.data.train_set import TrainSet, open_train_set

CLASSES = ("cat", "dog", "ship")


def photographs(count: int, names: tuple[str, ...] = CLASSES) -> LabelledImages:
    images = [Image.new("RGB", (20, 16), (10 * i, 40, 90)) for i in range(count)]
    labels, ids = [i % 3 for i in range(count)], [str(i) for i in range(count)]
    return LabelledImages.from_images(images, labels, class_names=names, ids=ids)


class TorchSet(Dataset[tuple[Image.Image, int]]):
    """A torch data set without class names."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if index >= len(self):
            raise IndexError(index)
        return torch.full((3, 16, 20), 30 * index, dtype=torch.uint8), index % 3


def opened(validation: Any, train: TrainSet | None = None) -> ValidationImages:
    train = train or TrainSet(images=photographs(6))
    return ValidationImages.of(validation, train, DataConfig(), seed=0)


def test_none_and_no_split_is_nothing() -> None:
    assert len(opened(None)) == 0
    assert opened(None).at(8) is None


def test_the_split_of_a_path(small_config: RunConfig) -> None:
    train = open_train_set(small_config.data.path, small_config.data, seed=0)
    assert train.splits is not None
    found = opened(None, train)
    assert len(found) == len(train.splits.validation) > 0
    pixels = found.at(16)
    assert pixels is not None
    assert pixels.size_px == 16
    assert found.at(16) is pixels  # read once


def test_labelled_images_are_matched_by_name() -> None:
    found = opened(photographs(3, names=("ship", "cat", "dog"))).at(8)
    assert found is not None
    assert found.labels.tolist() == [2, 0, 1]
    with pytest.raises(DataError, match="the train set has no class fox"):
        opened(photographs(3, names=("cat", "dog", "fox")))


def test_a_torch_data_set_without_names_has_those_of_the_train_set() -> None:
    found = opened(TorchSet()).at(8)
    assert found is not None
    assert found.labels.tolist() == [0, 1, 2, 0]


def test_pixels_are_taken_as_they_are() -> None:
    pixels = Pixels.from_images(photographs(3), 12)
    assert opened(pixels).at(99) is pixels


def test_a_path_is_refused() -> None:
    with pytest.raises(DataError, match="give the images themselves"):
        opened("photos/validation")


class NamedSet(TorchSet):
    """The same with class names of its own."""

    classes = ("ship", "cat", "dog")


def test_names_inside_a_subset_count() -> None:
    found = opened(Subset(NamedSet(), [0, 1])).at(8)
    assert found is not None
    assert found.labels.tolist() == [2, 0]
    other = NamedSet()
    other.classes = ("fox", "hen", "owl")
    with pytest.raises(DataError, match="the train set has no class fox"):
        opened(Subset(other, [0, 1]))


def test_of_several_splits_that_for_validation_is_taken() -> None:
    parts = {"train": photographs(3), "val": photographs(3, names=("ship", "cat", "dog"))}
    found = opened(parts).at(8)
    assert found is not None
    assert found.labels.tolist() == [2, 0, 1]
    with pytest.raises(DataError, match="the splits train, of which none"):
        opened({"train": photographs(3)})
