"""Near-duplicates between sets of images: test images where they must not be, and copies.

Two images repeat each other when the correlation of their 16 x 16 RGB thumbnails (mean taken
out, length 1) exceeds a threshold, also when one is mirrored. The threshold was chosen by eye on
CIFAR-10 pairs sorted by correlation: above 0.94 nearly every pair is the same photograph, between
0.90 and 0.92 about a third. Images of one colour repeat nothing. The search is that of
`data.repeats`.

Letters in tensor names: N images, B images of a batch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from gendataagent.config import DataConfig
from gendataagent.core.records import HELD_OUT, Candidate
from gendataagent.data import ImageSplits
from gendataagent.data.near_duplicates import (
    DUPLICATE_CORRELATION,
    THUMBNAIL_PX,
    THUMBNAIL_SHAPE,
    Repeat,
    Uint8Array,
    find_repeats,
    thumbnail,
)
from gendataagent.data.pixels import ImageSet, Pixels, Progress

_BATCH = 1024
_DECODE_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A image and the one it repeats most closely.

    Args:
        id: of the image in the set that was looked through.
        reference_id: of the image it repeats.
        correlation: of their thumbnails, above the threshold and at most 1.
        mirrored: whether it repeats the mirror image.
    """

    id: str
    reference_id: str
    correlation: float
    mirrored: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakageReport:
    """What one set holds of a reference set.

    Args:
        images: size of the set that was looked through; references: of the reference set.
        duplicates: every image of the set that repeats a reference image, closest first.
    """

    images: int
    references: int
    threshold: float
    duplicates: tuple[Duplicate, ...]

    @property
    def ids(self) -> frozenset[str]:
        """Ids of the set's images that repeat a reference image: those to be removed."""
        return frozenset(duplicate.id for duplicate in self.duplicates)

    @property
    def repeated_references(self) -> int:
        """Reference images that at least one image repeats most closely."""
        return len({duplicate.reference_id for duplicate in self.duplicates})

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {
            "images": self.images,
            "references": self.references,
            "threshold": self.threshold,
            "duplicates": [
                [d.id, d.reference_id, d.correlation, d.mirrored] for d in self.duplicates
            ],
        }


def audit(
    sets: Mapping[str, Pixels], test: Pixels, *, threshold: float = DUPLICATE_CORRELATION
) -> dict[str, LeakageReport]:
    """Return, for each named set (train, synthetic, generator corpus...), what it holds of `test`.

    To remove what was found: `images.subset(i for i, id in enumerate(images.ids) if id not in
    report.ids)`.
    """
    return {name: near_duplicates(pixels, test, threshold=threshold)
            for name, pixels in sets.items()}  # fmt: skip


def near_duplicates(
    images: Pixels, references: Pixels, *, threshold: float = DUPLICATE_CORRELATION
) -> LeakageReport:
    """Return the images of `images` that repeat one of `references`, each with the closest.

    Also shows copies by the generator: `near_duplicates(synthetic, train)`. The sets may be of
    different image sizes; memory grows by 3 kB a image of either.
    """
    repeats = find_repeats(_flat(images), _flat(references), threshold=threshold)
    return _report(images.ids, references.ids, threshold, repeats)


def thumbnails_of(images: ImageSet, progress: Progress | None = None) -> Uint8Array:
    """Return the thumbnails [N, 16, 16, 3] of images, decoded in threads and let go at once."""
    thumbnails_N = np.empty((len(images), *THUMBNAIL_SHAPE), dtype=np.uint8)
    with ThreadPoolExecutor(_DECODE_THREADS) as threads:
        small = threads.map(lambda index: thumbnail(images.image(index)), range(len(images)))
        for index, one in enumerate(small):
            thumbnails_N[index] = one
            if progress is not None:
                progress(index + 1, len(images))
    return thumbnails_N


def compare(
    ids: Sequence[str],
    thumbnails_N: Uint8Array,
    reference_ids: Sequence[str],
    reference_thumbnails_R: Uint8Array,
    *,
    threshold: float = DUPLICATE_CORRELATION,
    on_rows: Progress | None = None,
) -> LeakageReport:
    """Return what `near_duplicates` does, from thumbnails that are at hand."""
    repeats = find_repeats(
        thumbnails_N, reference_thumbnails_R, threshold=threshold, on_rows=on_rows
    )
    return _report(ids, reference_ids, threshold, repeats)


class HeldOut:
    """Recognises validation and test images among new ones; holds thumbnails, no labels.

    The classifier never sees what is in here, nor does whoever makes images: it only drops copies.
    """

    def __init__(
        self,
        ids: Mapping[str, Sequence[str]],
        thumbnails: Mapping[str, Uint8Array],
        threshold: float = DUPLICATE_CORRELATION,
    ) -> None:
        self._ids, self._thumbnails, self._threshold = ids, thumbnails, threshold

    @classmethod
    def of(cls, splits: ImageSplits, config: DataConfig) -> HeldOut | None:
        """Return the held-out images of a run; None where data.near_duplicates is off."""
        if config.near_duplicates == "off":
            return None
        ids = {split: images.ids for split, images in splits.by_name().items()}
        return cls(ids, splits.thumbnails, config.near_duplicate_correlation)

    def judge(self, candidates: Sequence[Candidate], images: ImageSet) -> list[Candidate]:
        """Return the candidates; those whose image repeats a held-out image say so.

        Args:
            images: one per candidate, with the candidates' ids.
        """
        thumbnails_N = thumbnails_of(images)
        judged = {candidate.id: candidate for candidate in candidates}
        for split in reversed(HELD_OUT):  # what repeats both is said to repeat test
            if split not in self._thumbnails:
                continue
            report = compare(
                images.ids,
                thumbnails_N,
                self._ids[split],
                self._thumbnails[split],
                threshold=self._threshold,
            )
            for id_ in report.ids:
                judged[id_] = replace(judged[id_], rejected_by=f"repeats-{split}-image")
        return list(judged.values())


def say(reports: Mapping[str, LeakageReport], what: str = "test images") -> Sequence[str]:
    """Return one sentence a set, for people."""
    return [
        f"{name}: {len(report.ids)} of {report.images} images repeat {what} "
        f"({report.repeated_references} of {report.references}; correlation of thumbnails above "
        f"{report.threshold:g})"
        for name, report in reports.items()
    ]


def _report(
    ids: Sequence[str], reference_ids: Sequence[str], threshold: float, repeats: Sequence[Repeat]
) -> LeakageReport:
    found = [
        Duplicate(ids[r.row], reference_ids[r.reference], r.correlation, r.mirrored)
        for r in repeats
    ]
    found.sort(key=lambda duplicate: (-duplicate.correlation, duplicate.id))
    return LeakageReport(
        images=len(ids),
        references=len(reference_ids),
        threshold=threshold,
        duplicates=tuple(found),
    )


def _flat(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Return thumbnails [N, 16, 16, 3], means of squares of pixels, not rounded."""
    parts = [
        functional.adaptive_avg_pool2d(pixels.batch(batch_B).float(), THUMBNAIL_PX)
        .permute(0, 2, 3, 1)
        .numpy()
        for batch_B in torch.arange(len(pixels)).split(_BATCH)
    ]
    return np.concatenate([np.empty((0, *THUMBNAIL_SHAPE), dtype=np.float32), *parts])
