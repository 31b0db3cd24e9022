"""Validation images for settings that compare with them, at the size that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError
from gendataagent.data import LabelledImages
from gendataagent.data.index import VALIDATION, split_of
from gendataagent.data.labels import relabelled
from gendataagent.data.pixels import Pixels
from gendataagent.data.train_set import TrainSet, has_class_names, open_train_set


class ValidationImages:
    """Images that the classifier is not trained on; there may be none.

    Args:
        images: pixels of one size, images that are read when a size is asked for, or None.
    """

    def __init__(self, images: Pixels | LabelledImages | None) -> None:
        self._images = images

    @classmethod
    def of(
        cls, validation: Any, train: TrainSet, data: DataConfig, *, seed: int
    ) -> ValidationImages:
        """Return the validation images of a train set.

        Args:
            validation: `Pixels`, a data set as `open_train_set` takes it, or None = the validation
                split where `train` was opened from a path, else none.

        Raises:
            DataError: it cannot be used, or has other classes than `train`.
        """
        if validation is None:
            return cls(train.splits.validation if train.splits else None)
        if isinstance(validation, Pixels):
            return cls(validation)
        if isinstance(validation, str | Path):
            raise DataError(
                f"validation is the path {validation}; give the images themselves: a torch data "
                "set of (image, label), a datasets.Dataset or LabelledImages"
            )
        names = train.images.class_names
        if isinstance(validation, Mapping):
            found = [split for split in validation if split_of(str(split)) == VALIDATION]
            if len(found) != 1:
                raise DataError(
                    f"validation has the splits {', '.join(map(str, validation))}, of which none "
                    "or several are for validation; give one of them, as data[SPLIT]"
                )
            validation = validation[found[0]]
        given = None if has_class_names(validation) else names
        opened = open_train_set(validation, data, seed=seed, class_names=given)
        return cls(relabelled(opened.images, names, "the train set"))

    def __len__(self) -> int:
        return 0 if self._images is None else len(self._images)

    @property
    def pixels(self) -> Pixels | None:
        """The images, where they were given as pixels."""
        return self._images if isinstance(self._images, Pixels) else None

    def at(self, size_px: int) -> Pixels | None:
        """Return the images at a size, or at the size they were given in; None if there are none.

        They are read once.
        """
        if not len(self):
            return None
        if isinstance(self._images, LabelledImages):
            self._images = Pixels.from_images(self._images, size_px)
        return self.pixels
