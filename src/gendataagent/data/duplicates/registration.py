"""Whether two images are one photograph: laid over each other, they agree everywhere.

A first guess of the position is refined by least squares (affine: shift, turn, size, shear). Then
brightness, contrast, and the mean image of the set are removed from both, and what remains is
compared as a whole and in blocks. Detail that only one of the two has is counted in the images as
they are: two products on white agree in outline and background, not in what is printed on them.

Letters in array names: N images, P pairs, S side in px.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gendataagent.data.duplicates.region_matching import rank_within

_SHRINK = 4  # guesses are tried and refined at a quarter of the size first
_GUESS_LEAST, _SMALL_LEAST, _FINE_LEAST = 0.3, 0.7, 0.8  # correlations that go on
_TRIED = 4  # guesses of an image that are refined
_STEPS = 5
_BLUR = 1.2  # px
_COMPARED_BLUR = 0.7
_BLOCK_PX = 8
_DETAIL_BLOCK_PX = 4
_LEAST_DETAIL = 3.0  # of 255, standard deviation inside a block
_ONE_SIDED = 0.25  # detail of the plainer image / that of the other
WORST_SHARE = 0.25
LEAST_OVERLAP = 0.45  # of the image
LEAST_CONTRAST = 1.5  # of 255: what remains without the mean image; less is noise
_BATCH = 256

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of P pairs: correlation of the whole overlap, that of its worst blocks, overlap, share of
    the blocks with detail that have it in one image alone, and the final map.
    """

    correlation_P: FloatArray
    blocks_P: FloatArray
    overlap_P: FloatArray
    one_sided_P: FloatArray
    affine_P23: FloatArray


class Registration:
    """Compares images [N, S, S] of one set.

    Args:
        mean_SS: mean image of the set, None = not removed.
    """

    def __init__(self, details_N: npt.NDArray[np.uint8], mean_SS: FloatArray | None) -> None:
        self._details_N, self._mean_SS = details_N, mean_SS
        side = details_N.shape[-1] // _SHRINK
        cut = details_N.reshape(len(details_N), side, _SHRINK, side, _SHRINK)
        self._small_N = cut.mean(axis=(2, 4), dtype=np.float32)

    def compare(
        self, one_P: IntArray, other_P: IntArray, affine_P23: FloatArray, *, mutual: bool = True
    ) -> Agreement:
        """Return how well each pair agrees, `affine_P23` mapping points of the first.

        Args:
            mutual: whether a guess must be among the best ones of both images, to save time; else
                of the first, since many synthetic images may copy one photograph.
        """
        count = len(one_P)
        guess = np.concatenate(
            [np.empty(0, np.float32)]
            + [self._guess(one_P[part], other_P[part], affine_P23[part]) for part in _parts(count)]
        )
        tried = np.flatnonzero(
            (guess > _GUESS_LEAST)
            & (rank_within(one_P, guess) < _TRIED)
            & ((rank_within(other_P, guess) < _TRIED) | (not mutual))
        )
        affine = affine_P23.astype(np.float32, copy=True)
        measures = [np.zeros(count, np.float32) for _ in range(4)]
        for part in _parts(len(tried)):
            rows = tried[part]
            *found, affine[rows] = self._compare(one_P[rows], other_P[rows], affine[rows])
            for measure, values in zip(measures, found, strict=True):
                measure[rows] = values
        correlation, blocks, overlap, one_sided = measures
        return Agreement(correlation, blocks, overlap, one_sided, affine)

    def _compare(self, one: IntArray, other: IntArray, affine: FloatArray) -> tuple[Any, ...]:
        small = _refine(
            self._small_N[one], self._small_N[other], _scaled(affine, 1 / _SHRINK), 1, _STEPS
        )
        affine = _scaled(small, _SHRINK)
        alive = _likeness(self._small_N[one], self._small_N[other], small, 1) > _SMALL_LEAST
        if alive.any():
            a = _blurred(self._details_N[one[alive]].astype(np.float32), _BLUR)
            b = _blurred(self._details_N[other[alive]].astype(np.float32), _BLUR)
            affine[alive] = _refine(a, b, affine[alive], 2, _STEPS)
            alive[alive] = _likeness(a, b, affine[alive], 2) > _FINE_LEAST
        measures = [np.zeros(len(one), np.float32) for _ in range(4)]
        if alive.any():
            a = self._details_N[one[alive]].astype(np.float32)
            b = self._details_N[other[alive]].astype(np.float32)
            found = self._judge(a, b, affine[alive])
            for measure, values in zip(measures, found, strict=True):
                measure[alive] = values
        return (*measures, affine)

    def _guess(self, one: IntArray, other: IntArray, affine: FloatArray) -> FloatArray:
        """Return how alike pairs are at a quarter of the size: most guesses end here."""
        small = _scaled(affine, 1 / _SHRINK)
        return _likeness(self._small_N[one], self._small_N[other], small, 1)

    def _judge(self, a: FloatArray, b: FloatArray, affine: FloatArray) -> tuple[Any, ...]:
        a, b = _blurred(a, _COMPARED_BLUR), _blurred(b, _COMPARED_BLUR)
        side = a.shape[-1]
        points = _grid(side, 1)
        at, inside = _mapped(affine, points, side)
        warped = _sample(b, at)
        flat = a.reshape(len(a), -1)
        basis = [np.ones_like(flat)]
        if self._mean_SS is not None:
            mean = np.broadcast_to(self._mean_SS, a.shape)
            basis += [mean.reshape(len(a), -1), _sample(np.ascontiguousarray(mean), at)]
        return (
            *_agreement(flat, warped, basis, inside, side, affine),
            _one_sided(flat, warped, inside.astype(np.float32), side),
        )


