"""An image file for other people: the pixels that a run saw, without what a camera wrote beside.

EXIF, XMP, IPTC, comments and embedded previews may hold where and when a photograph was taken, by
whom, and what was cut off. The compressed pixels of a JPEG file are copied, never made again; its
orientation and colour profile stay. Everything else becomes a PNG of the same pixels.
"""

from __future__ import annotations

import io
import re
from typing import NamedTuple

from PIL import Image

from gendataagent.core.errors import ImageUnreadableError
from gendataagent.data.decoding.images import open_image, to_rgb

JPEG, PNG = ".jpg", ".png"
JPEG_QUALITY = 95
_ORIENTATION = 0x0112
_END, _SCAN, _JFIF, _EXIF, _COMMENT = 0xD9, 0xDA, 0xE0, 0xE1, 0xFE
_APPLICATION = range(0xE0, 0xF0)
# What decoders need: density and pixel shape, colour profile, and the colour space of Adobe.
_KEPT = {_JFIF: b"JFIF\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}
_AFTER_SCAN = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")


class ImageFile(NamedTuple):
    """An encoded image, and the suffix that says how it is encoded."""

    content: bytes
    suffix: str


def shareable(content: bytes, seen: Image.Image) -> ImageFile:
    """Return an image file without metadata.

    Args:
        content: the encoded original.
        seen: what the run sees of it: RGB, upright.
    """
    found = _jpeg_without_metadata(content)
    if found is not None and _shows(found, seen):
        return ImageFile(found, JPEG)
    return as_png(seen)


def is_jpeg(content: bytes) -> bool:
    """Return whether an encoded image begins as JPEG does."""
    return content.startswith(b"\xff\xd8\xff")


def as_png(image: Image.Image) -> ImageFile:
    """Return an image as PNG without metadata."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return ImageFile(buffer.getvalue(), PNG)


def as_jpeg(image: Image.Image, comment: str = "") -> ImageFile:
    """Return an image as JPEG of high quality with full colour resolution."""
    buffer = io.BytesIO()
    image.save(
        buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0, comment=comment.encode()[:65_000]
    )  # fmt: skip
    return ImageFile(buffer.getvalue(), JPEG)


def _shows(content: bytes, seen: Image.Image) -> bool:
    """Return whether any reader that knows EXIF orientation gets the pixels that the run saw."""
    try:
        image = open_image(io.BytesIO(content), float("inf"))
        mode = image.mode
        return mode in ("RGB", "L") and to_rgb(image).tobytes() == seen.tobytes()
    except ImageUnreadableError:
        return False


def _jpeg_without_metadata(content: bytes) -> bytes | None:
    """Return a JPEG file with the segments that decoders need; None if it is none, or broken.

    What follows its end, such as a second image, is left out. A file cut off before its end stays
    cut off.
    """
    if not is_jpeg(content):
        return None
    kept = [_orientation_of(content)]
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        while content[position : position + 1] == b"\xff":  # any number of them may come first
            position += 1
        marker = content[position]
        length = int.from_bytes(content[position + 1 : position + 3], "big")
        body, end = content[position + 3 : position + 1 + length], position + 1 + length
        if marker == _END or length < 2 or len(body) != length - 2:
            return None
        segment = bytes((0xFF, marker)) + content[position + 1 : end]
        if marker not in (*_APPLICATION, _COMMENT):
            kept.append(segment)
        elif marker in _KEPT and body.startswith(_KEPT[marker]):
            # JFIF must come first of all, before the orientation
            kept.insert(0 if marker == _JFIF else len(kept), segment)
        position = end
        if marker == _SCAN:
            found = _AFTER_SCAN.search(content, end)
            position = found.start() if found else len(content)
            kept.append(content[end:position])
            if found is None or found[0].endswith(bytes((_END,))):
                return b"\xff\xd8" + b"".join(kept) + (b"\xff\xd9" if found else b"")
    return None


def _orientation_of(content: bytes) -> bytes:
    """Return an EXIF segment with the orientation alone; b"" where the image is upright."""
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            orientation = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # struct.error, OverflowError and others, depending on the damage
        return b""
    if orientation not in range(2, 9):
        return b""
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    body = exif.tobytes()
    return bytes((0xFF, _EXIF)) + (len(body) + 2).to_bytes(2, "big") + body
