"""JPEG files that were not fully copied, though decoders accept them.

An interrupted copy or download often leaves a file of full size that ends in zeros. Decoders read
zeros as image data and give a grey or smeared area without an error. So they do where the data ends
early, but has an end marker.
"""

from __future__ import annotations

import io
import re

from PIL import Image

LONG_RUN = 64  # bytes; no image data has so many zeros in a row, but see `_zeros_are_flat`
LEAST_FILL = 16  # bytes of one value at the end of a file that was not fully copied
_STANDS_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_SCAN, _END, _TABLES = 0xDA, 0xD9, 0xC4
_SEQUENTIAL = {0xC0, 0xC1}
_PROGRESSIVE = 0xC2
_COEFFICIENTS = 64
_NO_IMAGE_DATA = bytes(range(1, 129)) * 8
_NEXT_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_ZEROS = bytes(LONG_RUN)


def damage_of(content: bytes, *, may_end_early: bool = False) -> str | None:
    """Return why a JPEG file is damaged, or None.

    Zeros after the end marker are padding and no damage.

    Args:
        may_end_early: whether a corner of the image is what decoders make of missing data; only
            then it is decoded.
    """
    position, sequential = 2, False
    missing_bits: dict[tuple[int, int], int] = {}  # component and coefficient -> bits to come
    first_symbols: dict[int, int] = {}
    while True:
        found = _NEXT_MARKER.search(content, position)
        if found is None:
            return _without_end(content)
        marker, position = found[1][0], found.end()
        if marker == _END:
            if any(missing_bits.values()):
                return "progressive JPEG data lacks its last scans; the file was not fully copied"
            return _early_end(content, position - 2) if may_end_early else None
        if marker in _STANDS_ALONE:
            continue
        length = int.from_bytes(content[position : position + 2], "big")
        segment = content[position + 2 : position + length]
        position += max(length, 2)
        if marker in _SEQUENTIAL:
            sequential = True
        elif marker == _PROGRESSIVE:
            components = segment[6 : 6 + 3 * segment[5] : 3] if len(segment) > 5 else b""
            missing_bits = {(c, n): 1 for c in components for n in range(_COEFFICIENTS)}
        elif marker == _TABLES:
            first_symbols.update(_first_ac_symbols(segment))
        elif marker == _SCAN:
            after = _NEXT_MARKER.search(content, position)
            end = after.start() if after else len(content)
            run = content.find(_ZEROS, position, end)
            if missing_bits and len(segment) >= 4:
                first, last, before, bits = *segment[-3:-1], *divmod(segment[-1], 16)
                for component in segment[1 : 1 + 2 * segment[0] : 2]:
                    missing_bits |= {(component, n): bits for n in range(first, last + 1)}
                # an area without such coefficients takes a few bits, not zeros
                never_zero = first > 0 and before == 0
            else:
                never_zero = sequential and not _zeros_are_flat(segment, first_symbols)
            if run >= 0 and never_zero:
                return f"JPEG data is overwritten with zeros from byte {run:,}"
            position = end


def _without_end(content: bytes) -> str | None:
    """Return the damage of a file without an end marker; decoders forgive a marker cut off."""
    last = content[-1:]
    same = len(content) - len(content.rstrip(last))
    if same < LEAST_FILL:
        return None
    what = "zeros" if last == b"\x00" else f"bytes 0x{last.hex()}"
    return f"JPEG data ends in {same:,} {what} without an end marker; the file was not fully copied"


def _early_end(content: bytes, end: int) -> str | None:
    """Return the damage of a file with fewer data than its image needs.

    What stands between the data of a whole image and its end marker is never read.
    """
    longer = content[:end] + _NO_IMAGE_DATA + content[end:]
    if _small(content) == _small(longer):
        return None
    return "JPEG data ends before the image does; the file was not fully copied"


def _small(content: bytes) -> bytes:
    with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
        image.draft(None, (image.width // 8, image.height // 8))
        return image.tobytes()


def _first_ac_symbols(tables: bytes) -> dict[int, int]:
    """Return {number of an AC table: the symbol whose code is all zeros}."""
    first: dict[int, int] = {}
    start = 0
    while start + 17 < len(tables):
        kind, number = divmod(tables[start], 16)
        if kind == 1:
            first[number] = tables[start + 17]
        start += 17 + sum(tables[start + 1 : start + 17])
    return first


def _zeros_are_flat(scan: bytes, first_symbols: dict[int, int]) -> bool:
    """Return whether zeros can be image data of a scan: in all its AC tables they end a block.

    Optimised tables give flat areas, which are frequent, the shortest codes: all zeros.
    """
    used = {component % 16 for component in scan[2 : 1 + 2 * scan[0] : 2]} if scan else set()
    return all(first_symbols.get(number, 0) == 0 for number in used)
