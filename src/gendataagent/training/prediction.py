"""What a classifier sees on image files: the pixel path of evaluation, without labels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError, ImageUnreadableError
from gendataagent.core.files import open_regular
from gendataagent.data.decoding.damage import check_whole
from gendataagent.data.decoding.images import open_image, to_rgb
from gendataagent.data.pixels import Pixels, square_tensor
from gendataagent.training.classifier import BATCH_SIZE, Classifier

_THREADS = 4
_MAX_PIXELS = DataConfig().max_megapixels * 1e6

OnUnreadable = Callable[[Path, str], None]
"""Called with an image file that cannot be read, and the reason."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The likeliest classes of one image, most likely first, with their probabilities."""

    path: Path
    classes: tuple[tuple[str, float], ...]


def predict_files(
    classifier: Classifier,
    paths: Iterable[Path],
    *,
    top: int = 1,
    batch_size: int = BATCH_SIZE,
    on_unreadable: OnUnreadable,
    on_batch: Callable[[int], None] | None = None,
) -> Iterator[Prediction]:
    """Yield the prediction for each image file, in order, without those that cannot be read.

    Args:
        top: how many classes each; all where the classifier has fewer.
        on_batch: called with the number of files of each batch when it is done.
    """
    top = min(top, len(classifier.class_names))
    waiting = iter(paths)
    with ThreadPoolExecutor(_THREADS) as threads:
        while batch := list(itertools.islice(waiting, batch_size)):
            found = threads.map(lambda path: _read(path, classifier), batch)
            read: list[tuple[Path, Tensor]] = []
            for path, image in zip(batch, found, strict=True):
                if isinstance(image, str):
                    on_unreadable(path, image)
                else:
                    read.append((path, image))
            yield from _predict(classifier, read, top)
            if on_batch is not None:
                on_batch(len(batch))


def _predict(
    classifier: Classifier, read: Sequence[tuple[Path, Tensor]], top: int
) -> Iterator[Prediction]:
    if not read:
        return
    images_B3SS = torch.stack([image for _, image in read])
    pixels = Pixels(
        images_B3SS.__getitem__,
        [0] * len(read),  # not looked at
        ids=[str(path) for path, _ in read],
        size_px=classifier.resize_px,
    )
    best = classifier.predict_probabilities(pixels, len(read)).topk(top, dim=1)
    rows = zip(read, best.values.tolist(), best.indices.tolist(), strict=True)
    for (path, _), probabilities, labels in rows:
        names = [classifier.class_names[label] for label in labels]
        yield Prediction(path, tuple(zip(names, probabilities, strict=True)))


def _read(path: Path, classifier: Classifier) -> Tensor | str:
    """Return the image as pixels, or why it cannot be read."""
    try:
        with open_regular(path) as stream:
            opened = open_image(stream, _MAX_PIXELS)
            image = to_rgb(opened, classifier.bits)
            check_whole(stream, opened.format, opened.size, image)
            return square_tensor(image, classifier.resize_px)
    except (ImageUnreadableError, DataError) as error:
        return str(error)
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        return getattr(error, "strerror", None) or str(error)
