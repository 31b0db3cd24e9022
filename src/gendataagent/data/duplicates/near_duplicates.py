"""Near-duplicate search: copies of one photograph, also turned, mirrored, cropped or recompressed.

Three steps. Pairs are proposed where the 16 x 16 colours of two images correlate, in any of eight
orientations, and where regions of them look alike (`regions`). What all images of the set share is
removed first: channel means and the mean image. Each proposal is then confirmed at 64 x 64: laid
over each other, the two images must agree, as a whole and block by block (`registration`).

Letters in array names: N images, R references, 16 x 16 pixels, 3 colours, D = 384: half the values
of a thumbnail, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from gendataagent.core.progress import OnProgress
from gendataagent.data.decoding.images import centre_square
from gendataagent.data.duplicates.regions import Hypotheses, find_regions, match_regions
from gendataagent.data.duplicates.registration import Agreement, Registration

THUMBNAIL_PX = 16
DETAIL_PX = 64
THUMBNAIL_SHAPE = (THUMBNAIL_PX, THUMBNAIL_PX, 3)
SKETCH = np.dtype(
    [("thumbnail", np.uint8, THUMBNAIL_SHAPE), ("detail", np.uint8, (DETAIL_PX, DETAIL_PX))]
)
DECODED_PX = 2 * DETAIL_PX  # a JPEG may be decoded at an eighth, but not below this

# Chosen by eye, see docs/leakage.md.
PROPOSED_CORRELATION = 0.75
DUPLICATE_CORRELATION = 0.95
CROPPED_CORRELATION = 0.97
DUPLICATE_BLOCKS = 0.5
MOST_ONE_SIDED = 0.08  # of the blocks with detail; copies have up to 0.06, products on white 0.24
LIKELY_CORRELATION, LIKELY_BLOCKS = 0.85, 0.3  # enough to keep two images in one split
LEAST_CONTRAST = 0.5  # of 255, see `_contrast`; below it only colour or rounding correlates
LEAST_SHARING = 8  # images; the mean of fewer is not what they share
_COLOURFUL = 6.0  # of 255, root mean square
_COLOUR_CORRELATION = 0.5
_MOST_PROPOSED = 8  # of an image in one orientation
_ROWS, _COLUMNS = 1024, 8192  # one block of correlations: 32 MiB
_SKETCH = 64  # principal directions of each half, compared first
_ROUNDING = 1e-4  # error bound of the fast search; what it finds is recomputed exactly

Uint8Array = npt.NDArray[np.uint8]
Sketches = npt.NDArray[np.void]
FloatArray = npt.NDArray[np.floating]
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


@dataclass(frozen=True, slots=True)
class Shared:
    """What the images of a set share: their mean, None where they are too few to tell."""

    thumbnail: FloatArray | None = None
    detail: npt.NDArray[np.float32] | None = None
    basis_KD: FloatArray = field(default_factory=lambda: np.empty((0, 768)), repr=False)

    @classmethod
    def of(cls, sketches_N: Sketches) -> Shared:
        """Return what these images share."""
        if len(sketches_N) < LEAST_SHARING:
            return cls()
        mean = sketches_N["thumbnail"].mean(axis=0, dtype=np.float64)
        detail = sketches_N["detail"].mean(axis=0, dtype=np.float64).astype(np.float32)
        return cls(mean, detail, _orbit_basis(mean))

    def remove(self, thumbnails_N: npt.NDArray[np.generic]) -> FloatArray:
        """Return thumbnails [N, 16, 16, 3] without channel means and shared image."""
        whole = thumbnails_N.astype(np.float32)
        whole -= whole.mean(axis=(1, 2), keepdims=True)
        if len(self.basis_KD):
            flat = whole.reshape(len(whole), -1)
            basis = self.basis_KD.astype(np.float32)
            flat -= (flat @ basis.T) @ basis
        return whole


def _orbit_basis(mean: FloatArray) -> FloatArray:
    """Return an orthonormal basis [K, 768] of the mean image in its eight orientations."""
    centred = mean - mean.mean(axis=(0, 1))
    turned = [np.rot90(centred, quarter) for quarter in range(4)]
    orbit = np.stack([*turned, *(image[:, ::-1] for image in turned)]).reshape(8, -1)
    _, values, vectors = np.linalg.svd(orbit, full_matrices=False)
    basis: FloatArray = vectors[values > max(1e-3 * values[0], 1.0)]
    return basis


def sketch(image: Image.Image) -> Sketches:
    """Return the mean colours and the grey detail of the centre square of an upright RGB image."""
    made = np.empty((), dtype=SKETCH)
    fine = centre_square(image, DETAIL_PX, resample=Image.Resampling.BOX)
    made["detail"] = np.asarray(fine.convert("L"))
    made["thumbnail"] = centre_square(image, THUMBNAIL_PX, resample=Image.Resampling.BOX)
    return made


def find_near_duplicates(
    images_N: Sketches,
    references_R: Sketches | None,
    *,
    shared: Shared | None = None,
    likely: bool = False,
    on_progress: OnProgress | None = None,
) -> list[Match]:
    """Return the pairs of near-duplicates, by row, then closest first.

    Args:
        images_N: sketches.
        references_R: sketches; None = the images among themselves, each pair once.
        likely: whether to return pairs that are not certain, too.
        shared: what the images of the data set share; None = taken from images and references.
        on_progress: called with (images compared, images in total).
    """
    within = references_R is None
    references = images_N if references_R is None else references_R
    if not len(images_N) or not len(references):
        return []
    together = images_N if within else np.concatenate([images_N, references])
    shared = shared or Shared.of(together)
    proposed = _proposals(images_N, references, shared, within=within, on_progress=on_progress)
    offset = 0 if within else len(images_N)
    regions = find_regions(together["detail"])
    of_images = None if within else np.arange(len(together)) < len(images_N)
    by_region = match_regions(regions, of_images)
    hypotheses = Hypotheses(
        *(
            np.concatenate([one, other])
            for one, other in zip(
                (proposed.one_P, proposed.other_P + offset, proposed.affine_P23),
                by_region,
                strict=True,
            )
        )
    )
    registration = Registration(together["detail"], shared.detail)
    agreement = registration.compare(*hypotheses, mutual=within)
    # Turned and cropped freely, a few images fit each other by accident.
    least = np.where(
        np.arange(len(hypotheses.one_P)) < len(proposed.one_P),
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
        one, other = int(hypotheses.one_P[row]), int(hypotheses.other_P[row]) - offset
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


def _proposals(
    images_N: Sketches,
    references_R: Sketches,
    shared: Shared,
    *,
    within: bool,
    on_progress: OnProgress | None,
) -> Hypotheses:
    """Return the pairs whose thumbnails correlate in one of eight orientations.

    Both mirror images cost one comparison: with a = even + odd part about the vertical axis,
    a.b = even.even + odd.odd, and mirroring b flips the sign of the second term. The fast search
    runs in single precision; pairs near the threshold are recomputed in double precision, so that
    the result does not depend on the number of threads.
    """
    references = shared.remove(references_R["thumbnail"])
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
