"""PNG files: what runs write and workers send back."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gendataagent.core.errors import GenerationError

if TYPE_CHECKING:
    from PIL import Image


def png_bytes(image: Image.Image) -> bytes:
    """Return an image as a PNG file.

    Raises:
        GenerationError: it has a mode that PNG does not know.
    """
    buffer = io.BytesIO()
    try:
        image.save(buffer, "PNG")
    except OSError as error:
        raise GenerationError(
            f"an image of mode {image.mode} cannot be written as PNG; a generator must return "
            "images of mode RGB"
        ) from error
    return buffer.getvalue()


def opened(png: bytes | Path | BinaryIO) -> Image.Image:
    """Return the image of a PNG file; its pixels are decoded when they are first used.

    No other format is read: a file of somebody else's may be anything, and Pillow would pass an EPS
    to Ghostscript, which is a language for programs.

    Raises:
        OSError, SyntaxError, ValueError: it is missing, damaged, far too large, or no PNG.
    """
    from PIL import Image

    try:
        return Image.open(io.BytesIO(png) if isinstance(png, bytes) else png, formats=("PNG",))
    except Image.DecompressionBombError as error:
        raise OSError(str(error)) from error