def _scaled(affine: FloatArray, factor: float) -> FloatArray:
    """Return maps [P, 2, 3] for images that are `factor` times as large."""
    # A point of the small image is the middle of a square of the large one.
    middle = (factor - 1) / 2
    scaled = affine.astype(np.float32, copy=True)
    scaled[:, :, 2] = factor * affine[:, :, 2] + middle - middle * affine[:, :, :2].sum(axis=2)
    return scaled


def _parts(count: int) -> list[slice]:
    return [slice(start, start + _BATCH) for start in range(0, count, _BATCH)]


def _blurred(images: FloatArray, sigma: float) -> FloatArray:
    from scipy import ndimage  # 0.15 s, which most commands need not wait

    blurred: FloatArray = ndimage.gaussian_filter(
        images, (0, sigma, sigma), mode="nearest", truncate=3
    )
    return blurred


def _likeness(a: FloatArray, b: FloatArray, affine: FloatArray, stride: int) -> FloatArray:
    side = a.shape[-1]
    points = _grid(side, stride)
    at_a = np.broadcast_to(points[:, :2].T, (len(a), 2, len(points))).astype(np.float32)
    at, inside = _mapped(affine, points, side)
    weight = inside.astype(np.float32)
    one, other = _normal(_sample(a, at_a), weight), _normal(_sample(b, at), weight)
    total = np.maximum(weight.sum(axis=1), 1)
    likeness: FloatArray = (one * other * weight).sum(axis=1) / total
    likeness[weight.mean(axis=1) < LEAST_OVERLAP / 4] = 0
    return likeness


def _grid(side: int, stride: int) -> FloatArray:
    """Return points [K, 3]: row, column, 1."""
    start = (stride - 1) / 2
    line = np.arange(start, side, stride, dtype=np.float32)
    rows, columns = np.meshgrid(line, line, indexing="ij")
    return np.stack([rows.ravel(), columns.ravel(), np.ones(rows.size, np.float32)], axis=1)


def _mapped(affine: FloatArray, points: FloatArray, side: int) -> tuple[FloatArray, Any]:
    at = np.einsum("pij,kj->pik", affine, points).astype(np.float32)
    inside = ((at >= 0) & (at <= side - 1)).all(axis=1)
    return at, inside


