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
import torch
from PIL import Image

from gendataagent.config import DataConfig
from gendataagent.core.progress import OnProgress
from gendataagent.core.records import HELD_OUT, Candidate
from gendataagent.data import ImageSplits
from gendataagent.data.duplicates.near_duplicates import Match, References
from gendataagent.data.duplicates.sketches import SKETCH, Shared, Sketches, sketch
from gendataagent.data.pixels import ImageSet, Pixels

_BATCH = 1024
_DECODE_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """An image and its closest near-duplicate among the references.

    Args:
        id: of the image in the audited set.
        reference_id: of the near-duplicate in the reference set.
        correlation: of the two laid over each other, above the threshold and at most 1.
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


def near_duplicates(images: Pixels, references: Pixels) -> LeakageReport:
    """Return the images that have a near-duplicate among `references`, each with the closest.

    `near_duplicates(synthetic, train)` shows what the generator copied. The two sets may have
    different image sizes; memory grows by 5 kB an image of either.
    """
    matches = References(_sketches(references)).near_duplicates(_sketches(images))
    return _report(images.ids, references.ids, matches)


def sketches_of(images: ImageSet, progress: OnProgress | None = None) -> Sketches:
    """Return the sketches of images, which are decoded in threads and not kept."""
    sketches_N = np.empty(len(images), dtype=SKETCH)
    with ThreadPoolExecutor(_DECODE_THREADS) as threads:
        small = threads.map(lambda index: sketch(images.image(index)), range(len(images)))
        for index, one in enumerate(small):
            sketches_N[index] = one
            if progress is not None:
                progress(index + 1, len(images))
    return sketches_N


def compare_sketches(
    ids: Sequence[str],
    sketches_N: Sketches,
    reference_ids: Sequence[str],
    reference_sketches_R: Sketches,
    *,
    shared: Shared | None = None,
) -> LeakageReport:
    """Return what `near_duplicates` does, from existing sketches.

    Args:
        shared: what the images of the data set share; None = taken from the two sets.
    """
    matches = References(reference_sketches_R, shared).near_duplicates(sketches_N)
    return _report(ids, reference_ids, matches)


class LeakageCheck:
    """Rejects synthetic near-duplicates of validation and test images.

    Holds sketches of those images without labels. Classifier, captioner and generator never see
    them.
    """

    def __init__(
        self,
        ids: Mapping[str, Sequence[str]],
        sketches: Mapping[str, Sketches],
        shared: Shared | None = None,
    ) -> None:
        self._ids = ids
        self._references = {split: References(of, shared) for split, of in sketches.items()}

    @classmethod
    def of(cls, splits: ImageSplits, config: DataConfig) -> LeakageCheck | None:
        """Return the check of a run; None if data.near_duplicates is off, or all images alike."""
        if config.near_duplicates == "off" or splits.likeness.all_alike:
            return None
        ids = {split: images.ids for split, images in splits.by_name().items()}
        return cls(ids, splits.sketches, splits.likeness.shared)

    def reject_copies(
        self, candidates: Sequence[Candidate], sketches_N: Sketches
    ) -> list[Candidate]:
        """Return the candidates, with `rejected_by` set on near-duplicates of held-out images.

        Args:
            sketches_N: of the candidates' images.
        """
        ids = [candidate.id for candidate in candidates]
        by_id = {candidate.id: candidate for candidate in candidates}
        for split in reversed(HELD_OUT):  # a near-duplicate of both is reported as one of test
            if split not in self._references:
                continue
            matches = self._references[split].near_duplicates(sketches_N)
            report = _report(ids, self._ids[split], matches)
            for id_ in report.ids:
                by_id[id_] = replace(by_id[id_], rejected_by=f"repeats-{split}-image")
        return list(by_id.values())


def _report(
    ids: Sequence[str], reference_ids: Sequence[str], matches: Sequence[Match]
) -> LeakageReport:
    closest: dict[int, Match] = {}
    for match in matches:  # the closest of a row comes first
        closest.setdefault(match.row, match)
    found = [
        DuplicatePair(ids[m.row], reference_ids[m.reference], m.correlation, m.mirrored)
        for m in closest.values()
    ]
    return LeakageReport(tuple(sorted(found, key=lambda pair: (-pair.correlation, pair.id))))


def _sketches(pixels: Pixels) -> Sketches:
    sketches_N = np.empty(len(pixels), dtype=SKETCH)
    for batch_B in torch.arange(len(pixels)).split(_BATCH):
        images_B3SS = pixels.batch(batch_B).permute(0, 2, 3, 1).numpy()
        for index, image in zip(batch_B.tolist(), images_B3SS, strict=True):
            sketches_N[index] = sketch(Image.fromarray(np.ascontiguousarray(image)))
    return sketches_N
