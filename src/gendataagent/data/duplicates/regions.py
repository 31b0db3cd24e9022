"""Round regions of images that look alike although one image is a turned or cropped copy.

Blobs are found at several sizes. What is around a blob is sampled on rings; the strengths of the
waves along the rings do not change when the image is turned or mirrored. Regions with similar
waves are found by hashing, so that time grows with the number of images, not with its square.

Letters in array names: N images, M regions, P pairs, S side in px, R rings, A angles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

REGIONS = 20  # at most, of an image
_SIGMAS = 1.6 * 2.0 ** (np.arange(6) / 2)
_RINGS = np.array([0.8, 1.6, 2.4, 3.2], dtype=np.float32)  # in sigmas of the blob
_ANGLES = 16
_WAVES = 5
_DIRECTIONS = 14
_TABLES = 8
_NEIGHBOURS = 6  # in one table
_LEAST_CONTRAST = 3.0
_LIKE = 0.7
_GUESSES = 3  # for one pair of images
_BATCH = 256

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Regions:
    """M regions: their image, centre (row, column) and sigma in px, rings and waves."""

    image_M: IntArray
    centre_M2: FloatArray
    sigma_M: FloatArray
    rings_MRA: FloatArray
    waves_MD: FloatArray


class Hypotheses(NamedTuple):
    """P pairs of images, and how a point of the first maps to the second: [P, 2, 3]."""

    one_P: IntArray
    other_P: IntArray
    affine_P23: FloatArray


def find_regions(details_N: npt.NDArray[np.uint8]) -> Regions:
    """Return the regions of grey images [N, S, S]."""
    parts = [
        _regions_of(details_N[start : start + _BATCH].astype(np.float32), start)
        for start in range(0, len(details_N), _BATCH)
    ]
    return Regions(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _regions_of(batch_N: FloatArray, start: int) -> tuple[Any, ...]:
    from scipy import ndimage  # 0.15 s, which most commands need not wait

    levels = np.stack(
        [ndimage.gaussian_filter(batch_N, (0, s, s), mode="nearest", truncate=3) for s in _SIGMAS]
    )
    blobs = np.abs(np.diff(levels, axis=0))  # [5, N, S, S]
    highest = ndimage.maximum_filter(blobs, size=(3, 1, 3, 3), mode="constant")
    peaks = np.where(blobs == highest, blobs, 0)[1:4]
    margin = 4
    peaks[:, :, :margin], peaks[:, :, -margin:] = 0, 0
    peaks[:, :, :, :margin], peaks[:, :, :, -margin:] = 0, 0
    count, side = len(batch_N), batch_N.shape[-1]
    flat = peaks.transpose(1, 0, 2, 3).reshape(count, -1)
    best = np.argpartition(-flat, REGIONS, axis=1)[:, :REGIONS]
    image = np.repeat(np.arange(count), REGIONS)
    index = best.ravel()
    good = flat[image, index] > 0.5
    image, index = image[good], index[good]
    level, row, column = np.unravel_index(index, (3, side, side))
    sigma = _SIGMAS[level + 1].astype(np.float32)
    centre = np.stack([row, column], axis=1).astype(np.float32)
    rings = _rings(levels, level + 1, image, centre, sigma)
    spread = rings.std(axis=(1, 2))
    keep = spread > _LEAST_CONTRAST
    rings = rings[keep]
    rings -= rings.mean(axis=(1, 2), keepdims=True)
    rings /= np.sqrt((rings**2).sum(axis=(1, 2), keepdims=True))
    waves = np.abs(np.fft.rfft(rings, axis=2))[:, :, :_WAVES].astype(np.float32)
    waves[:, :, 0] = rings.sum(axis=2)
    return (
        image[keep] + start,
        centre[keep],
        sigma[keep],
        rings,
        waves.reshape(len(rings), len(_RINGS) * _WAVES),
    )


def _rings(
    levels: FloatArray, level: IntArray, image: IntArray, centre: FloatArray, sigma: FloatArray
) -> FloatArray:
    angle = np.arange(_ANGLES) * (2 * np.pi / _ANGLES)
    unit = np.stack([np.sin(angle), np.cos(angle)]).astype(np.float32)  # (row, column)
    offset = _RINGS[:, None, None] * unit.T[None]  # [R, A, 2]
    at = centre[:, None, None] + sigma[:, None, None, None] * offset
    side = levels.shape[-1]
    at = np.clip(at, 0, side - 1.001)
    low = at.astype(np.int64)
    share = at - low
    r, c = low[..., 0], low[..., 1]
    i, k = image[:, None, None], (level - 1)[:, None, None]
    top = levels[k, i, r, c] * (1 - share[..., 1]) + levels[k, i, r, c + 1] * share[..., 1]
    r = r + 1
    below = levels[k, i, r, c] * (1 - share[..., 1]) + levels[k, i, r, c + 1] * share[..., 1]
    sampled: FloatArray = top * (1 - share[..., 0]) + below * share[..., 0]
    return sampled


def match_regions(
    regions: Regions, one_of: npt.NDArray[np.bool_] | None = None, *, most: int = 20
) -> Hypotheses:
    """Return pairs of images with similar regions, each image in a few pairs.

    Args:
        one_of: per image, whether it belongs to the images; the others are references, and pairs
            are of an image and a reference. None = all with all.
        most: pairs kept of each image.
    """
    first, second = _neighbours(regions.waves_MD)
    image = regions.image_M
    useful = image[first] != image[second]
    if one_of is not None:
        useful &= one_of[image[first]] != one_of[image[second]]
    first, second = first[useful], second[useful]
    swap = image[first] > image[second] if one_of is None else ~one_of[image[first]]
    first, second = np.where(swap, second, first), np.where(swap, first, second)
    like, turn, mirrored = _correlate(regions.rings_MRA, first, second)
    good = like > _LIKE
    first, second = first[good], second[good]
    like, turn, mirrored = like[good], turn[good], mirrored[good]
    # A pair that several regions name is likelier than one of a single, very similar region.
    one, other = image[first], image[second]
    key = one * (int(image.max(initial=0)) + 1) + other
    _, inverse, votes = np.unique(key, return_inverse=True, return_counts=True)
    score = like + 0.1 * np.minimum(votes[inverse], 6)
    rows = np.flatnonzero(
        (rank_within(key, score) < _GUESSES)
        & ((rank_within(one, score) < most) | (rank_within(other, score) < most))
    )
    affine = _affine(regions, first[rows], second[rows], turn[rows], mirrored[rows])
    return Hypotheses(image[first[rows]], image[second[rows]], affine)


def rank_within(key: IntArray, score: npt.NDArray[np.floating]) -> IntArray:
    """Return the rank of each entry among those of its key, 0 for the highest score."""
    order = np.lexsort((np.arange(len(key)), -score, key))
    ordered = key[order]
    starts = np.r_[True, ordered[1:] != ordered[:-1]] if len(key) else np.empty(0, bool)
    first = np.maximum.accumulate(np.where(starts, np.arange(len(key)), 0))
    rank = np.empty(len(key), np.int64)
    rank[order] = np.arange(len(key)) - first
    return rank


def _neighbours(waves_MD: FloatArray) -> tuple[IntArray, IntArray]:
    """Return pairs of rows that share a bucket in one of several hash tables."""
    count = len(waves_MD)
    if count < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    centred = waves_MD - waves_MD.mean(axis=0)
    values, vectors = np.linalg.eigh((centred.T @ centred).astype(np.float64) / count)
    scale = 1 / np.sqrt(np.maximum(values[-_DIRECTIONS:], 1e-6))
    white = centred @ (vectors[:, -_DIRECTIONS:] * scale**0.5).astype(np.float32)
    white /= np.maximum(np.sqrt((white**2).sum(axis=1, keepdims=True)), 1e-6)
    draw = np.random.default_rng(0)
    bits = int(np.clip(np.ceil(np.log2(count)) - 2, 4, 20))
    pairs = []
    for _ in range(_TABLES):
        planes = draw.standard_normal((_DIRECTIONS, bits)).astype(np.float32)
        code = ((white @ planes) > 0) @ (1 << np.arange(bits))
        tie = white @ draw.standard_normal(_DIRECTIONS).astype(np.float32)
        order = np.lexsort((tie, code))
        for step in range(1, _NEIGHBOURS + 1):
            a, b = order[:-step], order[step:]
            same = code[a] == code[b]
            a, b = a[same], b[same]
            near = np.einsum("md,md->m", white[a], white[b]) > 0.8
            a, b = a[near], b[near]
            pairs.append(np.minimum(a, b) * count + np.maximum(a, b))
    key = np.unique(np.concatenate(pairs))
    return key // count, key % count


def _correlate(
    rings_MRA: FloatArray, first: IntArray, second: IntArray
) -> tuple[FloatArray, IntArray, npt.NDArray[np.bool_]]:
    """Return the highest correlation over turns, its turn in steps, and whether mirrored."""
    waves = np.fft.rfft(rings_MRA, axis=2).astype(np.complex64)
    like = np.empty(len(first), np.float32)
    turn = np.empty(len(first), np.int64)
    mirrored = np.empty(len(first), bool)
    for start in range(0, len(first), 1 << 16):
        part = slice(start, start + (1 << 16))
        a, b = waves[first[part]], waves[second[part]]
        plain = np.fft.irfft((a.conj() * b).sum(axis=1), _ANGLES, axis=1)
        mirror = np.fft.irfft((a * b).sum(axis=1), _ANGLES, axis=1)
        best_plain, best_mirror = plain.max(axis=1), mirror.max(axis=1)
        is_mirror = best_mirror > best_plain
        like[part] = np.where(is_mirror, best_mirror, best_plain)
        turn[part] = np.where(is_mirror, mirror.argmax(axis=1), plain.argmax(axis=1))
        mirrored[part] = is_mirror
    return like, turn, mirrored


def _affine(
    regions: Regions, first: IntArray, second: IntArray, turn: IntArray, mirrored: Any
) -> FloatArray:
    """Return the maps [P, 2, 3] from points (row, column, 1) of the first to the second."""
    angle = turn * (2 * np.pi / _ANGLES)
    scale = regions.sigma_M[second] / regions.sigma_M[first]
    sign = np.where(mirrored, -1.0, 1.0)
    # A point at angle t is (sin t, cos t). Plain: t -> t + turn. Mirrored: t -> turn - t.
    matrix = np.empty((len(first), 2, 2))
    matrix[:, 0, 0], matrix[:, 0, 1] = sign * np.cos(angle), np.sin(angle)
    matrix[:, 1, 0], matrix[:, 1, 1] = -sign * np.sin(angle), np.cos(angle)
    matrix[:, 1, 0] = np.where(mirrored, np.sin(angle), matrix[:, 1, 0])
    matrix *= scale[:, None, None]
    shift = regions.centre_M2[second] - np.einsum("pij,pj->pi", matrix, regions.centre_M2[first])
    affine: FloatArray = np.concatenate([matrix, shift[:, :, None]], axis=2).astype(np.float32)
    return affine
