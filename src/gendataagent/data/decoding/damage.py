"""Image files that were not fully copied, though decoders accept them.

An interrupted copy or download often leaves a file of full size that ends in zeros. What a decoder
makes of zeros is grey, smeared or black, without an error. Uncompressed formats (BMP, PPM, raw
TIFF) cannot be judged: zeros are black there.
"""

from __future__ import annotations

import zlib
from typing import BinaryIO

from PIL import Image

from gendataagent.core.errors import ImageUnreadableError
from gendataagent.data.decoding import jpeg_damage

_MACRO_BLOCK_PX = 16
_LEAST_ZEROS = 16
_LEAST_FILL = 64
_QOI_END = bytes(7) + b"\x01"
_IN_BOXES = ("AVIF", "HEIF")
_HEADER = 8  # type and length of a chunk or box
_PNG = b"\x89PNG\r\n\x1a\n"
_GREYS = {(n, n, n) for n in (128, 63, 64)}  # of missing data in JPEG, the latter two in CMYK


def check_whole(
    stream: BinaryIO,
    image_format: str | None,
    size: tuple[int, int],
    image: Image.Image | None = None,
) -> None:
    """Raise if the encoded image is damaged in a way that its decoder does not report.

    Args:
        stream: the whole file; read from its start and left at its start.
        image_format: as Pillow names it.
        size: of the image in px.
        image: it, decoded to RGB.

    Raises:
        ImageUnreadableError: with the reason.
    """
    damage: str | None = None
    stream.seek(0)
    if image_format in ("JPEG", "MPO"):
        grey = image is not None and _has_grey_corner(image)
        damage = jpeg_damage.damage_of(stream.read(), may_end_early=grey)
    elif image_format in ("PNG", "ICO"):
        damage = _of_png(stream.read())
    elif image_format == "WEBP":
        damage = _of_webp(stream.read(), size)
    elif image_format in _IN_BOXES:
        damage = _of_boxes(stream.read())
    elif image_format == "QOI" and _QOI_END not in stream.read():
        damage = "QOI data has no end marker; the file was not fully copied"
    stream.seek(0)
    if damage:
        raise ImageUnreadableError(damage)


def _has_grey_corner(image: Image.Image) -> bool:
    right, bottom = image.width - 1, image.height - 1
    corners = ((0, 0), (0, bottom), (right, 0), (right, bottom))
    return any(image.getpixel(corner) in _GREYS for corner in corners)


def _of_png(content: bytes) -> str | None:
    """Return the damage of image data in PNG, or in those of an icon, by its checksums."""
    at = content.find(_PNG) + len(_PNG)
    while at >= len(_PNG) and at + _HEADER < len(content):
        end = at + _HEADER + int.from_bytes(content[at : at + 4], "big")
        kind = content[at + 4 : at + _HEADER]
        expected = int.from_bytes(content[end : end + 4], "big")
        if kind == b"IDAT" and zlib.crc32(memoryview(content)[at + 4 : end]) != expected:
            return "PNG data does not have its checksum; the file was not fully copied"
        at = content.find(_PNG, end) + len(_PNG) if kind == b"IEND" else end + 4
    return None


def _of_webp(content: bytes, size: tuple[int, int]) -> str | None:
    """Return the damage of a WebP file whose image data has more zeros than flat areas take.

    Flat areas end in up to a fifth of a bit of zeros for each block of 16 x 16 px.
    """
    blocks = (size[0] // _MACRO_BLOCK_PX + 1) * (size[1] // _MACRO_BLOCK_PX + 1)
    allowed = _LEAST_ZEROS + blocks // 16
    pending = [(12, len(content))]
    while pending:
        at, end = pending.pop()
        while at + _HEADER <= end:
            kind = content[at : at + 4]
            length = int.from_bytes(content[at + 4 : at + _HEADER], "little")
            at += _HEADER
            if kind == b"ANMF":
                pending.append((at + 16, min(at + length, end)))
            elif kind in (b"VP8 ", b"VP8L") and (
                damage := _filling("WebP", content[at : at + length], allowed)
            ):
                return damage
            at += length + length % 2
    return None


def _of_boxes(content: bytes) -> str | None:
    """Return the damage of an AVIF or HEIF file whose media data ends in zeros."""
    at = 0
    while at + _HEADER <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        start = at + _HEADER
        if length == 1:
            length = int.from_bytes(content[start : start + _HEADER], "big")
        if content[at + 4 : start] == b"mdat":
            data = content[start : at + length] if length else content[start:]
            if damage := _filling_at_end("image", data, _LEAST_ZEROS):
                return damage
        if length < _HEADER:
            return None
        at += length
    return None


def _filling(what: str, data: bytes, allowed: int) -> str | None:
    run = data.find(bytes(4 * allowed + 256))  # parts inside end in zeros, too
    if run >= 0 and data[run:].strip(b"\0"):
        return f"{what} data is overwritten with zeros from byte {run:,}"
    return _filling_at_end(what, data, allowed)


def _filling_at_end(what: str, data: bytes, allowed: int) -> str | None:
    last = data[-1:]
    same = len(data) - len(data.rstrip(last))
    if same <= (allowed if last == b"\0" else max(allowed, _LEAST_FILL)):
        return None
    filling = "zeros" if last == b"\0" else f"bytes 0x{last.hex()}"
    return f"{what} data ends in {same:,} {filling}; the file was not fully copied"
