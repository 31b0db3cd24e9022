"""Near-duplicate search: copies of one photograph, also turned, mirrored, cropped or recompressed.

Three steps. Pairs are proposed where the 16 x 16 colours of two images correlate, in any of eight
orientations (`thumbnail_matching`), and where regions of them look alike (`region_matching`). What
all images of the set share is removed first: channel means and the mean image. Each proposal is
then confirmed at 64 x 64: laid over each other, the two images must agree, as a whole and block by
block (`registration`).

Letters in array names: N images, R references, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from gendataagent.core.progress import OnProgress
from gendataagent.data.duplicates.region_matching import Hypotheses, RegionIndex, pairs_within
from gendataagent.data.duplicates.regions import find_regions
from gendataagent.data.duplicates.registration import Agreement, Registration
from gendataagent.data.duplicates.sketches import (
    DETAIL_PX,
    THUMBNAIL_PX,
    THUMBNAIL_SHAPE,
    Shared,
    Sketches,
)
from gendataagent.data.duplicates.thumbnail_matching import thumbnail_pairs

# Chosen by eye, see docs/leakage.md.
DUPLICATE_CORRELATION = 0.95
CROPPED_CORRELATION = 0.97
DUPLICATE_BLOCKS = 0.5
MOST_ONE_SIDED = 0.08  # of the blocks with detail; copies have up to 0.06, products on white 0.24
LIKELY_CORRELATION, LIKELY_BLOCKS = 0.85, 0.3  # enough to keep two images in one split
_COLOURFUL = 6.0  # of 255, root mean square
_COLOUR_CORRELATION = 0.5

Uint8Array = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Match:
    """Image `row` and reference `reference` are near-duplicates.

    Args:
        correlation: at 64 x 64, laid over each other; above `DUPLICATE_CORRELATION`, at most 1.
        mirrored: whether one is a mirror image of the other.
        certain: False = likely enough to keep the two in one split, not to remove one.
    """

    row: int
    reference: int
    correlation: float
    mirrored: bool
    certain: bool = True


class References:
    """Images that others are compared with, searched faster from the second time on.

    Args:
        sketches_R: at least one.
        shared: what the images of the data set share; None = taken from images and references.
    """

    def __init__(self, sketches_R: Sketches, shared: Shared | None = None) -> None:
        self.sketches_R, self._shared = sketches_R, shared

    @cached_property
    def _regions(self) -> RegionIndex:
        return RegionIndex(find_regions(self.sketches_R["detail"]))

    def near_duplicates(self, images_N: Sketches) -> list[Match]:
        """Return the near-duplicates among images and references, by row, then closest first."""
        if not len(images_N) or not len(self.sketches_R):
            return []
        shared = self._shared or Shared.of(np.concatenate([images_N, self.sketches_R]))
        proposed = thumbnail_pairs(images_N, self.sketches_R, shared)
        by_region = self._regions.match(find_regions(images_N["detail"]))
        pairs = _joined(proposed, by_region)
        used_R, other_P = np.unique(pairs.other_P, return_inverse=True)
        found = _confirmed(
            np.concatenate([images_N, self.sketches_R[used_R]]),
            pairs._replace(other_P=other_P + len(images_N)),
            len(proposed.one_P),
            shared,
            within=False,
        )
        return [
            replace(match, reference=int(used_R[match.reference - len(images_N)]))
            for match in found
        ]


def near_duplicates_within(
    images_N: Sketches,
    *,
    shared: Shared | None = None,
    likely: bool = False,
    on_progress: OnProgress | None = None,
) -> list[Match]:
    """Return the near-duplicates among images, each pair once, by row, then closest first.

    Args:
        shared: what the images of the data set share; None = taken from the images.
        likely: whether to return pairs that are not certain, too.
        on_progress: called with (images compared, images in total).
    """
    if not len(images_N):
        return []
    shared = shared or Shared.of(images_N)
    proposed = thumbnail_pairs(images_N, None, shared, on_progress=on_progress)
    by_region = pairs_within(find_regions(images_N["detail"]))
    return _confirmed(
        images_N,
        _joined(proposed, by_region),
        len(proposed.one_P),
        shared,
        within=True,
        likely=likely,
    )


def _joined(one: Hypotheses, other: Hypotheses) -> Hypotheses:
    return Hypotheses(
        np.concatenate([one.one_P, other.one_P]),
        np.concatenate([one.other_P, other.other_P]),
        np.concatenate([one.affine_P23, other.affine_P23]),
    )


def _confirmed(
    together: Sketches,
    hypotheses: Hypotheses,
    by_thumbnail: int,
    shared: Shared,
    *,
    within: bool,
    likely: bool = False,
) -> list[Match]:
    """Return the pairs that agree, laid over each other.

    Args:
        by_thumbnail: how many hypotheses, the first, come from thumbnails; the others from regions.
    """
    registration = Registration(together["detail"], shared.detail)
    agreement = registration.compare(*hypotheses, mutual=within)
    # Turned and cropped freely, a few images fit each other by accident.
    least = np.where(
        np.arange(len(hypotheses.one_P)) < by_thumbnail,
        DUPLICATE_CORRELATION,
        CROPPED_CORRELATION,
    )
    certain = (
        (agreement.correlation_P > least)
        & (agreement.blocks_P > DUPLICATE_BLOCKS)
        & (agreement.one_sided_P < MOST_ONE_SIDED)
    )
    copies = certain
    if likely:
        copies = (agreement.correlation_P > LIKELY_CORRELATION) & (
            agreement.blocks_P > LIKELY_BLOCKS
        )
    rows = np.flatnonzero(copies)
    rows = rows[_same_colours(together["thumbnail"], hypotheses, agreement, rows, shared)]
    best: dict[tuple[int, int], Match] = {}
    for row in rows.tolist():
        one, other = int(hypotheses.one_P[row]), int(hypotheses.other_P[row])
        matrix = agreement.affine_P23[row][:, :2]
        match = Match(
            one,
            other,
            min(float(agreement.correlation_P[row]), 1.0),
            bool(np.linalg.det(matrix.astype(np.float64)) < 0),
            bool(certain[row]),
        )
        known = best.get((one, other))
        if known is None or (known.certain, known.correlation) < (match.certain, match.correlation):
            best[one, other] = match
    return sorted(best.values(), key=lambda m: (m.row, -m.correlation, m.reference))


def _same_colours(
    thumbnails_N: Uint8Array,
    hypotheses: Hypotheses,
    agreement: Agreement,
    rows: IntArray,
    shared: Shared,
) -> npt.NDArray[np.bool_]:
    """Return whether the colours of pairs agree where both are laid over each other.

    Greys say nothing about colours, so pairs with little colour agree.
    """
    line = (np.arange(THUMBNAIL_PX) + 0.5) * (DETAIL_PX / THUMBNAIL_PX) - 0.5
    grid = np.stack([*(axis.ravel() for axis in np.meshgrid(line, line, indexing="ij")),
                     np.ones(THUMBNAIL_PX**2)])  # fmt: skip
    agree = np.ones(len(rows), bool)
    mean = np.zeros(THUMBNAIL_SHAPE) if shared.thumbnail is None else shared.thumbnail
    for index, row in enumerate(rows.tolist()):
        at = agreement.affine_P23[row].astype(np.float64) @ grid
        at = np.rint((at + 0.5) * (THUMBNAIL_PX / DETAIL_PX) - 0.5).astype(int)
        inside = ((at >= 0) & (at < THUMBNAIL_PX)).all(axis=0)
        one = (thumbnails_N[hypotheses.one_P[row]] - mean).reshape(-1, 3)[inside]
        other = (thumbnails_N[hypotheses.other_P[row]] - mean)[at[0][inside], at[1][inside]]
        colours = [values - values.mean(axis=1, keepdims=True) for values in (one, other)]
        strength = [float(np.sqrt((values**2).sum(axis=1).mean())) for values in colours]
        if min(strength) > _COLOURFUL:
            product = float((colours[0] * colours[1]).sum(axis=1).mean())
            agree[index] = product > _COLOUR_CORRELATION * strength[0] * strength[1]
    return agree
