"""Random crops, flips and colour changes of whole batches, drawn from one seeded generator.

Every image has its own parameters, drawn on the CPU in a fixed order, so that the result depends on
the generator alone and not on the device. Sources: see `TrainingConfig`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from gendataagent.config import AUTO, TrainingConfig
from gendataagent.data.pixels import centre_crop
from gendataagent.training.randaugment import randaugment

FLIP_PROBABILITY = 0.5  # [C]
SMALL_PX = 64  # up to this size "auto" is pad-crop
RESIZED_CROP_AREA = (0.08, 1.0)  # torchvision's RandomResizedCrop
RESIZED_CROP_RATIO = (3 / 4, 4 / 3)  # width / height, as torchvision's
STORED_SHARE = 0.875  # 224 / 256: the usual share of the centre crop
LUMA_R, LUMA_G, LUMA_B = 0.2989, 0.587, 0.114  # ITU-R 601-2, as in torchvision


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmenter:
    """Turns stored images into training images.

    Args:
        crop: "pad-crop" (shift by up to an eighth, mirrored at the border), "resized-crop", "none".
        colour_jitter: brightness, contrast and saturation factors are drawn from 1 +- this.
        size_px: side of the output images.
        randaugment_operations: per image, after crop and flip; 0 = none.
        randaugment_magnitude: 0 to 30.
    """

    crop: str
    colour_jitter: float
    size_px: int
    randaugment_operations: int = 0
    randaugment_magnitude: float = 9.0

    @classmethod
    def from_config(cls, config: TrainingConfig, size_px: int) -> Self:
        """Return the augmenter of these settings for a classifier that sees `size_px`."""
        crop = config.augmentation
        if crop == AUTO:
            crop = "pad-crop" if size_px <= SMALL_PX else "resized-crop"
        return cls(
            crop=crop,
            colour_jitter=config.colour_jitter,
            size_px=size_px,
            randaugment_operations=config.randaugment_operations,
            randaugment_magnitude=config.randaugment_magnitude,
        )

    @property
    def stored_px(self) -> int:
        """Side to store images at; resized-crop needs a margin around the centre crop.

        The margin is even: a crop of a crop is then the crop, whatever the image's shape.
        """
        if self.crop == "resized-crop":
            return self.size_px + 2 * round((self.size_px / STORED_SHARE - self.size_px) / 2)
        return self.size_px

    def __call__(self, images_B3SS: Tensor, generator: torch.Generator) -> Tensor:
        """Return float images [B, 3, size_px, size_px] in [0, 1] of uint8 [B, 3, S, S]."""
        if self.crop == "none":
            images = centre_crop(images_B3SS, self.size_px).float() / 255
        elif self.crop == "pad-crop":
            images = _shifted(images_B3SS, self.size_px, generator).float() / 255
        else:
            images = _resized_crop(images_B3SS.float() / 255, self.size_px, generator)
        if self.randaugment_operations > 0:
            images = randaugment(
                images, self.randaugment_operations, self.randaugment_magnitude, generator
            )
        if self.colour_jitter > 0:
            images = _jittered(images, self.colour_jitter, generator)
        return images


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)


def _shifted(images_B3SS: Tensor, size_px: int, generator: torch.Generator) -> Tensor:
    """Return windows of `size_px` at random whole-pixel shifts, half of them mirrored."""
    count, side = len(images_B3SS), images_B3SS.shape[-1]
    most = size_px // 8
    shifts_B2 = torch.randint(-most, most + 1, (count, 2), generator=generator)
    flip_B = torch.rand(count, generator=generator) < FLIP_PROBABILITY
    window_S = torch.arange(size_px) + (side - size_px) // 2
    rows_BS = _mirrored(window_S + shifts_B2[:, :1], side)
    columns_BS = _mirrored(window_S + shifts_B2[:, 1:], side)
    columns_BS = torch.where(flip_B[:, None], columns_BS.flip(1), columns_BS)
    device = images_B3SS.device
    rows_B1S1 = rows_BS.to(device)[:, None, :, None].expand(-1, 3, -1, side)
    columns_B11S = columns_BS.to(device)[:, None, None, :].expand(-1, 3, size_px, -1)
    return images_B3SS.gather(2, rows_B1S1).gather(3, columns_B11S)


def _mirrored(positions: Tensor, side: int) -> Tensor:
    """Return positions outside [0, side) reflected at the border pixel (as in "reflect")."""
    positions = positions.abs()
    return torch.where(positions >= side, 2 * (side - 1) - positions, positions).clamp(min=0)


def _resized_crop(images_B3SS: Tensor, size_px: int, generator: torch.Generator) -> Tensor:
    """Return random windows, zoomed to `size_px` (bilinear), half of them mirrored.

    Area and aspect ratio as torchvision's RandomResizedCrop; where it draws again because a side
    does not fit, that side is clipped. Not antialiased: a window is at most 1 / 0.875 times the
    size of the output, so it is hardly ever downsampled.
    """
    count = len(images_B3SS)
    area_B = _uniform(count, *RESIZED_CROP_AREA, generator)
    narrow, wide = RESIZED_CROP_RATIO
    ratio_B = _uniform(count, math.log(narrow), math.log(wide), generator).exp()
    width_B = (area_B * ratio_B).sqrt().clamp(max=1)
    height_B = (area_B / ratio_B).sqrt().clamp(max=1)
    centre_x_B = (1 - width_B) * _uniform(count, -1, 1, generator)
    centre_y_B = (1 - height_B) * _uniform(count, -1, 1, generator)
    flip_B = torch.rand(count, generator=generator) < FLIP_PROBABILITY
    zero_B = torch.zeros(count)
    affine_B23 = torch.stack(
        [
            torch.stack([torch.where(flip_B, -width_B, width_B), zero_B, centre_x_B], dim=1),
            torch.stack([zero_B, height_B, centre_y_B], dim=1),
        ],
        dim=1,
    ).to(images_B3SS.device)
    grid = functional.affine_grid(affine_B23, [count, 3, size_px, size_px], align_corners=False)
    return functional.grid_sample(
        images_B3SS, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def _jittered(images_B3SS: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return images of changed brightness, contrast and saturation, in this order.

    Factors and blends as in torchvision's ColorJitter, which shuffles the order.
    """
    device = images_B3SS.device
    brightness, contrast, saturation = (
        _uniform(len(images_B3SS), max(0.0, 1 - strength), 1 + strength, generator).to(device)[
            :, None, None, None
        ]
        for _ in range(3)
    )
    images = (images_B3SS * brightness).clamp(0, 1)
    mean = _grey(images).mean(dim=(2, 3), keepdim=True)
    images = torch.lerp(mean.expand_as(images), images, contrast).clamp(0, 1)
    return torch.lerp(_grey(images).expand_as(images), images, saturation).clamp(0, 1)


def _grey(images_B3SS: Tensor) -> Tensor:
    red, green, blue = torch.split(images_B3SS, 1, dim=1)
    return LUMA_R * red + LUMA_G * green + LUMA_B * blue
