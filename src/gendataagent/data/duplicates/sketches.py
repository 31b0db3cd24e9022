"""Sketches of images: what near-duplicates are searched by; and what the images of a set share.

Letters in array names: N images, K directions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from gendataagent.data.decoding.images import centre_square

THUMBNAIL_PX = 16
DETAIL_PX = 64
THUMBNAIL_SHAPE = (THUMBNAIL_PX, THUMBNAIL_PX, 3)
SKETCH = np.dtype(
    [("thumbnail", np.uint8, THUMBNAIL_SHAPE), ("detail", np.uint8, (DETAIL_PX, DETAIL_PX))]
)
DECODED_PX = 2 * DETAIL_PX  # a JPEG may be decoded at an eighth, but not below this
_LEAST_SHARING = 8  # images; the mean of fewer is not what they share

Sketches = npt.NDArray[np.void]
FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Shared:
    """What the images of a set share: their mean, None where they are too few to tell."""

    thumbnail: FloatArray | None = None
    detail: npt.NDArray[np.float32] | None = None
    basis_KD: FloatArray = field(default_factory=lambda: np.empty((0, 768)), repr=False)

    @classmethod
    def of(cls, sketches_N: Sketches) -> Shared:
        """Return what these images share."""
        if len(sketches_N) < _LEAST_SHARING:
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
