"""Numbers out of MATLAB 5 files: what setid.mat and imagelabels.mat of Flowers-102 hold.

Numeric, real, full arrays only, compressed or not; scipy would be 100 MB for two small files.
Format: "MAT-File Format" of The MathWorks, level 5.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gendataagent.core.errors import DataError

_HEADER_BYTES = 128
_COMPRESSED, _MATRIX = 15, 14
_MOST_BYTES = 64 << 20  # once unpacked; the official files stay below 0.1 MB
# data types of a numeric element -> numpy kind without byte order
_KINDS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_COMPLEX = 0x0800
_NUMERIC_CLASSES = range(6, 16)  # double, single, int8 ... uint64


def read_numbers(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return {variable: its numbers, flattened in MATLAB's order} of a .mat file.

    Variables that are not numeric arrays are left out.

    Raises:
        DataError: not a MATLAB 5 file, cut off, or damaged.
    """
    try:
        content = path.read_bytes()
        if len(content) < _HEADER_BYTES or content[126:128] not in (b"IM", b"MI"):
            raise ValueError("it has no header of a MATLAB 5 file")
        order = "<" if content[126:128] == b"IM" else ">"
        found = {}
        for kind, data in _elements(content[_HEADER_BYTES:], order):
            if kind == _COMPRESSED:
                kind, data = next(_elements(_inflate(data), order))
            if kind == _MATRIX and (variable := _variable(data, order)):
                found[variable[0]] = variable[1]
        return found
    except (OSError, ValueError, KeyError, StopIteration, zlib.error) as error:
        raise DataError(
            f"cannot read {path}: {error}. Download it again from where the images came from"
        ) from error


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    content = inflater.decompress(data, _MOST_BYTES)
    if not inflater.eof:  # ends early, or not within _MOST_BYTES
        raise ValueError("a compressed part is cut off or far too large")
    return content


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield (data type, bytes) of the elements one after the other.

    A tag is two 32-bit words, type and size; where the upper half of the first is not 0 it is a
    small element: size and type in one word, up to four bytes of data in the other.
    """
    start = 0
    while start + 8 <= len(content):
        kind, size = (int(n) for n in np.frombuffer(content, f"{order}u4", 2, start))
        begin = start + 8
        if kind >> 16:
            kind, size, begin = kind & 0xFFFF, kind >> 16, start + 4
            start += 8
        else:
            padding = 0 if kind == _COMPRESSED else -size % 8
            start = begin + size + padding
        if begin + size > len(content):
            raise ValueError("it is cut off")
        yield kind, content[begin : begin + size]


def _variable(data: bytes, order: str) -> tuple[str, np.ndarray[Any, Any]] | None:
    """Return name and numbers of a matrix element: flags, dimensions, name, real part."""
    parts = _elements(data, order)
    flags = int(np.frombuffer(next(parts)[1], f"{order}u4", 1)[0])
    if flags & 0xFF not in _NUMERIC_CLASSES or flags & _COMPLEX:
        return None
    shape = np.frombuffer(next(parts)[1], f"{order}i4")
    name = next(parts)[1].decode("ascii")
    kind, content = next(parts)
    numbers = np.frombuffer(content, order + _KINDS[kind])
    if len(numbers) != int(shape.prod()):
        raise ValueError(f"the variable {name} holds {len(numbers)} of {shape.prod()} numbers")
    return name, numbers
