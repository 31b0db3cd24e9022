"""Photograph-like images made at random, and copies of them as people and tools make them."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps


def photo(seed: int, side: int = 160) -> Image.Image:
    """Return an image with detail at several sizes; no two seeds give similar ones."""
    draw = np.random.default_rng(seed)
    whole = np.zeros((side, side, 3))
    for cells, strength in ((3, 60), (7, 45), (15, 30), (31, 15)):
        coarse = (draw.random((cells, cells, 3)) * 255).astype(np.uint8)
        layer = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        whole += (np.asarray(layer, dtype=float) / 255 - 0.5) * 2 * strength
    return Image.fromarray(np.clip(whole + 127, 0, 255).astype(np.uint8))


def recompressed(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=40)
    return Image.open(stream).convert("RGB")


def cropped(
    image: Image.Image, left: float = 0.2, top: float = 0.05, share: float = 0.75
) -> Image.Image:
    side = image.width
    box = (left * side, top * side, (left + share) * side, (top + share) * side)
    left_px, top_px, right_px, bottom_px = (int(edge) for edge in box)
    return image.crop((left_px, top_px, right_px, bottom_px))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "recompressed": recompressed,
    "smaller": lambda image: image.resize((60, 60)),
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "90 degrees": lambda image: image.rotate(90),
    "270 degrees, mirrored": lambda image: ImageOps.mirror(image.rotate(270)),
    "8 degrees": lambda image: image.rotate(8, Image.Resampling.BICUBIC),
    "-25 degrees": lambda image: image.rotate(-25, Image.Resampling.BICUBIC),
    "cropped": cropped,
    "cropped and mirrored": lambda image: ImageOps.mirror(cropped(image, 0.05, 0.2)),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
}
