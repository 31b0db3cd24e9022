"""The synthetic images of a round, decoded once for leakage check, filter, probes and training.

Letters in tensor names: N images, S side in px.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch

from gendataagent.agent.synthetic import SyntheticImages
from gendataagent.data.duplicates.sketches import SKETCH, Sketches, sketch
from gendataagent.data.pixels import GIB, Pixels, square_tensor

CACHE_BYTES = 4 * GIB
_DECODE_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class DecodedImages:
    """Images of one round in the forms its steps need.

    Args:
        pixels: side in px -> the images at that size.
        sketches_N: of `near_duplicates`, for the comparison with held-out images.
    """

    ids: tuple[str, ...]
    pixels: Mapping[int, Pixels]
    sketches_N: Sketches

    def subset(self, ids: Sequence[str]) -> DecodedImages:
        """Return the images of these ids, in the order they have here, without copying them."""
        wanted = set(ids)
        rows_N = [i for i, id_ in enumerate(self.ids) if id_ in wanted]
        if len(rows_N) == len(self.ids):
            return self
        pixels = {size: pixels.subset(rows_N) for size, pixels in self.pixels.items()}
        return DecodedImages(
            tuple(self.ids[row] for row in rows_N), pixels, self.sketches_N[rows_N]
        )

    @classmethod
    def read(
        cls,
        images: SyntheticImages,
        sizes_px: Collection[int],
        *,
        max_bytes: int = CACHE_BYTES,
    ) -> DecodedImages:
        """Decode each image once; above `max_bytes` pixels are decoded again for every batch."""
        count = len(images)
        fits = count * 3 * sum(size**2 for size in sizes_px) <= max_bytes
        caches = {
            size: torch.empty((count if fits else 0, 3, size, size), dtype=torch.uint8)
            for size in sizes_px
        }
        sketches_N = np.empty(count, dtype=SKETCH)

        def decode(index: int) -> None:
            image = images.image(index)
            sketches_N[index] = sketch(image)
            for size, cache_N3SS in caches.items():
                if fits:
                    cache_N3SS[index] = square_tensor(image, size)

        with ThreadPoolExecutor(_DECODE_THREADS) as threads:
            list(threads.map(decode, range(count)))
        pixels = {
            size: (
                Pixels(cache_N3SS.__getitem__, images.labels, ids=images.ids, size_px=size)
                if fits
                else Pixels.from_images(images, size, cache_bytes=0)
            )
            for size, cache_N3SS in caches.items()
        }
        return cls(images.ids, pixels, sketches_N)


class TrainingPixels:
    """Kept images of finished rounds at the size that training stores them at.

    Args:
        size_px: None = the caller trains on its own and needs none.
        max_bytes: rounds that need more are decoded again when asked for.
    """

    def __init__(self, size_px: int | None, *, max_bytes: int = CACHE_BYTES) -> None:
        self.size_px, self._max_bytes = size_px, max_bytes
        self._rounds: dict[int, Pixels] = {}

    def add(self, number: int, made: Pixels, kept_ids: Collection[str]) -> None:
        """Copy the kept images of a round out of all that were made in it."""
        rows_K = [row for row, id_ in enumerate(made.ids) if id_ in kept_ids]
        held = sum(map(len, self._rounds.values())) + len(rows_K)
        if rows_K and held * 3 * made.size_px**2 <= self._max_bytes:
            kept = made.subset(rows_K)
            pixels_K3SS = made.batch(rows_K)
            self._rounds[number] = Pixels(
                pixels_K3SS.__getitem__, kept.labels, ids=kept.ids, size_px=kept.size_px
            )

    def keep_only(self, rounds: Iterable[int]) -> None:
        """Free the images of all other rounds."""
        self._rounds = {i: self._rounds[i] for i in rounds if i in self._rounds}

    def of(self, images: SyntheticImages, size_px: int) -> Pixels:
        """Return `images` at `size_px`, decoded only where this object does not hold them."""
        parts = []
        for number, group in groupby(images.candidates, key=lambda candidate: candidate.round):
            part = self._rounds.get(number)
            ids = tuple(candidate.id for candidate in group)
            if part is None or part.ids != ids or part.size_px != size_px:
                return Pixels.from_images(images, size_px)
            parts.append(part)
        if len(parts) == 1:
            return parts[0]
        return Pixels.concat(parts) if parts else Pixels.from_images(images, size_px)
