"""Labelled images as uint8 tensors of one square size: what classifiers train on and score.

Letters in tensor names: N images, B images of a batch, 3 colour channels, S side in px.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gendataagent.core.errors import DataError
from gendataagent.core.progress import OnProgress
from gendataagent.data.decoding.images import centre_square

GIB = 1 << 30
_DECODE_THREADS = min(8, os.cpu_count() or 1)


class ImageSet(Protocol):
    """What `Pixels` reads: any labelled images; `data.LabelledImages` is the concrete class.

    `image` returns an upright RGB image and may be called from several threads at once.
    """

    @property
    def ids(self) -> Sequence[str]: ...

    @property
    def labels(self) -> Sequence[int]: ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image.Image: ...


class Pixels:
    """Images of one square size with their labels and ids.

    Args:
        read: indices [B] -> uint8 tensor [B, 3, size_px, size_px] on the CPU.
        labels: class index of each image.
        ids: stable id of each image.
        read_ahead: whether to read the next batch while the current one is in use.
    """

    def __init__(
        self,
        read: Callable[[Tensor], Tensor],
        labels: Sequence[int] | Tensor,
        *,
        ids: Sequence[str],
        size_px: int,
        read_ahead: bool = False,
    ) -> None:
        self._read = read
        self._read_ahead = read_ahead
        self.labels = torch.as_tensor(labels, dtype=torch.long)
        self.ids = tuple(ids)
        self.size_px = size_px
        if len(self.ids) != len(self.labels):
            raise DataError(f"{len(self.ids)} ids but {len(self.labels)} labels")

    @classmethod
    def from_images(
        cls,
        images: ImageSet,
        size_px: int,
        *,
        cache_bytes: int = 4 * GIB,
        progress: OnProgress | None = None,
    ) -> Self:
        """Return the centre squares of `images`, resized to `size_px` (bicubic, antialiased).

        They are decoded once and kept in memory if that takes at most `cache_bytes`
        (3 * size_px**2 bytes an image), else decoded for every batch, in threads.
        """
        count = len(images)

        def decode(index: int) -> Tensor:
            return square_tensor(images.image(index), size_px)

        if count * 3 * size_px**2 > cache_bytes:
            return cls(
                lambda indices: _decode_batch(decode, indices.tolist(), size_px),
                list(images.labels),
                ids=images.ids,
                size_px=size_px,
                read_ahead=True,
            )
        cache_N3SS = torch.empty((count, 3, size_px, size_px), dtype=torch.uint8)
        with ThreadPoolExecutor(_DECODE_THREADS) as threads:
            for index, image_3SS in enumerate(threads.map(decode, range(count))):
                cache_N3SS[index] = image_3SS
                if progress is not None:
                    progress(index + 1, count)
        return cls(cache_N3SS.__getitem__, list(images.labels), ids=images.ids, size_px=size_px)

    @classmethod
    def from_pil(
        cls,
        images: Sequence[Image.Image],
        labels: Sequence[int],
        *,
        ids: Sequence[str],
        size_px: int,
    ) -> Self:
        """Return the centre squares of images that are already in memory."""
        if len(images) != len(labels):
            raise DataError(f"{len(images)} images but {len(labels)} labels")
        cache_N3SS = torch.empty((len(images), 3, size_px, size_px), dtype=torch.uint8)
        for index, image in enumerate(images):
            cache_N3SS[index] = square_tensor(image, size_px)
        return cls(cache_N3SS.__getitem__, labels, ids=ids, size_px=size_px)

    @classmethod
    def concat(cls, parts: Sequence[Pixels]) -> Self:
        """Return the images of all parts, in order, without copying them.

        Raises:
            DataError: no parts, or parts of different sizes.
        """
        sizes_px = {part.size_px for part in parts}
        if len(sizes_px) != 1:
            raise DataError(f"all parts must have the same size, got {sorted(sizes_px)} px")
        (size_px,) = sizes_px
        starts = np.cumsum([0, *(len(part) for part in parts)])

        def read(indices_B: Tensor) -> Tensor:
            batch_B3SS = torch.empty((len(indices_B), 3, size_px, size_px), dtype=torch.uint8)
            for part, start in zip(parts, starts, strict=False):
                here_B = (indices_B >= start) & (indices_B < start + len(part))
                if here_B.any():
                    batch_B3SS[here_B] = part._read(indices_B[here_B] - int(start))
            return batch_B3SS

        return cls(
            read,
            torch.cat([part.labels for part in parts]),
            ids=[id_ for part in parts for id_ in part.ids],
            size_px=size_px,
            read_ahead=any(part._read_ahead for part in parts),
        )

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, rows: Sequence[int]) -> Pixels:
        """Return the images of these rows, in that order, without copying them."""
        rows_N = torch.as_tensor(rows, dtype=torch.long)
        return Pixels(
            lambda indices_B: self._read(rows_N[indices_B]),
            self.labels[rows_N],
            ids=[self.ids[row] for row in rows_N.tolist()],
            size_px=self.size_px,
            read_ahead=self._read_ahead,
        )

    def batch(self, indices: Sequence[int] | Tensor, *, crop_px: int | None = None) -> Tensor:
        """Return the images at `indices` as uint8 [B, 3, S, S].

        S is `size_px`, or `crop_px` for the centre crop of that size.
        """
        batch_B3SS = self._read(torch.as_tensor(indices, dtype=torch.long))
        return batch_B3SS if crop_px is None else centre_crop(batch_B3SS, crop_px)

    def stream(
        self, batches: Iterable[Tensor], *, crop_px: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (indices, images) per batch; the next one is read while a batch is in use."""
        if not self._read_ahead:
            for indices in batches:
                yield indices, self.batch(indices, crop_px=crop_px)
            return
        with ThreadPoolExecutor(1) as reader:
            waiting = None
            for indices in batches:
                coming = indices, reader.submit(self.batch, indices, crop_px=crop_px)
                if waiting is not None:
                    yield waiting[0], waiting[1].result()
                waiting = coming
            if waiting is not None:
                yield waiting[0], waiting[1].result()


def square_tensor(image: Image.Image, size_px: int) -> Tensor:
    """Return the centre square of an upright image as uint8 [3, size_px, size_px].

    The pixels are those of torchvision's and transformers' usual transform on Pillow images:
    resize the shorter side (bicubic, antialiased), then centre crop.

    Raises:
        DataError: an image with more than 8 bits a channel, which Pillow would clip to white.
    """
    if image.mode != "RGB":
        if image.mode[0] in "IF":
            raise DataError(
                f"an image of mode {image.mode} has more than 8 bits a channel; scale it to "
                "0..255 and convert it to RGB first"
            )
        image = image.convert("RGB")
    return torch.from_numpy(np.array(centre_square(image, size_px))).permute(2, 0, 1)


def centre_crop(images_B3SS: Tensor, crop_px: int) -> Tensor:
    """Return the centre [B, 3, crop_px, crop_px]; raise `DataError` if the images are smaller."""
    size_px = images_B3SS.shape[-1]
    if crop_px > size_px:
        raise DataError(f"the classifier wants {crop_px} px, but the images have {size_px} px")
    start = (size_px - crop_px) // 2
    return images_B3SS[..., start : start + crop_px, start : start + crop_px]


def _decode_batch(decode: Callable[[int], Tensor], indices: Sequence[int], size_px: int) -> Tensor:
    if not indices:
        return torch.empty((0, 3, size_px, size_px), dtype=torch.uint8)
    with ThreadPoolExecutor(_DECODE_THREADS) as threads:
        return torch.stack(list(threads.map(decode, indices)))
