"""Any labelled data set as the `LabelledImages` that the agent works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError
from gendataagent.data.index import first_few
from gendataagent.data.items import Items, TupleItems
from gendataagent.data.loading import load_data
from gendataagent.data.sets import LabelledImages
from gendataagent.data.splits import ImageSplits


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSet:
    """A train set and what is known about how a classifier sees it.

    Args:
        images: the undistorted images, decoded when asked for.
        form: of the items that the user's own set gives.
        size_px, mean, std: of the classifier's inputs, where the set's transform shows them.
        splits: all splits, where the set was loaded from a path.
        given: what it was opened from.
    """

    images: LabelledImages
    form: Items = field(default_factory=TupleItems)
    size_px: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    splits: ImageSplits | None = None
    given: Any = None


def open_train_set(
    train_set: Any, data: DataConfig, *, seed: int, class_names: Sequence[str] | None = None
) -> TrainSet:
    """Return `train_set` as the agent reads it; nothing in it is changed.

    Args:
        train_set: `LabelledImages`; a path, of which the train split is taken (`load_data`); a
            `datasets.Dataset`, or a `DatasetDict` of which "train" is taken; or a torch data set
            with `__len__` and `__getitem__` that gives (image, label).
        data: settings for a path, and the names of the columns of a `datasets.Dataset`.
        seed: of splits drawn from a path.
        class_names: names of the labels, where a torch data set has no `classes`.

    Raises:
        DataError: `train_set` is nothing of the above, or its images or labels are unusable.
    """
    from gendataagent.data.hugging_face import is_datasets, open_rows
    from gendataagent.data.torch_sets import open_torch_set

    if class_names is not None and not _is_torch_like(train_set):
        raise DataError(
            "class_names is for a torch data set without `classes`; a "
            f"{type(train_set).__name__} has class names of its own. Leave class_names out"
        )
    if isinstance(train_set, LabelledImages):
        return TrainSet(images=train_set)
    if isinstance(train_set, str | Path):
        splits = load_data(replace(data, path=str(train_set)), seed=seed)
        return TrainSet(images=splits.train, splits=splits)
    if is_datasets(train_set):
        images, form = open_rows(train_set, data)
        return TrainSet(images=images, form=form, given=train_set)
    if _is_torch_like(train_set):
        opened = open_torch_set(train_set, class_names)
        return TrainSet(
            images=opened.images,
            form=opened.form,
            size_px=opened.size_px,
            mean=opened.mean,
            std=opened.std,
            given=train_set,
        )
    raise DataError(
        f"train_set is a {type(train_set).__name__}; allowed are a torch data set with __len__ and "
        "__getitem__ that gives (image, label), a datasets.Dataset, a path, or LabelledImages"
    )


def check_same_labels(train_set: Any, opened: TrainSet) -> None:
    """Raise `DataError` if labels of another object than was opened mean other classes.

    A set that cannot be read as the opened one was is not compared.
    """
    if train_set is opened.given:
        return
    names = opened.images.class_names
    own = None if has_class_names(train_set) else names
    try:
        images = open_train_set(train_set, DataConfig(), seed=0, class_names=own).images
    except DataError:
        return
    if images.class_names != names:
        raise DataError(
            f"train_set has the classes {first_few(images.class_names)}, the agent was opened with "
            f"{first_few(names)}, in this order. Give both the same set"
        )
    counts = zip(names, images.images_per_class(), opened.images.images_per_class(), strict=True)
    for name, count, before in counts:
        if count != before:
            raise DataError(
                f"train_set has {count} images of {name!r}, the agent was opened with {before}. "
                "Give both the same set"
            )


def has_class_names(train_set: Any) -> bool:
    """Return whether a set names its classes itself, so that labels are read by name."""
    from gendataagent.data.torch_names import names_its_classes

    return not _is_torch_like(train_set) or names_its_classes(train_set)


def _is_torch_like(train_set: Any) -> bool:
    from gendataagent.data.hugging_face import is_datasets

    return (
        hasattr(train_set, "__len__")
        and hasattr(train_set, "__getitem__")
        and not isinstance(train_set, str | Mapping | LabelledImages)
        and not is_datasets(train_set)
    )
