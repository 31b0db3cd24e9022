"""RandAugment of whole batches: N operations per image, drawn from fourteen.

Cubuk et al., "RandAugment", CVPR-W 2020, with the operations and magnitudes of torchvision's
`RandAugment` [C]. Own code because torchvision is not a dependency, and kornia's version draws one
policy for the whole batch, of other operations, from torch's global generator. Everything is
drawn on the CPU from one seeded generator, in a fixed order. Operations agree with Pillow's.

Letters in tensor names: B images, 3 colour channels, S side in px. Images are float, 0 to 255.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

OPERATIONS = (
    "identity", "shear-x", "shear-y", "translate-x", "translate-y", "rotate", "brightness",
    "colour", "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip
HIGHEST_MAGNITUDE = 30  # torchvision's 31 bins
MOST_SHEAR = 0.3
MOST_TRANSLATION = 150 / 331  # of the side
MOST_ROTATION_DEGREES = 30.0
MOST_BLEND = 0.9  # of brightness, colour, contrast, sharpness: factor 1 +- this
MOST_BITS_LOST = 4  # of posterize
LUMA_R, LUMA_G, LUMA_B = 299 / 1000, 587 / 1000, 114 / 1000  # Pillow's mode L
SMOOTH_333 = ((1.0, 1.0, 1.0), (1.0, 5.0, 1.0), (1.0, 1.0, 1.0))  # Pillow's ImageFilter.SMOOTH


def randaugment(
    images_B3SS: Tensor, operations: int, magnitude: float, generator: torch.Generator
) -> Tensor:
    """Return images in [0, 1], each changed by its own operations.

    Args:
        operations: per image, drawn with replacement (identity is one of them).
        magnitude: of every operation, 0 to 30; operations with two directions draw one.
    """
    images_B3SS = (images_B3SS * 255).round()
    share = magnitude / HIGHEST_MAGNITUDE
    for _ in range(operations):
        drawn_B = torch.randint(len(OPERATIONS), (len(images_B3SS),), generator=generator)
        sign_B = torch.randint(2, (len(images_B3SS),), generator=generator) * 2.0 - 1
        changed_B3SS = images_B3SS.clone()
        for number, name in enumerate(OPERATIONS):
            here = (drawn_B == number).nonzero().flatten()
            if len(here):
                on_device = here.to(images_B3SS.device)
                changed_B3SS[on_device] = apply_operation(
                    name, images_B3SS[on_device], share, sign_B[here]
                )
        images_B3SS = changed_B3SS
    return images_B3SS / 255


def apply_operation(name: str, images_B3SS: Tensor, share: float, sign_B: Tensor) -> Tensor:
    """Return images (whole numbers in 0..255) after one of `OPERATIONS`.

    Args:
        share: magnitude as a share of the highest, 0 to 1.
        sign_B: +1 or -1 per image: the direction, for operations with two.
    """
    if name in _MATRICES:
        return _moved(images_B3SS, _MATRICES[name](share * sign_B, images_B3SS.shape[-1]))
    if name in _DEGENERATES:
        factor_B111 = (1 + MOST_BLEND * share * sign_B)[:, None, None, None].to(images_B3SS)
        other_B3SS = _DEGENERATES[name](images_B3SS)
        blend_B3SS: Tensor = torch.lerp(other_B3SS, images_B3SS, factor_B111)
        return blend_B3SS.clamp(0, 255).round()
    if name == "posterize":
        step = float(1 << round(MOST_BITS_LOST * share))
        return (images_B3SS / step).floor() * step
    if name == "solarize":
        return torch.where(images_B3SS >= 255 * (1 - share), 255 - images_B3SS, images_B3SS)
    if name == "autocontrast":
        return _autocontrast(images_B3SS)
    if name == "equalize":
        return _equalised(images_B3SS)
    return images_B3SS


def _rows(*entries: Tensor | float, like: Tensor) -> Tensor:
    """Return matrices [B, 2, 3] of six entries per image."""
    columns = [torch.as_tensor(entry, dtype=torch.float32).expand_as(like) for entry in entries]
    return torch.stack(columns, dim=1).reshape(-1, 2, 3)


def _rotation(amount_B: Tensor, side: int) -> Tensor:
    angle_B = amount_B * math.radians(MOST_ROTATION_DEGREES)
    cos_B, sin_B, centre = angle_B.cos(), angle_B.sin(), side / 2
    return _rows(
        cos_B, -sin_B, centre * (1 - cos_B + sin_B), sin_B, cos_B, centre * (1 - cos_B - sin_B),
        like=amount_B,
    )  # fmt: skip


# name -> (signed magnitude [B], side) -> matrices [B, 2, 3]: where in the source, in px from its
# upper left corner, a pixel of the result comes from (Pillow's and torchvision's convention)
_MATRICES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "shear-x": lambda a, side: _rows(1, MOST_SHEAR * a, 0, 0, 1, 0, like=a),
    "shear-y": lambda a, side: _rows(1, 0, 0, MOST_SHEAR * a, 1, 0, like=a),
    "translate-x": lambda a, side: _rows(1, 0, _whole_px(a, side), 0, 1, 0, like=a),
    "translate-y": lambda a, side: _rows(1, 0, 0, 0, 1, _whole_px(a, side), like=a),
    "rotate": _rotation,
}


def _whole_px(amount_B: Tensor, side: int) -> Tensor:
    return (MOST_TRANSLATION * side * amount_B).trunc()


def _moved(images_B3SS: Tensor, matrices_B23: Tensor) -> Tensor:
    """Return the source pixel nearest to each pixel's centre; black outside the image."""
    side = images_B3SS.shape[-1]
    middles_S = torch.arange(side) + 0.5
    y_SS, x_SS = torch.meshgrid(middles_S, middles_S, indexing="ij")
    places_3P = torch.stack([x_SS, y_SS, torch.ones_like(x_SS)]).flatten(1)
    from_B2P = (matrices_B23 @ places_3P).floor().long()
    inside_BP = ((from_B2P >= 0) & (from_B2P < side)).all(dim=1)
    flat_BP = (from_B2P[:, 1] * side + from_B2P[:, 0]).where(inside_BP, torch.zeros(()).long())
    flat_B1P = flat_BP[:, None].to(images_B3SS.device)
    taken_B3P = images_B3SS.flatten(2).gather(2, flat_B1P.expand(-1, 3, -1))
    return (taken_B3P * inside_BP[:, None].to(images_B3SS)).reshape(images_B3SS.shape)


