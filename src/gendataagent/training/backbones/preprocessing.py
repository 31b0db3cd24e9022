"""The input a pretrained network expects: image size, colour normalisation, channel order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import nn

from gendataagent.training.classifier import IMAGENET_MEAN, IMAGENET_STD

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)
LARGEST_PX = 16_384
_CHANNELS = 3
# For a model without preprocessor settings, by model type; others: ImageNet's.
_USUAL = {
    "clip": (CLIP_MEAN, CLIP_STD),
    "clip_vision_model": (CLIP_MEAN, CLIP_STD),
    "siglip": (HALF, HALF),
    "siglip_vision_model": (HALF, HALF),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """A network and the images it expects.

    Args:
        module: normalised images [B, 3, size_px, size_px] -> logits, or an output with `.logits`.
        mean, std: per channel, for images in [0, 1].
        own_names: of the classes it was trained on, where its output layer was loaded.
        note: what the user should know about its output layer.
    """

    module: nn.Module
    size_px: int
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    own_names: Sequence[str] | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """What a preprocessor's settings say.

    Args:
        size_px: side of the square it returns; None where they do not say.
        mean, std: per channel, for images in [0, 1].
        bgr: whether blue comes first (MobileViT).
        resize_px: what the shorter side is resized to; None where they do not say.
    """

    size_px: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False
    resize_px: int | None = None

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any] | None, model_type: str) -> Self:
        """Return what preprocessor_config.json says, the defaults of the model type otherwise.

        A preprocessor computes (255 f x - mean) / std of x in [0, 1], f = `rescale_factor` (1/255).

        Raises:
            ValueError: they are no object, or a value is of another kind; names the key.
        """
        mean: tuple[float, ...]
        std: tuple[float, ...]
        mean, std = _USUAL.get(model_type, (IMAGENET_MEAN, IMAGENET_STD))
        if settings is None:
            return cls(size_px=None, mean=mean, std=std)
        if not isinstance(settings, Mapping):
            raise ValueError("the preprocessor's settings are no JSON object")
        if settings.get("do_normalize", True):
            mean = _per_channel(settings, "image_mean", mean)
            std = _per_channel(settings, "image_std", std)
            if min(std) <= 0:
                raise ValueError(f"image_std must be above 0, got {settings.get('image_std')!r}")
        else:
            mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        scale = 255.0
        if settings.get("do_rescale", True):
            factor = settings.get("rescale_factor") or 1 / 255
            if not _is_number(factor) or factor <= 0:
                raise ValueError(f"rescale_factor must be a number above 0, got {factor!r:.80}")
            scale *= factor
        if abs(scale - 1) > 1e-6:
            mean, std = tuple(m / scale for m in mean), tuple(s / scale for s in std)
        return cls(
            size_px=_size_px(settings),
            mean=mean,
            std=std,
            bgr=bool(settings.get("do_flip_channel_order", False)),
            resize_px=_side_px(settings.get("size")),
        )


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < float("inf")


def _per_channel(
    settings: Mapping[str, Any], key: str, usual: tuple[float, ...]
) -> tuple[float, ...]:
    """Return three numbers; one stands for all channels."""
    values = settings.get(key) or usual
    if _is_number(values):
        values = [values]
    if not isinstance(values, list | tuple) or not all(map(_is_number, values)):
        raise ValueError(f"{key} must be a list of numbers, got {values!r:.80}")
    if len(values) not in (1, _CHANNELS):
        raise ValueError(f"{key} must have {_CHANNELS} numbers, has {len(values)}")
    return tuple(values) * (_CHANNELS // len(values))


def _size_px(settings: Mapping[str, Any]) -> int | None:
    """Return the side of the output: the centre crop's, else the resized image's."""
    keys = ["size"]
    if settings.get("do_center_crop", True):
        keys.insert(0, "crop_size")
    sides = (_side_px(settings.get(key)) for key in keys)
    return next((side for side in sides if side is not None), None)


def _side_px(size: Any) -> int | None:
    if isinstance(size, Mapping):
        size = size.get("height") or size.get("shortest_edge")
    if not isinstance(size, int) or isinstance(size, bool) or size <= 0:
        return None
    if size > LARGEST_PX:
        raise ValueError(f"images of {size} px are larger than {LARGEST_PX} px")
    return size


def bgr_to_rgb(module: nn.Module) -> None:
    """Make a network that was trained on BGR take RGB: flip its first convolution's input."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and part.in_channels == 3:
            part.weight.data = part.weight.data.flip(1)
            return