def _sample(images: FloatArray, at: FloatArray) -> FloatArray:
    """Return bilinear samples [P, K] of images [P, S, S] at points [P, 2, K], clipped."""
    side = images.shape[-1]
    at = np.clip(at, 0, side - 1.001)
    low = at.astype(np.int32)
    row, column = at[:, 0] - low[:, 0], at[:, 1] - low[:, 1]
    flat = images.reshape(-1)
    index = low[:, 0] * side + low[:, 1] + (np.arange(len(images)) * side * side)[:, None]
    top = flat[index] * (1 - column) + flat[index + 1] * column
    below = flat[index + side] * (1 - column) + flat[index + side + 1] * column
    sampled: FloatArray = top * (1 - row) + below * row
    return sampled


def _normal(values: FloatArray, weight: FloatArray) -> FloatArray:
    total = np.maximum(weight.sum(axis=1, keepdims=True), 1)
    values = values - (values * weight).sum(axis=1, keepdims=True) / total
    spread = np.sqrt((values**2 * weight).sum(axis=1, keepdims=True) / total)
    normal: FloatArray = values / np.maximum(spread, 1e-3)
    return normal


def _refine(
    a: FloatArray, b: FloatArray, affine: FloatArray, stride: int, steps: int
) -> FloatArray:
    """Return better maps, by Gauss-Newton steps on normalised brightness."""
    side = a.shape[-1]
    points = _grid(side, stride)
    at_a = np.broadcast_to(points[:, :2].T, (len(a), 2, len(points))).astype(np.float32)
    flat_a = _sample(a, at_a)
    slope_r, slope_c = np.gradient(b, axis=1), np.gradient(b, axis=2)
    centred = points.copy()
    centred[:, :2] -= side / 2
    centred[:, :2] /= side / 2
    exact = affine.astype(np.float64)
    change = np.eye(3)
    change[:2, :2] *= 2 / side
    change[:2, 2] = -1
    for _ in range(steps):
        at, inside = _mapped(exact.astype(np.float32), points, side)
        weight = inside.astype(np.float32)
        warped = _sample(b, at)
        total = np.maximum(weight.sum(axis=1, keepdims=True), 1)
        mean = (warped * weight).sum(axis=1, keepdims=True) / total
        spread = np.sqrt(((warped - mean) ** 2 * weight).sum(axis=1, keepdims=True) / total)
        residual = (_normal(flat_a, weight) - (warped - mean) / np.maximum(spread, 1e-3)) * weight
        gr = _sample(slope_r, at) / np.maximum(spread, 1e-3) * weight
        gc = _sample(slope_c, at) / np.maximum(spread, 1e-3) * weight
        jacobian = np.concatenate(
            [gr[:, :, None] * centred[None], gc[:, :, None] * centred[None]], axis=2
        )
        normal = np.einsum("pki,pkj->pij", jacobian, jacobian, optimize=True).astype(np.float64)
        right = np.einsum("pki,pk->pi", jacobian, residual, optimize=True).astype(np.float64)
        normal += np.eye(6) * (1e-3 * np.trace(normal, axis1=1, axis2=2)[:, None, None] / 6 + 1e-6)
        step = np.linalg.solve(normal, right[:, :, None])[:, :, 0].reshape(-1, 2, 3)
        size = np.abs(step).max(axis=(1, 2), keepdims=True)
        step *= np.minimum(1, 3.0 / np.maximum(size, 1e-9))  # px
        exact = exact + step @ change
    return exact.astype(np.float32)


def _agreement(
    a: FloatArray,
    b: FloatArray,
    basis: list[FloatArray],
    inside: Any,
    side: int,
    affine: FloatArray,
) -> tuple[Any, ...]:
    weight = inside.astype(np.float32)
    a, b = _without(a, basis, weight), _without(b, basis, weight)
    total = np.maximum(weight.sum(axis=1), 1)
    aa, bb, ab = (a * a).sum(axis=1), (b * b).sum(axis=1), (a * b).sum(axis=1)
    correlation = ab / np.maximum(np.sqrt(aa * bb), 1e-6)
    plain = np.minimum(aa, bb) / total < LEAST_CONTRAST**2
    overlap = weight.mean(axis=1)
    # The second image's share of the overlap: its area is that of the map's determinant.
    grown = np.abs(np.linalg.det(affine[:, :, :2].astype(np.float64)))
    overlap = np.maximum(overlap, overlap * grown)
    lengths = np.linalg.svd(affine[:, :, :2].astype(np.float64), compute_uv=False)
    stretch = lengths[:, 0] / np.maximum(lengths[:, 1], 1e-6)
    blocks = _agreeing_blocks(a, b, weight, side)
    bad = plain | (overlap < LEAST_OVERLAP) | (grown < 0.3) | (grown > 3.4) | (stretch > 1.3)
    correlation[bad] = 0
    blocks[bad] = 0
    return (correlation.astype(np.float32), blocks.astype(np.float32), overlap.astype(np.float32))


