"""Near-duplicate search on arrays of thumbnails.

Two images are near-duplicates when the 16 x 16 RGB thumbnails of their centre squares correlate
more than a threshold, one of them mirrored or not. Brightness and contrast do not change a
correlation. An image of one colour has no near-duplicates: its thumbnail holds no structure.

Letters in array names: N images, R references, 16 x 16 pixels, 3 colours, D = 384: half the values
of a thumbnail.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from gendataagent.core.errors import DataError
from gendataagent.core.progress import OnProgress
from gendataagent.data.images import centre_square

# Chosen by eye on CIFAR-10 pairs sorted by correlation: above 0.94 nearly every pair is the same
# photograph, between 0.90 and 0.92 about a third. At 0.90 a few innocent training images are
# dropped too, which costs nothing; a missed copy of a test image would inflate test figures.
DUPLICATE_CORRELATION = 0.90
THUMBNAIL_PX = 16
THUMBNAIL_SHAPE = (THUMBNAIL_PX, THUMBNAIL_PX, 3)
DECODED_PX = 2 * THUMBNAIL_PX  # a JPEG may be decoded at an eighth, but not below this
LEAST_CONTRAST = 0.5  # of 255, see `_contrast`; below it only colour or rounding correlates
_ROWS, _COLUMNS = 1024, 8192  # one block of correlations: 32 MiB
_SKETCH = 64  # principal directions of each half, compared first
_ROUNDING = 1e-4  # error bound of the fast search; what it finds is recomputed exactly

Uint8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Match:
    """Reference `reference` is the closest near-duplicate of image `row`."""

    row: int
    reference: int
    correlation: float
    mirrored: bool


def thumbnail(image: Image.Image) -> Uint8Array:
    """Return [16, 16, 3]: the mean colours of the centre square of an upright RGB image."""
    small = centre_square(image, THUMBNAIL_PX, resample=Image.Resampling.BOX)
    return np.asarray(small, dtype=np.uint8)


def find_near_duplicates(
    images_N: npt.NDArray[np.generic],
    references_R: npt.NDArray[np.generic],
    *,
    threshold: float = DUPLICATE_CORRELATION,
    on_progress: OnProgress | None = None,
) -> list[Match]:
    """Return each image that has a near-duplicate among the references, in order of rows.

    Both orientations cost one comparison: with a = even + odd part about the vertical axis,
    a.b = even.even + odd.odd, and mirroring b flips the sign of the second term. The fast search
    runs in single precision; pairs near the threshold are recomputed in double precision, so that
    the result does not depend on the number of threads.

    Args:
        images_N: thumbnails [N, 16, 16, 3], uint8 or floating point in [0, 255].
        references_R: likewise; memory grows by 3 kB a reference.
        on_progress: called with (images compared, images in total).

    Raises:
        DataError: thumbnails of another shape.
    """
    for array in (images_N, references_R):
        if array.shape[1:] != THUMBNAIL_SHAPE:
            raise DataError(
                f"thumbnails must have the shape {THUMBNAIL_SHAPE}, got {array.shape[1:]}"
            )
    found: list[Match] = []
    if not len(images_N) or not len(references_R):
        return found
    blocks = _reference_blocks(references_R)
    for start in range(0, len(images_N), _ROWS):
        block = images_N[start : start + _ROWS]
        for row, reference in _candidates(block, blocks, threshold - _ROUNDING):
            correlation, mirrored = _exact_correlation(block[row], references_R[reference])
            if correlation > threshold:
                found.append(Match(start + row, reference, correlation, mirrored))
        if on_progress:
            on_progress(start + len(block), len(images_N))
    return found


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
    block: npt.NDArray[np.generic], blocks: _Blocks, threshold: float
) -> Iterator[tuple[int, int]]:
    """Yield (row, closest reference) of the images above the threshold.

    The sketches rule out most images at an eighth of the cost; the others are compared in full.
    """
    even_BD, odd_BD = _halves(block)
    bound_B, _ = _closest(*blocks.sketch.of(even_BD, odd_BD), blocks.sketched)
    rows = np.flatnonzero(bound_B > threshold)
    best, reference = _closest(even_BD[rows], odd_BD[rows], blocks.full)
    for i in np.flatnonzero(best > threshold):
        yield int(rows[i]), int(reference[i])


def _closest(
    even_ND: FloatArray, odd_ND: FloatArray, blocks: list[tuple[int, FloatArray, FloatArray]]
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Return the highest correlation [N], mirrored or not, and its reference [N]."""
    best_N = np.full(len(even_ND), -np.inf, dtype=np.float32)
    reference_N = np.zeros(len(even_ND), dtype=np.int64)
    for start, even_RD, odd_RD in blocks if len(even_ND) else ():
        either_NR = even_ND @ even_RD.T
        odd_NR = odd_ND @ odd_RD.T
        either_NR += np.abs(odd_NR, out=odd_NR)
        here_N = either_NR.argmax(axis=1)
        value_N = np.take_along_axis(either_NR, here_N[:, None], axis=1)[:, 0]
        nearer_N = value_N > best_N
        best_N[nearer_N] = value_N[nearer_N]
        reference_N[nearer_N] = here_N[nearer_N] + start
    return best_N, reference_N


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
