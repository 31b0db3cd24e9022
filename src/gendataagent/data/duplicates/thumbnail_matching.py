"""Pairs of images whose 16 x 16 colours correlate, in any of eight orientations.

Letters in array names: N images, R references, B images of a block, D = 384: half the values of a
thumbnail, K directions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gendataagent.core.progress import OnProgress
from gendataagent.data.duplicates.region_matching import Hypotheses
from gendataagent.data.duplicates.sketches import (
    DETAIL_PX,
    THUMBNAIL_PX,
    FloatArray,
    Shared,
    Sketches,
)

PROPOSED_CORRELATION = 0.75
LEAST_CONTRAST = 0.5  # of 255, see `_contrast`; below it only colour or rounding correlates
_MOST_PROPOSED = 8  # of an image in one orientation
_ROWS, _COLUMNS = 1024, 8192  # one block of correlations: 32 MiB
_SKETCH = 64  # principal directions of each half, compared first
_ROUNDING = 1e-4  # error bound of the fast search; what it finds is recomputed exactly


def thumbnail_pairs(
    images_N: Sketches,
    references_R: Sketches | None,
    shared: Shared,
    *,
    on_progress: OnProgress | None = None,
) -> Hypotheses:
    """Return the pairs whose thumbnails correlate in one of eight orientations.

    Args:
        references_R: None = the images among themselves, each pair once.

    Both mirror images cost one comparison: with a = even + odd part about the vertical axis,
    a.b = even.even + odd.odd, and mirroring b flips the sign of the second term. The fast search
    runs in single precision; pairs near the threshold are recomputed in double precision, so that
    the result does not depend on the number of threads.
    """
    within = references_R is None
    compared = images_N if references_R is None else references_R
    references = shared.remove(compared["thumbnail"])
    blocks = _reference_blocks(references)
    found: dict[tuple[int, int, int, bool], None] = {}
    for start in range(0, len(images_N), _ROWS):
        block = shared.remove(images_N["thumbnail"][start : start + _ROWS])
        for quarter in range(4):
            turned = np.ascontiguousarray(np.rot90(block, quarter, axes=(1, 2)))
            own = start if within else None
            for row, reference in _candidates(turned, blocks, PROPOSED_CORRELATION, own):
                correlation, mirrored = _exact_correlation(turned[row], references[reference])
                if correlation > PROPOSED_CORRELATION:
                    found[start + row, reference, quarter, mirrored] = None
        if on_progress:
            on_progress(start + len(block), len(images_N))
    one = np.array([key[0] for key in found], dtype=np.int64)
    other = np.array([key[1] for key in found], dtype=np.int64)
    affine = [_orientation(key[2], key[3]) for key in found]
    return Hypotheses(one, other, np.array(affine, np.float32).reshape(-1, 2, 3))


def _orientation(quarter: int, mirrored: bool) -> FloatArray:
    """Return the map [2, 3] of a point of an image to one that it equals after a turn."""
    # rot90 by one quarter moves the point (r, c) to (last - c, r).
    last = DETAIL_PX - 1
    affine = np.eye(3)
    step = np.array([[0, -1, last], [1, 0, 0], [0, 0, 1]], dtype=float)
    for _ in range(quarter):
        affine = step @ affine
    if mirrored:
        affine = np.array([[1, 0, 0], [0, -1, last], [0, 0, 1]], dtype=float) @ affine
    return affine[:2]


@dataclass(frozen=True, slots=True)
class _Sketch:
    """A basis of K directions of each half; the remainder is bounded by its length."""

    even_DK: FloatArray
    odd_DK: FloatArray

    def of(self, even_ND: FloatArray, odd_ND: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return coordinates [N, K + 1] and [N, K]; the last of the first is the remainder.

        By Cauchy-Schwarz a product of sketches is never below the correlation it approximates.
        """
        even_NK, odd_NK = even_ND @ self.even_DK, odd_ND @ self.odd_DK
        length_N = (even_ND**2).sum(axis=1) + (odd_ND**2).sum(axis=1)
        inside_N = (even_NK**2).sum(axis=1) + (odd_NK**2).sum(axis=1)
        remainder_N = np.sqrt(np.maximum(length_N - inside_N, 0))
        return np.column_stack([even_NK, remainder_N]), odd_NK


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Reference thumbnails in blocks of (first row, even, odd): in full and as sketches."""

    full: list[tuple[int, FloatArray, FloatArray]]
    sketched: list[tuple[int, FloatArray, FloatArray]]
    sketch: _Sketch


def _reference_blocks(references_R: npt.NDArray[np.generic]) -> _Blocks:
    full = [
        (start, *_halves(references_R[start : start + _COLUMNS]))
        for start in range(0, len(references_R), _COLUMNS)
    ]
    _, even_RD, odd_RD = full[0]
    sketch = _Sketch(_principal_directions(even_RD), _principal_directions(odd_RD))
    return _Blocks(full, [(start, *sketch.of(even, odd)) for start, even, odd in full], sketch)


def _principal_directions(half_RD: FloatArray) -> FloatArray:
    """Return the K directions [D, K] of largest variance; any basis gives correct results."""
    _, vectors_DD = np.linalg.eigh(half_RD.T @ half_RD)
    return np.ascontiguousarray(vectors_DD[:, -_SKETCH:])


def _candidates(
    block: npt.NDArray[np.generic], blocks: _Blocks, threshold: float, own: int | None
) -> Iterator[tuple[int, int]]:
    """Yield (row, reference) above the threshold, at most `_MOST_PROPOSED` of a row.

    The sketches rule out most pairs at an eighth of the cost; the others are compared in full.

    Args:
        own: reference of the first row, for images that are the references too: then only later
            references are compared.
    """
    even_BD, odd_BD = _halves(block)
    sketched = blocks.sketch.of(even_BD, odd_BD)
    close: dict[int, list[tuple[float, int]]] = {}
    for (start, even_RD, odd_RD), (_, *sketch_RD) in zip(blocks.full, blocks.sketched, strict=True):
        if own is not None and start + len(even_RD) <= own:
            continue
        likely = _either(*sketched, *sketch_RD)
        rows = np.flatnonzero(likely.max(axis=1) > threshold - _ROUNDING)
        if not len(rows):
            continue
        exact = _either(even_BD[rows], odd_BD[rows], even_RD, odd_RD)
        hit_rows, hits = np.nonzero(exact > threshold - _ROUNDING)
        for i, reference in zip(hit_rows.tolist(), hits.tolist(), strict=True):
            row = int(rows[i])
            if own is None or start + reference > own + row:
                close.setdefault(row, []).append((-float(exact[i, reference]), start + reference))
    for row, found in close.items():
        for _, reference in sorted(found)[:_MOST_PROPOSED]:
            yield row, reference


def _either(
    even_ND: FloatArray, odd_ND: FloatArray, even_RD: FloatArray, odd_RD: FloatArray
) -> FloatArray:
    """Return correlations [N, R], mirrored or not, whichever is higher."""
    either_NR = even_ND @ even_RD.T
    odd_NR = odd_ND @ odd_RD.T
    either_NR += np.abs(odd_NR, out=odd_NR)
    return either_NR


def _halves(thumbnails_N: npt.NDArray[np.generic]) -> tuple[FloatArray, FloatArray]:
    """Return the even and the odd part [N, D] of thumbnails of mean 0 and length 1 (or all 0)."""
    whole = thumbnails_N.astype(np.float32)
    plain_N = _contrast(whole) < LEAST_CONTRAST
    whole -= whole.mean(axis=(1, 2, 3), keepdims=True)
    whole[plain_N] = 0
    length_N = np.sqrt(np.square(whole).sum(axis=(1, 2, 3)))
    whole /= np.where(plain_N, 1, length_N)[:, None, None, None]
    left, right = whole[:, :, : THUMBNAIL_PX // 2], whole[:, :, : THUMBNAIL_PX // 2 - 1 : -1]
    root_half = np.float32(0.5**0.5)
    even, odd = root_half * (left + right), root_half * (left - right)
    return even.reshape(len(whole), -1), odd.reshape(len(whole), -1)


def _contrast(thumbnails_N: FloatArray) -> FloatArray:
    """Return [N]: the standard deviation over the pixels, root of the mean square over colours."""
    contrast_N: FloatArray = np.sqrt(thumbnails_N.var(axis=(1, 2)).mean(axis=-1))
    return contrast_N


def _exact_correlation(
    image: npt.NDArray[np.generic], reference: npt.NDArray[np.generic]
) -> tuple[float, bool]:
    """Return the correlation in double precision, and whether it is that of the mirror image."""
    if _contrast(np.stack([image, reference]).astype(np.float64)).min() < LEAST_CONTRAST:
        return 0.0, False
    one = image.astype(np.float64)
    one -= one.mean()
    other = reference.astype(np.float64)
    other -= other.mean()
    length = np.sqrt((one**2).sum() * (other**2).sum())
    plain = float((one * other).sum() / length)
    mirrored = float((one * other[:, ::-1]).sum() / length)
    return min(max(plain, mirrored), 1.0), mirrored > plain