def _grey(images_B3SS: Tensor) -> Tensor:
    red, green, blue = torch.split(images_B3SS, 1, dim=1)
    return (LUMA_R * red + LUMA_G * green + LUMA_B * blue).round()


def _smoothed(images_B3SS: Tensor) -> Tensor:
    """Return images under a 3x3 filter; border pixels are unchanged."""
    kernel_33 = torch.tensor(SMOOTH_333, device=images_B3SS.device) / 13
    inner = functional.conv2d(images_B3SS, kernel_33.expand(3, 1, 3, 3), groups=3)
    smoothed_B3SS = images_B3SS.clone()
    smoothed_B3SS[..., 1:-1, 1:-1] = inner.round()
    return smoothed_B3SS


_DEGENERATES: dict[str, Callable[[Tensor], Tensor]] = {
    "brightness": torch.zeros_like,
    "colour": lambda images: _grey(images).expand_as(images),
    "contrast": lambda images: (
        _grey(images).mean(dim=(2, 3), keepdim=True).round().expand_as(images)
    ),
    "sharpness": _smoothed,
}


def _autocontrast(images_B3SS: Tensor) -> Tensor:
    """Return each channel stretched to 0..255; a channel of one value stays."""
    low = images_B3SS.amin(dim=(2, 3), keepdim=True)
    high = images_B3SS.amax(dim=(2, 3), keepdim=True)
    stretched = ((images_B3SS - low) * (255 / (high - low).clamp(min=1))).floor()
    return torch.where(high > low, stretched, images_B3SS)


def _equalised(images_B3SS: Tensor) -> Tensor:
    """Return each channel with its histogram levelled, as Pillow's ImageOps.equalize does."""
    flat_RP = images_B3SS.flatten(2).flatten(0, 1).long()  # R = rows: one per image and channel
    counts_RV = torch.zeros((len(flat_RP), 256), dtype=torch.long, device=flat_RP.device)
    counts_RV.scatter_add_(1, flat_RP, torch.ones_like(flat_RP))
    highest_R1 = flat_RP.amax(dim=1, keepdim=True)
    step_R1 = (flat_RP.shape[1] - counts_RV.gather(1, highest_R1)) // 255
    below_RV = counts_RV.cumsum(dim=1) - counts_RV
    table_RV = ((below_RV + step_R1 // 2) // step_R1.clamp(min=1)).clamp(max=255)
    levelled_RP = torch.where(step_R1 > 0, table_RV.gather(1, flat_RP), flat_RP)
    return levelled_RP.reshape(images_B3SS.shape).to(images_B3SS)
