"""Items of a torch data set: image and label in the forms in which they come."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gendataagent.core.errors import DataError
from gendataagent.data.items import TensorForm
from gendataagent.data.labels import is_unlabelled

_WHAT_IS_ALLOWED = (
    "allowed are (image, label) with a PIL image, or a tensor [1 or 3, H, W] of uint8 or of floats "
    "in [0, 1], and a whole number as the label"
)


def tensor_form(image: Tensor) -> TensorForm:
    """Return the form of an image tensor [C, H, W]."""
    channels, height, width = image.shape
    return TensorForm(dtype=image.dtype, channels=channels, height=height, width=width)


def pair_of(item: Any, what: str) -> tuple[Any, Any]:
    """Return image and label of an item; raise `DataError`, with `what` it is, for any other."""
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise DataError(
            f"{what} of the train set is a {type(item).__name__}; {_WHAT_IS_ALLOWED}. Wrap the "
            "data set in one that gives pairs"
        )
    return item[0], item[1]


def to_label(label: Any, what: str) -> int:
    """Return a label as a number; raise `DataError` for none."""
    if isinstance(label, Tensor | np.generic | np.ndarray) and label.ndim == 0:
        label = label.item()
    if is_unlabelled(label):
        raise DataError(
            f"{what} of the train set has no label ({label!r}); leave such images out, for example "
            "with torch.utils.data.Subset"
        )
    if isinstance(label, bool) or not isinstance(label, int) or label < 0:
        raise DataError(
            f"{what} of the train set has the label {label!r}; {_WHAT_IS_ALLOWED}, at least 0"
        )
    return label


def to_pil(image: Any, what: str) -> Image.Image:
    """Return an image as a PIL image; raise `DataError` for a type or range that is not one."""
    if isinstance(image, Image.Image):
        return image
    if not isinstance(image, Tensor):
        raise DataError(
            f"{what} of the train set has an image of type {type(image).__name__}; "
            f"{_WHAT_IS_ALLOWED}"
        )
    if image.ndim != 3 or image.shape[0] not in (1, 3) or not min(image.shape):
        raise DataError(
            f"{what} of the train set is a tensor of shape {tuple(image.shape)}; {_WHAT_IS_ALLOWED}"
        )
    scale = range_of(image)
    if scale is None:
        low, high = image.aminmax()
        raise DataError(
            f"{what} of the train set is a {image.dtype} tensor with values from {float(low):g} to "
            f"{float(high):g}; {_WHAT_IS_ALLOWED}. The agent needs images before normalisation: "
            "keep the normalisation in the attribute `transform` of the data set, which the agent "
            "passes by, or give it a data set without"
        )
    values = image if scale == 1 else (image.float() * scale).round().to(torch.uint8)
    array = values.permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(array[..., 0] if image.shape[0] == 1 else array)


def range_of(image: Tensor) -> int | None:
    """Return what brings the values to 0..255: 1 or 255; None for no image in a known range."""
    if image.dtype == torch.uint8:
        return 1
    if not image.is_floating_point():
        return None
    return 255 if bool(((image >= 0) & (image <= 1)).all()) else None
