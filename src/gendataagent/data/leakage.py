"""Leakage: near-duplicates of validation and test images in other sets, and copies of train images.

What counts as a near-duplicate, and the search: `data.near_duplicates`.

Letters in tensor names: N images, R references, B images of a batch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from gendataagent.config import DataConfig
from gendataagent.core.progress import OnProgress
from gendataagent.core.records import HELD_OUT, Candidate
from gendataagent.data import ImageSplits
from gendataagent.data.near_duplicates import (
    DUPLICATE_CORRELATION,
    THUMBNAIL_PX,
    THUMBNAIL_SHAPE,
    Match,
    Uint8Array,
    find_near_duplicates,
    thumbnail,
)
from gendataagent.data.pixels import ImageSet, Pixels

_BATCH = 1024
_DECODE_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """An image and its closest near-duplicate among the references.

    Args:
        id: of the image in the audited set.
        reference_id: of the near-duplicate in the reference set.
        correlation: of their thumbnails, above the threshold and at most 1.
        mirrored: whether one is the mirror image of the other.
    """

    id: str
    reference_id: str
    correlation: float
    mirrored: bool


@dataclass(frozen=True, slots=True)
class LeakageReport:
    """The near-duplicates of a reference set in one audited set, closest first."""

    duplicates: tuple[DuplicatePair, ...]

    @property
    def ids(self) -> frozenset[str]:
        """Ids of the images of the set that have a near-duplicate among the references."""
        return frozenset(duplicate.id for duplicate in self.duplicates)


def near_duplicates(
    images: Pixels, references: Pixels, *, threshold: float = DUPLICATE_CORRELATION
) -> LeakageReport:
    """Return the images that have a near-duplicate among `references`, each with the closest.

    `near_duplicates(synthetic, train)` shows what the generator copied. The two sets may have
    different image sizes; memory grows by 3 kB an image of either.
    """
    matches = find_near_duplicates(
        _thumbnails(images), _thumbnails(references), threshold=threshold
    )
    return _report(images.ids, references.ids, matches)


def thumbnails_of(images: ImageSet, progress: OnProgress | None = None) -> Uint8Array:
    """Return thumbnails [N, 16, 16, 3]; images are decoded in threads and not kept."""
    thumbnails_N = np.empty((len(images), *THUMBNAIL_SHAPE), dtype=np.uint8)
    with ThreadPoolExecutor(_DECODE_THREADS) as threads:
        small = threads.map(lambda index: thumbnail(images.image(index)), range(len(images)))
        for index, one in enumerate(small):
            thumbnails_N[index] = one
            if progress is not None:
                progress(index + 1, len(images))
    return thumbnails_N


def compare_thumbnails(
    ids: Sequence[str],
    thumbnails_N: Uint8Array,
    reference_ids: Sequence[str],
    reference_thumbnails_R: Uint8Array,
) -> LeakageReport:
    """Return what `near_duplicates` does, from existing thumbnails."""
    return _report(ids, reference_ids, find_near_duplicates(thumbnails_N, reference_thumbnails_R))


class LeakageCheck:
    """Rejects synthetic near-duplicates of validation and test images.

    Holds thumbnails of those images without labels. Classifier, captioner and generator never see
    them.
    """

    def __init__(
        self,
        ids: Mapping[str, Sequence[str]],
        thumbnails: Mapping[str, Uint8Array],
    ) -> None:
        self._ids, self._thumbnails = ids, thumbnails

    @classmethod
    def of(cls, splits: ImageSplits, config: DataConfig) -> LeakageCheck | None:
        """Return the check of a run; None if data.near_duplicates is off."""
        if config.near_duplicates == "off":
            return None
        ids = {split: images.ids for split, images in splits.by_name().items()}
        return cls(ids, splits.thumbnails)

    def reject_copies(
        self, candidates: Sequence[Candidate], thumbnails_N: Uint8Array
    ) -> list[Candidate]:
        """Return the candidates, with `rejected_by` set on near-duplicates of held-out images.

        Args:
            thumbnails_N: of the candidates' images, [N, 16, 16, 3].
        """
        ids = [candidate.id for candidate in candidates]
        by_id = {candidate.id: candidate for candidate in candidates}
        for split in reversed(HELD_OUT):  # a near-duplicate of both is reported as one of test
            if split not in self._thumbnails:
                continue
            report = compare_thumbnails(
                ids,
                thumbnails_N,
                self._ids[split],
                self._thumbnails[split],
            )
            for id_ in report.ids:
                by_id[id_] = replace(by_id[id_], rejected_by=f"repeats-{split}-image")
        return list(by_id.values())


def _report(
    ids: Sequence[str], reference_ids: Sequence[str], matches: Sequence[Match]
) -> LeakageReport:
    found = [
        DuplicatePair(ids[m.row], reference_ids[m.reference], m.correlation, m.mirrored)
        for m in matches
    ]
    return LeakageReport(tuple(sorted(found, key=lambda pair: (-pair.correlation, pair.id))))


def _thumbnails(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Return thumbnails [N, 16, 16, 3]: mean colours of equal squares of pixels, not rounded."""
    parts = [
        functional.adaptive_avg_pool2d(pixels.batch(batch_B).float(), THUMBNAIL_PX)
        .permute(0, 2, 3, 1)
        .numpy()
        for batch_B in torch.arange(len(pixels)).split(_BATCH)
    ]
    return np.concatenate([np.empty((0, *THUMBNAIL_SHAPE), dtype=np.float32), *parts])
