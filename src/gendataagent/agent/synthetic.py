"""Kept synthetic images as a torch data set.

loader = DataLoader(ConcatDataset([train_set, synthetic]), 64, shuffle=True)
synthetic.with_transform(transform)        # other items than those of the train set
synthetic.to_datasets()                    # as a datasets.Dataset, with the history of each image
synthetic.save_to_disk("kept")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset

from gendataagent.agent.columns import HISTORY_TYPES
from gendataagent.core.errors import RunFolderError
from gendataagent.core.png import opened
from gendataagent.core.records import Candidate
from gendataagent.data.exporting import image_dataset
from gendataagent.data.items import Items, RowItems, TupleItems

Transform = Callable[[Any], Any]


class SyntheticImages(Dataset[Any]):
    """Kept synthetic images of one or more rounds, read from disk when an item is asked for.

    An item has the form of the train set's items: `(transform(image), label)` for a torch data set,
    a row of the same columns for a `datasets.Dataset`, `(PIL image, label)` otherwise. Picklable,
    so that a DataLoader can use worker processes.

    Attributes:
        candidates: one record per image: source, captions, seed, generator, scores.
        paths: PNG files in the run folder.
        ids, labels, class_names: as those of `data.LabelledImages`.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        items: Sequence[tuple[Candidate, Path]],
        form: Items | None = None,
    ) -> None:
        self.class_names = tuple(class_names)
        self.candidates = tuple(candidate for candidate, _ in items)
        self.paths = tuple(path for _, path in items)
        self.ids = tuple(candidate.id for candidate in self.candidates)
        self.labels = tuple(candidate.label for candidate in self.candidates)
        self._form: Items = form or TupleItems()
        self._now: Callable[[], SyntheticImages | None] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Any:
        """Return image and label at `index` in [-len, len), see the class.

        Raises:
            IndexError: no such position.
            RunFolderError: the image file is lost or damaged.
        """
        position = range(len(self))[index]
        if isinstance(self._form, RowItems):
            return self._form.item(self._rows, position)
        return self._form.item(self.image(position), self.labels[position])

    def image(self, index: int) -> Image.Image:
        """Return image `index`, RGB, at the size it was made; raise as `__getitem__`."""
        return read_png(self.paths[index])

    @property
    def classes(self) -> list[str]:
        """The class names in label order, under torchvision's name."""
        return list(self.class_names)

    @property
    def targets(self) -> list[int]:
        """The labels, under torchvision's name."""
        return list(self.labels)

    def with_transform(
        self, transform: Transform | None, target_transform: Transform | None = None
    ) -> SyntheticImages:
        """Return the same images with `transform` applied to each PIL image.

        Items are `(transform(image), target_transform(label))`, or rows with `transform` applied to
        their image column if the train set is a `datasets.Dataset`. None leaves the image or label
        unchanged.
        """
        form = self._form.with_transform(transform, target_transform)
        items = list(zip(self.candidates, self.paths, strict=True))
        return SyntheticImages(self.class_names, items, form).exported_as(self._now)

    def with_labels(self, labels: Iterable[int]) -> SyntheticImages:
        """Return the same images with other class indices as their labels."""
        items = list(zip(self.candidates, self.paths, strict=True))
        images = SyntheticImages(self.class_names, items, self._form).exported_as(self._now)
        images.labels = tuple(labels)
        return images

    def exported_as(self, now: Callable[[], SyntheticImages | None] | None) -> SyntheticImages:
        """Return these images; `to_datasets` asks `now` for others that are kept by then."""
        self._now = now
        return self

    def to_datasets(self) -> Any:
        """Return a `datasets.Dataset`: image, label, and every field of `candidates`.

        The label is a ClassLabel with the data set's names in their order (or of the train set's
        own type, if that is a `datasets.Dataset`), so `concatenate_datasets([real, kept])` works.
        Images stay files of the run folder until they are saved. Of the images of a pool, those
        that are kept now: later decisions by hand (`gendataagent review`) are honoured.
        """
        if self._now is not None and (images := self._now()) is not None:
            return images.to_datasets()
        form = self._form if isinstance(self._form, RowItems) else None
        history = [candidate.to_json() for candidate in self.candidates]
        return image_dataset(
            images=[{"path": str(path), "bytes": None} for path in self.paths],
            labels=self.labels,
            class_names=self.class_names,
            columns={name: [row[name] for row in history] for name in HISTORY_TYPES},
            types=HISTORY_TYPES,
            like=form,
        )

    def save_to_disk(self, path: str | Path) -> None:
        """Write `to_datasets()` with its images to a folder; `datasets.load_from_disk` reads it."""
        self.to_datasets().save_to_disk(str(path))

    def push_to_hub(self, repo: str, **options: Any) -> None:
        """Upload `to_datasets()` with its images to a data set repository of the Hub.

        Args:
            options: of `datasets.Dataset.push_to_hub`, such as private=True.
        """
        self.to_datasets().push_to_hub(repo, **options)

    @cached_property
    def _rows(self) -> Any:
        assert isinstance(self._form, RowItems)
        return self._form.rows(
            self.paths, self.labels, self.ids, [c.source_id for c in self.candidates]
        )


def with_drawn_labels(images: SyntheticImages, seed: int) -> SyntheticImages:
    """Return images with each soft label replaced by one of its two classes, drawn by its share.

    For losses that take one class an image: their mean over draws is the loss of the soft label.
    """
    if all(candidate.source_class is None for candidate in images.candidates):
        return images
    draws_N = torch.rand(len(images), generator=torch.Generator().manual_seed(seed))
    label_of = {name: label for label, name in enumerate(images.class_names)}
    return images.with_labels(
        label_of[candidate.source_class]
        if candidate.source_class is not None and draw >= candidate.label_share
        else candidate.label
        for candidate, draw in zip(images.candidates, draws_N.tolist(), strict=True)
    )


def read_png(path: Path) -> Image.Image:
    """Return an image of the pool, RGB; raise `RunFolderError` if it is lost or damaged."""
    try:
        with opened(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for a broken PNG
        raise RunFolderError(
            f"the synthetic image {path} cannot be read ({error}). Put it back from a copy, or "
            "start a new run with the same settings, which makes the same images"
        ) from error
