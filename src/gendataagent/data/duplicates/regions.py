"""Round regions of images that look alike although one image is a turned or cropped copy.

Blobs are found at several sizes. What is around a blob is sampled on rings; the strengths of the
waves along the rings do not change when the image is turned or mirrored.

Letters in array names: N images, M regions, S side in px, R rings, A angles, D waves of all rings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

REGIONS = 20  # at most, of an image
ANGLES = 16
_SIGMAS = 1.6 * 2.0 ** (np.arange(6) / 2)
_RINGS = np.array([0.8, 1.6, 2.4, 3.2], dtype=np.float32)  # in sigmas of the blob
_WAVES = 5
_LEAST_CONTRAST = 3.0
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
    angle = np.arange(ANGLES) * (2 * np.pi / ANGLES)
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
