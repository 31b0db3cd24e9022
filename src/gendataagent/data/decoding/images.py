"""Decode an image file to an upright 8-bit RGB image, or raise with the reason.

Only raster formats are opened: Pillow would pass an EPS named cat.jpg to Ghostscript. Global state
of Pillow is unchanged (but for HEIC, if pillow-heif is installed), so its limit
(Image.MAX_IMAGE_PIXELS) applies in addition to ours.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any, BinaryIO, NamedTuple

import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from gendataagent.core.errors import ImageUnreadableError
from gendataagent.data.decoding.bit_depth import (
    image_of,
    load_colour,
    load_grey,
    real_bits,
    to_8_bits,
)

FORMATS = (
    "JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI", "TGA",
    "ICO", "HEIF",
)  # fmt: skip
SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif",
    ".tiff", ".avif", ".avifs", ".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm", ".qoi", ".tga",
    ".ico", ".heic", ".heif", ".hif", ".mpo",
})  # fmt: skip

_HEIC = re.compile(rb"ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)")

MOST_ELONGATED = 16  # longer side / shorter side; of a longer image the middle is used
_ORIENTATION_TAG = 0x0112
UPRIGHT = {  # EXIF orientation -> what makes the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(stream: BinaryIO, max_pixels: float) -> Image.Image:
    """Return the image with its header read and no pixels decoded.

    Raises:
        ImageUnreadableError: not an image, empty, or more than `max_pixels` pixels.
    """
    head = stream.read(12)
    if not head:
        raise ImageUnreadableError("empty (0 bytes)")
    stream.seek(0)
    Image.init()
    is_heic = _HEIC.fullmatch(head[4:]) is not None
    if is_heic and "HEIF" not in Image.OPEN:
        _register_heic()
    try:
        image = Image.open(stream, formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError as error:
        lacks = "HEIC, which needs another package: pip install pillow-heif"
        unknown = "not an image in a format that Pillow reads"
        raise ImageUnreadableError(
            lacks if is_heic and "HEIF" not in Image.OPEN else unknown
        ) from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise ImageUnreadableError(
            f"more than the {limit:.0f} megapixels that Pillow opens; scale it down, or raise "
            "PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        ) from error
    except Exception as error:  # plugins raise anything on a broken header
        raise ImageUnreadableError(_reason(error)) from error
    width, height = image.size
    if width * height > max_pixels:
        raise ImageUnreadableError(
            f"{width} x {height} px is {width * height / 1e6:.4g} megapixels, allowed are "
            f"{max_pixels / 1e6:.4g} (data.max_megapixels)"
        )
    return image


def _register_heic() -> None:
    """Let Pillow read the photographs of an iPhone, if pillow-heif is installed."""
    with contextlib.suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()


def to_rgb(image: Image.Image, bits: int | None = None) -> Image.Image:
    """Return the first frame decoded; see `decode`."""
    return decode(image, bits).image


class Decoded(NamedTuple):
    """An RGB image, and the real depth of one with 16 bits a sample (8 to 16), else 0."""

    image: Image.Image
    bits: int


def decode(image: Image.Image, bits: int | None = None) -> Decoded:
    """Return the first frame decoded: 8-bit RGB, upright, transparency composited on white.

    16-bit samples are scaled to 8 bits from `bits`, or from the smallest usual depth that holds
    them (10, 12, 14 or 16); floating point counts as [0, 1] if no value exceeds 1, else as
    [0, 255].

    Args:
        bits: depth shared by the images of a set, so that they keep their relative brightness.

    Raises:
        ImageUnreadableError: the pixels are truncated, corrupt, or of unknown range.
    """
    try:
        samples: npt.NDArray[Any] | None = load_colour(image)
        image.load()
        orientation = orientation_of(image)
        if image.mode.startswith(("I", "F")):
            samples, is_fraction = load_grey(image)
            if image.mode == "F":
                image = Image.fromarray(to_8_bits(samples * 255 if is_fraction else samples, 8))
                samples = None
        own_bits = 0
        if samples is not None:
            own_bits = real_bits(samples if samples.ndim == 2 else samples[..., :3])
            image = image_of(samples, max(own_bits, bits or 0))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        image = image.convert("RGB")
        if orientation in UPRIGHT:
            image = image.transpose(UPRIGHT[orientation])
    except ImageUnreadableError:
        raise
    except Exception as error:  # decoders raise OSError, ValueError, struct.error, IndexError...
        raise ImageUnreadableError(_reason(error)) from error
    image.info = {}  # saving it with the EXIF tag would rotate it a second time
    return Decoded(image, own_bits)


def centre_square(
    image: Image.Image,
    size_px: int,
    *,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
    on_pixel_grid: bool = False,
) -> Image.Image:
    """Return the centre square of an upright image, resized to `size_px`.

    The shorter side is resized, then the centre is cropped, as image processors of transformers do
    on Pillow images, to the same pixels. Classifiers are given this one.

    Args:
        on_pixel_grid: resize the square between whole pixels instead. Generators are given this
            one.
    """
    if image.size == (size_px, size_px):
        return image
    short, long = sorted(image.size)
    if on_pixel_grid:
        left, top = ((side - short) // 2 for side in image.size)
        box = (left, top, left + short, top + short)
        return image.resize((size_px, size_px), resample, box=box)
    if long > MOST_ELONGATED * short:  # enlarging a long strip would need much memory
        width, height = (min(side, MOST_ELONGATED * short) for side in image.size)
        image = _middle(image, width, height)
    # `resize(box=...)` would be cheaper, but its two passes may come in the other order.
    width, height = (int(size_px * side / short) for side in image.size)
    return _middle(image.resize((width, height), resample), size_px, size_px)


def _middle(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 (upright) if the EXIF data is broken.

    Read after load(): Pillow rotates TIFFs itself and then drops the tag.
    """
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # struct.error, OverflowError and others, depending on the damage
        return 1


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return text or type(error).__name__
