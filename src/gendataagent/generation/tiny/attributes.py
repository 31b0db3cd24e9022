"""Visible attributes of an image, measured with Pillow and numpy, without a model.

Everything is measured on a 32 x 32 copy, so that the size of the image hardly matters. The
thresholds are rounded quartiles of the measurements on CIFAR-10 train rows.

Legend: H = W = 32 pixels, C = 3 colours, values in 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gendataagent.generation.tiny.vocabulary import COLOURS, Attributes

SIZE_PX = 32
RING_PX = 4
Pixels = NDArray[np.float32]
Mask = NDArray[np.bool_]

_COLOUR_INDEX = {name: index for index, name in enumerate(COLOURS)}


@dataclass(frozen=True)
class Measurements:
    """The measured values; all but `warmth` and `position` are in 0..1.

    `framing`: share of the image that differs from its border. `position`: where that part's
    centre of mass lies, -1 left to 1 right. `warmth`: mean red minus mean blue.
    """

    light: float
    colourfulness: float
    framing: float
    background: float
    warmth: float
    contrast: float
    position: float
    detail: float


@dataclass(frozen=True)
class Band:
    """Names a measurement `below` under `low`, `above` over `high`, else None."""

    low: float
    high: float
    below: str
    above: str

    def read(self, measured: float) -> str | None:
        if measured < self.low:
            return self.below
        return self.above if measured > self.high else None


BANDS = {
    "light": Band(0.40, 0.55, "dark", "bright"),
    "colourfulness": Band(0.16, 0.34, "grey", "vivid"),
    "framing": Band(0.18, 0.42, "far", "close"),
    "background": Band(0.13, 0.23, "plain", "busy"),
    "warmth": Band(-0.015, 0.12, "cool", "warm"),
    "contrast": Band(0.15, 0.24, "low", "high"),
    "position": Band(-0.045, 0.045, "left", "right"),
    "detail": Band(0.045, 0.07, "smooth", "fine"),
}


def read_attributes(image: Image.Image) -> Attributes:
    """Return the attributes of `image` (any mode, any size)."""
    pixels_HWC = downscale(image)
    measured = measure(pixels_HWC)
    subject, background = subject_and_background_colour(pixels_HWC)
    read = {name: band.read(getattr(measured, name)) for name, band in BANDS.items()}
    return Attributes(subject_colour=subject, background_colour=background, **read)


def downscale(image: Image.Image) -> Pixels:
    """Return float32 [32, 32, 3] in 0..1; the aspect ratio is not kept."""
    small = image.convert("RGB")
    if small.size != (SIZE_PX, SIZE_PX):
        small = small.resize((SIZE_PX, SIZE_PX), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / np.float32(255.0)


def measure(pixels_HWC: Pixels) -> Measurements:
    """Return all measurements of pixels [32, 32, 3] in 0..1."""
    luminance = pixels_HWC @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    highest, lowest = pixels_HWC.max(axis=2), pixels_HWC.min(axis=2)
    distinct = _distance_from_border(pixels_HWC)
    weight = distinct / max(float(distinct.sum()), 1e-6)
    across = np.linspace(-1.0, 1.0, SIZE_PX, dtype=np.float32)
    return Measurements(
        light=float(luminance.mean()),
        colourfulness=float(((highest - lowest) / np.maximum(highest, 0.2)).mean()),
        framing=float((distinct > 0.22).mean()),
        background=float(pixels_HWC[_border()].std(axis=0).mean()),
        warmth=float(pixels_HWC[..., 0].mean() - pixels_HWC[..., 2].mean()),
        contrast=float(luminance.std()),
        position=float((weight.sum(axis=0) * across).sum()),
        detail=float(
            (np.abs(np.diff(luminance, axis=0)).mean() + np.abs(np.diff(luminance, axis=1)).mean())
            / 2
        ),
    )


def _border() -> Mask:
    """Return a mask [H, W] of the outer ring, four pixels wide."""
    border = np.ones((SIZE_PX, SIZE_PX), dtype=np.bool_)
    border[RING_PX:-RING_PX, RING_PX:-RING_PX] = False
    return border


def _distance_from_border(pixels_HWC: Pixels) -> Pixels:
    """Return each pixel's RMS distance [H, W] from the border's median colour."""
    median = np.median(pixels_HWC[_border()], axis=0)
    distance: Pixels = np.sqrt(((pixels_HWC - median) ** 2).mean(axis=2))
    return distance


def subject_and_background_colour(pixels_HWC: Pixels) -> tuple[str, str]:
    """Return the commonest colour of the most distinct third of the centre, and of the border."""
    names = name_colours(pixels_HWC)
    background = _commonest(names[_border()])
    middle = slice(7, SIZE_PX - 7)
    distinct = _distance_from_border(pixels_HWC)[middle, middle]
    subject = _commonest(names[middle, middle][distinct >= np.quantile(distinct, 0.65)])
    return COLOURS[subject], COLOURS[background]


def _commonest(indices: NDArray[np.intp]) -> int:
    return int(np.bincount(indices, minlength=len(COLOURS)).argmax())


def name_colours(pixels_HWC: Pixels) -> NDArray[np.intp]:
    """Return an index into `COLOURS` for each pixel, by hue, saturation and value."""
    value = pixels_HWC.max(axis=-1)
    spread = value - pixels_HWC.min(axis=-1)
    saturation = spread / np.maximum(value, 1e-6)
    hue = _hue_degrees(pixels_HWC, value, spread)
    warm = (hue >= 12) & (hue < 50)
    # First match wins.
    rules: list[tuple[Mask, str]] = [
        ((value < 0.22) | ((value < 0.32) & (saturation < 0.25)), "black"),
        ((saturation < 0.10) & (value > 0.80), "white"),
        (saturation < 0.13, "grey"),
        (warm & (saturation < 0.38) & (value > 0.60), "beige"),
        (warm & (saturation > 0.65) & (value > 0.70), "orange"),
        (warm, "brown"),
        ((hue < 12) & (value < 0.45), "brown"),
        ((hue >= 50) & (hue < 68) & (value > 0.60) & (saturation > 0.40), "yellow"),
        ((hue >= 50) & (hue < 165), "green"),
        ((hue >= 165) & (hue < 258), "blue"),
        ((hue >= 258) & (hue < 345), "pink"),
    ]
    default = np.intp(_COLOUR_INDEX["red"])
    chosen = np.select(
        [rule for rule, _ in rules], [_COLOUR_INDEX[name] for _, name in rules], default
    )
    return chosen.astype(np.intp)


def _hue_degrees(pixels_HWC: Pixels, value: Pixels, spread: Pixels) -> Pixels:
    """Return the hue of the HSV hexagon, 0..360 degrees; 0 where there is no colour."""
    red, green, blue = pixels_HWC[..., 0], pixels_HWC[..., 1], pixels_HWC[..., 2]
    safe = np.maximum(spread, 1e-6)
    sector = np.select(
        [value == red, value == green],
        [((green - blue) / safe) % 6.0, (blue - red) / safe + 2.0],
        (red - green) / safe + 4.0,
    )
    return np.where(spread > 1e-6, sector * 60.0, 0.0).astype(np.float32)
