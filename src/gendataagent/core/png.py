"""Images as PNG files in memory."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

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


def opened(png: bytes) -> Image.Image:
    """Return the image of a PNG file; its pixels are decoded when they are first used."""
    from PIL import Image

    return Image.open(io.BytesIO(png))