def _without(values: FloatArray, basis: list[FloatArray], weight: FloatArray) -> FloatArray:
    """Return values minus what the basis explains inside the overlap; 0 outside."""
    columns = np.stack(basis, axis=2) * weight[:, :, None]
    columns[:, :, 1:] -= 0
    normal = np.einsum("pki,pkj->pij", columns, columns, optimize=True).astype(np.float64)
    right = np.einsum("pki,pk->pi", columns, values, optimize=True).astype(np.float64)
    count = normal.shape[-1]
    normal += np.eye(count) * (1e-6 * np.trace(normal, axis1=1, axis2=2)[:, None, None] + 1e-6)
    explained = np.linalg.solve(normal, right[:, :, None]).astype(np.float32)
    rest: FloatArray = (values - (np.stack(basis, axis=2) @ explained)[:, :, 0]) * weight
    return rest


def _blocks(values: FloatArray, side: int, block_px: int) -> FloatArray:
    """Return the pixels of each block: [P, blocks, block_px**2]."""
    per = side // block_px
    shaped = values.reshape(-1, per, block_px, per, block_px).transpose(0, 1, 3, 2, 4)
    return shaped.reshape(len(values), per * per, -1)


def _one_sided(a: FloatArray, b: FloatArray, weight: FloatArray, side: int) -> FloatArray:
    """Return which share of the blocks with detail have it in one of the two images alone."""
    total = np.maximum(weight.sum(axis=1, keepdims=True), 1)
    a, b = ((v - (v * weight).sum(axis=1, keepdims=True) / total) * weight for v in (a, b))
    strength_a, strength_b = (np.sqrt((v * v).sum(axis=1, keepdims=True) / total) for v in (a, b))
    b = b * (strength_a / np.maximum(strength_b, 1e-3))
    full = _blocks(weight, side, _DETAIL_BLOCK_PX).mean(axis=2) > 0.9
    detail_a, detail_b = (_blocks(v, side, _DETAIL_BLOCK_PX).std(axis=2) for v in (a, b))
    more, less = np.maximum(detail_a, detail_b), np.minimum(detail_a, detail_b)
    detailed = full & (more > _LEAST_DETAIL)
    one_sided = detailed & (less < _ONE_SIDED * more)
    share: FloatArray = one_sided.sum(axis=1) / np.maximum(detailed.sum(axis=1), 1)
    return share.astype(np.float32)


def _agreeing_blocks(a: FloatArray, b: FloatArray, weight: FloatArray, side: int) -> FloatArray:
    """Return the correlation inside blocks, each about its own mean, weighted by contrast."""
    a, b, weight = (_blocks(values, side, _BLOCK_PX) for values in (a, b, weight))
    full = weight.mean(axis=2) > 0.9
    a = a - a.mean(axis=2, keepdims=True)
    b = b - b.mean(axis=2, keepdims=True)
    aa, bb, ab = (a * a).sum(axis=2), (b * b).sum(axis=2), (a * b).sum(axis=2)
    local = ab / np.maximum(np.sqrt(aa * bb), 1e-3)
    counted = full & (np.sqrt(np.maximum(aa, bb)) > _BLOCK_PX * LEAST_CONTRAST)
    ordered = np.sort(np.where(counted, local, np.inf), axis=1)
    number = counted.sum(axis=1)
    at = (number * WORST_SHARE).astype(np.int64)
    agreeing: FloatArray = np.take_along_axis(ordered, at[:, None], axis=1)[:, 0]
    return np.where(number >= 4, agreeing, 1)
