"""Images that repeat others, found by their thumbnails: the search alone, on arrays.

Two images repeat each other when the correlation of their 16 x 16 RGB thumbnails (of the centre
square) exceeds a threshold, also when one is mirrored. Brightness and contrast do not change a
correlation. A image of one colour repeats nothing: nothing is on it.

Legend: N images, R references, 16 x 16 pixels, 3 colours, D = 384: half the values of a
thumbnail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from gendataagent.core.errors import DataError

DUPLICATE_CORRELATION = 0.90
THUMBNAIL_PX = 16
THUMBNAIL_SHAPE = (THUMBNAIL_PX, THUMBNAIL_PX, 3)
DECODED_PX = 2 * THUMBNAIL_PX  # a JPEG may be decoded at an eighth, but not below this
LEAST_CONTRAST = 0.5  # of 255, see `_contrast`; below, only colour or rounding correlates
_ROWS, _COLUMNS = 1024, 8192  # one block of correlations: 32 MiB
_SKETCH = 64  # main directions of each half looked at first
_ROUNDING = 1e-4  # by how much the fast search may err; what it finds is computed again exactly

Uint8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.floating]
Search = Callable[[int, int], None]
"""Called with (images looked through, images in all)."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """Image `row` repeats reference `reference` most closely, or its mirror image."""

    row: int
    reference: int
    correlation: float
    mirrored: bool


def thumbnail(image: Image.Image) -> Uint8Array:
    """Return [16, 16, 3]: the mean colours of the centre square of an upright RGB image."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    small = image.resize(
        (THUMBNAIL_PX, THUMBNAIL_PX),
        Image.Resampling.BOX,
        box=(left, top, left + side, top + side),
    )
    return np.asarray(small, dtype=np.uint8)


def find_repeats(
    images_N: npt.NDArray[np.generic],
    references_R: npt.NDArray[np.generic],
    *,
    threshold: float = DUPLICATE_CORRELATION,
    on_rows: Search | None = None,
) -> list[Repeat]:
    """Return every image that repeats a reference, with the closest one, in order of rows.

    Mirrored or not is told at the price of one: with a = even + odd part about the vertical axis,
    a.b = even.even + odd.odd, and with b mirrored the second term changes its sign. The fast search
    is in single precision; pairs near the threshold are computed again in double precision, so that
    the verdict does not hang on how many threads multiplied.

    Args:
        images_N: thumbnails [N, 16, 16, 3], uint8 or floating point in [0, 255]; references_R
            likewise. Memory grows with both: 3 kB a reference, the images block by block.

    Raises:
        DataError: thumbnails of another shape.
    """
    for array in (images_N, references_R):
        if array.shape[1:] != THUMBNAIL_SHAPE:
            raise DataError(
                f"thumbnails must have the shape {THUMBNAIL_SHAPE}, got {array.shape[1:]}"
            )
    found: list[Repeat] = []
    if not len(images_N) or not len(references_R):
        return found
    blocks = _reference_blocks(references_R)
    for start in range(0, len(images_N), _ROWS):
        block = images_N[start : start + _ROWS]
        for row, reference in _near(block, blocks, threshold - _ROUNDING):
            correlation, mirrored = _exactly(block[row], references_R[reference])
            if correlation > threshold:
                found.append(Repeat(start + row, reference, correlation, mirrored))
        if on_rows:
            on_rows(start + len(block), len(images_N))
    return found


@dataclass(frozen=True, slots=True)
class _Sketch:
    """A basis of K directions of each half: what it leaves out is bounded by two lengths."""

    even_DK: FloatArray
    odd_DK: FloatArray

    def of(self, even_ND: FloatArray, odd_ND: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return coordinates [N, K + 1] and [N, K]; the last of the first is what is left out.

        By Cauchy and Schwarz a product of sketches is never below the correlation it stands for.
        """
        even_NK, odd_NK = even_ND @ self.even_DK, odd_ND @ self.odd_DK
        length_N = (even_ND**2).sum(axis=1) + (odd_ND**2).sum(axis=1)
        inside_N = (even_NK**2).sum(axis=1) + (odd_NK**2).sum(axis=1)
        left_out_N = np.sqrt(np.maximum(length_N - inside_N, 0))
        return np.column_stack([even_NK, left_out_N]), odd_NK


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Reference thumbnails block by block: (first row, even, odd), and the same as sketches."""

    whole: list[tuple[int, FloatArray, FloatArray]]
    sketched: list[tuple[int, FloatArray, FloatArray]]
    sketch: _Sketch


def _reference_blocks(references_R: npt.NDArray[np.generic]) -> _Blocks:
    whole = [
        (start, *_halves(references_R[start : start + _COLUMNS]))
        for start in range(0, len(references_R), _COLUMNS)
    ]
    _, even_RD, odd_RD = whole[0]
    sketch = _Sketch(_main_directions(even_RD), _main_directions(odd_RD))
    return _Blocks(whole, [(start, *sketch.of(even, odd)) for start, even, odd in whole], sketch)


def _main_directions(half_RD: FloatArray) -> FloatArray:
    """Return the directions [D, K] that hold most of the thumbnails; any others would do too."""
    _, vectors_DD = np.linalg.eigh(half_RD.T @ half_RD)
    return np.ascontiguousarray(vectors_DD[:, -_SKETCH:])


def _near(
    block: npt.NDArray[np.generic], blocks: _Blocks, threshold: float
) -> Iterator[tuple[int, int]]:
    """Yield (row, closest reference) of the images above the threshold.

    Most images are nowhere near any reference already by their sketches, at an eighth of the
    price; only the others are compared in full.
    """
    even_BD, odd_BD = _halves(block)
    bound_B, _ = _best(*blocks.sketch.of(even_BD, odd_BD), blocks.sketched)
    rows = np.flatnonzero(bound_B > threshold)
    best, reference = _best(even_BD[rows], odd_BD[rows], blocks.whole)
    for i in np.flatnonzero(best > threshold):
        yield int(rows[i]), int(reference[i])


def _best(
    even_ND: FloatArray, odd_ND: FloatArray, blocks: list[tuple[int, FloatArray, FloatArray]]
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Return the highest correlation [N], mirrored or not, and with which reference [N]."""
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


def _exactly(
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
