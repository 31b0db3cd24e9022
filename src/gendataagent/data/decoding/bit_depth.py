"""Images with more than 8 bits a sample: exact samples, their real range, and 8 bits made of them.

Cameras and microscopes write 10, 12 or 14 bits into files of 16. Divided by 257, as full 16 bits
are, such an image is nearly black.

Letters in array names: H rows, W columns, C samples of a pixel.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from gendataagent.core.errors import ImageUnreadableError

DEPTHS = (8, 10, 12, 14, 16)
LEAST_BY_HIGH_BYTES = 12  # 16 levels of grey
# Pillow keeps the high byte of each colour sample. Read with the other byte order, the same data
# gives the low byte.
_OTHER_BYTE = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}

Samples = npt.NDArray[np.uint16]


def is_deep(mode: str) -> bool:
    """Return whether Pillow's images of a mode have more than 8 bits a sample."""
    return mode.startswith(("I", "F"))


def has_deep_samples(image: Image.Image) -> bool:
    """Return whether an image, opened and not loaded, has more than 8 bits a sample."""
    raw = (_raw_mode(tile) for tile in getattr(image, "tile", ()))
    return is_deep(image.mode) or any(mode.endswith(tuple(_OTHER_BYTE)) for mode in raw)


def real_bits(samples: npt.NDArray[Any]) -> int:
    """Return the smallest usual depth that holds all samples."""
    highest = int(samples.max()) if samples.size else 0
    return next((bits for bits in DEPTHS if highest < 1 << bits), DEPTHS[-1])


def to_8_bits(samples: npt.NDArray[Any], bits: int) -> npt.NDArray[np.uint8]:
    """Return samples in [0, 2**bits) scaled to [0, 255]."""
    scaled: npt.NDArray[np.uint8] = np.rint(samples * (255 / ((1 << bits) - 1))).astype(np.uint8)
    return scaled


def load_colour(image: Image.Image) -> Samples | None:
    """Return the samples [H, W, C] of a colour image with 16 bits a sample, else None.

    Call it before the pixels are loaded; they are loaded afterwards. Alpha is the last sample.

    Raises:
        ImageUnreadableError: only the high bytes can be read, and they do not hold the image.
        OSError and others: the pixels cannot be decoded.
    """
    raw = {_raw_mode(tile) for tile in getattr(image, "tile", ())}
    if not raw or not all(mode.endswith(tuple(_OTHER_BYTE)) for mode in raw):
        return None
    if image.mode not in ("RGB", "RGBA"):
        return None
    low = _low_bytes(image)
    image.load()
    high = np.asarray(image)
    samples: Samples = high.astype(np.uint16) * np.uint16(256)
    if low is None and real_bits(samples[..., :3]) < LEAST_BY_HIGH_BYTES:
        raise ImageUnreadableError(
            "16-bit grey with transparency, of which Pillow reads only the high bytes, and those "
            "are nearly empty; save it without transparency, or with 8 bits"
        )
    # Without low bytes (grey with alpha) the samples are multiples of 256.
    return samples if low is None else samples | low


def _low_bytes(image: Image.Image) -> npt.NDArray[np.uint8] | None:
    stream = getattr(image, "fp", None)
    if stream is None or image.format is None:
        return None
    position = stream.tell()
    try:
        stream.seek(0)
        second = Image.open(stream, formats=[image.format])
        second.tile = [_swapped(tile) for tile in second.tile]
        return np.asarray(second)
    except ValueError:  # no such raw mode
        return None
    finally:
        stream.seek(position)


def _raw_mode(tile: Any) -> str:
    args = tile[3]
    mode = args if isinstance(args, str) else args[0] if args else ""
    return mode if isinstance(mode, str) else ""


def _swapped(tile: Any) -> Any:
    mode = _raw_mode(tile)
    other = mode[:-3] + _OTHER_BYTE[mode[-3:]]
    args = other if isinstance(tile[3], str) else (other, *tile[3][1:])
    return tile._replace(args=args)


def image_of(samples: npt.NDArray[Any], bits: int) -> Image.Image:
    """Return an 8-bit image of samples [H, W] or [H, W, C]; an alpha keeps its own range."""
    if samples.ndim == 3 and samples.shape[2] == 4:
        colour, alpha = samples[..., :3], samples[..., 3:]
        own = max(bits, real_bits(alpha))
        parts = [to_8_bits(colour, bits), to_8_bits(alpha, own)]
        return Image.fromarray(np.concatenate(parts, axis=2))
    return Image.fromarray(to_8_bits(samples, bits))


def load_grey(image: Image.Image) -> tuple[npt.NDArray[Any], bool]:
    """Return the samples [H, W] of a loaded image of a mode I or F, and whether they are fractions.

    Floating point counts as fractions of white if no value exceeds 1, else as [0, 255].

    Raises:
        ImageUnreadableError: values of no known range.
    """
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ImageUnreadableError("holds values that are not finite numbers")
    low, high = values.min(), values.max()
    fractions = image.mode == "F" and bool(high <= 1)
    limit = 1.0 if fractions else 255.0 if image.mode == "F" else 65535.0
    if low < 0 or high > limit:
        raise ImageUnreadableError(
            f"values from {low:g} to {high:g} have no known range; save it with 8 or 16 bits"
        )
    return values, fractions
