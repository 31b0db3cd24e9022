"""Images of a run as data URIs, within a budget of bytes for the whole page."""

from __future__ import annotations

import base64
import io
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps

from gendataagent.core.png import opened
from gendataagent.core.seals import CHANGED
from gendataagent.report.markup import esc

SIDE_PX = 160  # larger images are scaled down to this
PIXEL_ART_PX = 64  # up to this size images are scaled up without smoothing
PAGE_BYTES = 2_000_000  # of images; the rest of a page takes a few hundred kB


class Thumbnails:
    """Embeds images until the budget is spent, then a placeholder for each.

    Args:
        is_whole: whether an image is what was written; None = all are.
        page_folder: where the page is written. An image below it links to its file.

    Attributes:
        changed: images that are not, of those that were to be shown.
    """

    def __init__(
        self,
        budget_bytes: int = PAGE_BYTES,
        is_whole: Callable[[Path], bool] | None = None,
        page_folder: Path | None = None,
    ) -> None:
        self._page_folder = page_folder
        self.left_bytes = budget_bytes
        self.changed: list[Path] = []
        self._is_whole = is_whole or (lambda _: True)

    def affordable(self, example: Path, most: int, *, share: float = 1.0) -> int:
        """Return how many images like `example` fit a share of the remaining budget, up to `most`.

        Called before a section is laid out, so that its images are chosen instead of cut off at
        the end. The factor 0.8 leaves room for images larger than the example.
        """
        encoded = _encode(example)
        if encoded is None:
            return most
        return min(most, int(0.8 * share * self.left_bytes / len(encoded[0])))

    def image(self, path: Path, description: str) -> str:
        """Return an `img` element with the image, or a placeholder if it cannot be shown.

        Args:
            description: alternative text, plain.
        """
        if not self._is_whole(path):
            if path not in self.changed:
                self.changed.append(path)
            return _placeholder(f"{description}, {CHANGED}", "damaged")
        encoded = _encode(path)
        if encoded is None:
            return _placeholder(description, "no image")
        uri, width, height = encoded
        if len(uri) > self.left_bytes:
            return _placeholder(f"{description}, omitted to keep this page small", "omitted")
        self.left_bytes -= len(uri)
        css = "pixelated" if max(width, height) <= PIXEL_ART_PX else "photo"
        size = f'width="{width}" height="{height}"'
        shown = f'<img class="{css}" {size} alt="{esc(description)}" src="{uri}">'
        if self._page_folder is None or not path.is_relative_to(self._page_folder):
            return shown
        file = urllib.parse.quote(path.relative_to(self._page_folder).as_posix())
        return f'<a class="file" href="{file}">{shown}</a>'


def _placeholder(description: str, words: str) -> str:
    return f'<span class="no-image" role="img" aria-label="{esc(description)}">{words}</span>'


def _encode(path: Path) -> tuple[str, int, int] | None:
    """Return (data URI, width, height) of an image file, or None if it cannot be read."""
    found = thumbnail(path)
    if found is None:
        return None
    text = base64.b64encode(found.content).decode()
    return f"data:{found.kind};base64,{text}", found.width, found.height


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small image as a file: its content, its type ("image/png") and its size in px."""

    content: bytes
    kind: str
    width: int
    height: int


def thumbnail(source: Path | BinaryIO, side_px: int = SIDE_PX) -> Thumbnail | None:
    """Return a PNG scaled down to `side_px`, or None if it cannot be read.

    Small images are stored as PNG, lossless; others as JPEG.
    """
    try:
        with opened(source) as whole:
            image = ImageOps.exif_transpose(whole).convert("RGB")
    except (OSError, ValueError, SyntaxError):
        return None
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if max(image.size) <= PIXEL_ART_PX:
        kind = "png"
        image.save(buffer, "PNG", optimize=True)
    else:
        kind = "jpeg"
        image.save(buffer, "JPEG", quality=80, optimize=True)
    return Thumbnail(buffer.getvalue(), f"image/{kind}", image.width, image.height)
