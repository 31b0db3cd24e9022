"""Decode every image once, in threads, to find the unusable ones; large sets are cached."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from gendataagent.core.errors import ImageUnreadableError
from gendataagent.core.progress import OnProgress
from gendataagent.core.text import counted
from gendataagent.data.decoding.damage import check_whole
from gendataagent.data.decoding.images import decode, open_image
from gendataagent.data.duplicates.sketches import DECODED_PX, SKETCH, Sketches, sketch
from gendataagent.data.index import Item, Quarantined
from gendataagent.data.scan_cache import ScanCache
from gendataagent.data.sets import ImageStore, content_hash
from gendataagent.data.synthetic_marks import is_marked

FULL_BITS = 16
_NEARLY_BLACK = 32  # of 255
_HOT_PIXELS = 5  # of 64 x 64, which may be brighter
CACHE_FROM_IMAGES = 2000  # smaller sets are decoded in seconds and need no cache files
_ITEMS_PER_TASK = 32
_MAX_THREADS = 16
_LARGE_PX = 24_000_000
_one_large_image = threading.Lock()  # bounds memory to a few small images and one large one


class ImageSummary(NamedTuple):
    """Of a readable image.

    Args:
        digest: hash of the bytes.
        bits: real depth; see `images.Decoded`.
        synthetic: whether it says so itself.
    """

    digest: bytes
    sketch: Sketches
    bits: int
    synthetic: bool


@dataclass(frozen=True, slots=True, eq=False)
class ScanResult:
    """The items whose images decode, and the others with the reason.

    Args:
        digests: id -> hash of the encoded bytes.
        sketches_N: one per item, of the dtype `near_duplicates.SKETCH`.
        synthetic: ids of the images that say of themselves that they are.
        bits: greatest real depth of the images with 16 bits a sample; 0 = there are none.
        notes: sentences for the user.
    """

    items: tuple[Item, ...]
    quarantined: tuple[Quarantined, ...]
    digests: dict[str, bytes] = field(repr=False)
    sketches_N: Sketches = field(repr=False)
    synthetic: frozenset[str] = field(repr=False)
    bits: int = 0
    notes: tuple[str, ...] = ()


def scan_images(
    store: ImageStore,
    items: Sequence[Item],
    *,
    max_pixels: float,
    progress: OnProgress | None = None,
) -> ScanResult:
    """Return which images decode completely.

    Images above `max_pixels` are refused by their header, undecoded. With `CACHE_FROM_IMAGES`
    images or more, readable ones are cached: the next run decodes only new and changed files.

    Args:
        progress: called with (images done, images in total).
    """
    cache = ScanCache(store, max_pixels) if len(items) >= CACHE_FROM_IMAGES else None
    tasks = [items[i : i + _ITEMS_PER_TASK] for i in range(0, len(items), _ITEMS_PER_TASK)]
    readable: list[Item] = []
    quarantined: list[Quarantined] = []
    digests: dict[str, bytes] = {}
    sketches: list[Sketches] = []
    depths = Counter[int]()
    brightest = 0
    synthetic: set[str] = set()
    done = 0
    pool = ThreadPoolExecutor(min(_MAX_THREADS, _usable_cpus() + 1))
    try:
        for outcomes in pool.map(
            lambda task: [_check_cached(store, i, max_pixels, cache) for i in task], tasks
        ):
            for item, outcome in zip(items[done : done + len(outcomes)], outcomes, strict=True):
                if isinstance(outcome, ImageSummary):
                    readable.append(item)
                    digests[item.id] = outcome.digest
                    sketches.append(outcome.sketch)
                    depths[outcome.bits] += 1
                    if outcome.bits:
                        detail = np.partition(outcome.sketch["detail"].ravel(), -_HOT_PIXELS)
                        brightest = max(brightest, int(detail[-_HOT_PIXELS]))
                    if outcome.synthetic:
                        synthetic.add(item.id)
                else:
                    quarantined.append(Quarantined(store.name(item.row), outcome))
            done += len(outcomes)
            if progress:
                progress(done, len(items))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if cache:
            cache.save()
    sketches_N = np.array(sketches, dtype=SKETCH)
    return ScanResult(
        tuple(readable),
        tuple(quarantined),
        digests,
        sketches_N,
        frozenset(synthetic),
        bits=max(depths, default=0),
        notes=_depth_notes(depths, brightest),
    )


def _depth_notes(depths: Counter[int], brightest: int) -> tuple[str, ...]:
    """Return a note on images of 16 bits a sample that do not use them.

    Args:
        brightest: what single pixels of 64 x 64 are brighter than, in any of them, of 255.
    """
    bits = max(depths, default=0)
    deep = depths.total() - depths[0]
    if bits == FULL_BITS and brightest < _NEARLY_BLACK:
        return (
            f"{counted(deep, 'image has', 'images have')} 16 bits a sample and are nearly black, "
            "but for single pixels. If their real range is smaller (10, 12 or 14 bits), correct "
            "those pixels: images are scaled by the highest.",
        )
    if bits in (0, FULL_BITS):
        return ()
    return (
        f"{counted(deep, 'image has', 'images have')} 16 bits a sample, of which at most {bits} "
        f"are used; all are scaled to 8 bits from {bits}.",
    )


def _check_cached(
    store: ImageStore, item: Item, max_pixels: float, cache: ScanCache | None
) -> ImageSummary | str:
    """Return what `_check` does, from the cache if the file is unchanged since."""
    if cache is None:
        return _check(store, item, max_pixels)
    try:
        state = cache.state(item.row)
    except OSError:  # missing, or no permission: `_check` reports it
        state = ""
    cached = cache.get(item.id, state)
    if cached is not None:
        return ImageSummary(*cached)
    outcome = _check(store, item, max_pixels)
    if isinstance(outcome, ImageSummary):
        cache.add(item.id, state, *outcome)
    return outcome


def _check(store: ImageStore, item: Item, max_pixels: float) -> ImageSummary | str:
    """Return the summary of an image, or the reason why it cannot be used."""
    try:
        with store.open(item.row) as stream:
            image = open_image(stream, max_pixels)
            synthetic = is_marked(image)
            large = image.width * image.height > _LARGE_PX
            # JPEG at down to 1/8 size: all its data is still read, in half the time.
            image.draft(None, (DECODED_PX, DECODED_PX))
            with _one_large_image if large else nullcontext():
                decoded = decode(image)
                small = sketch(decoded.image)
            check_whole(stream, image.format, image.size, decoded.image)
            return ImageSummary(content_hash(stream), small, decoded.bits, synthetic)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except ImageUnreadableError as error:
        return str(error)


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
