"""How many images a pipeline call makes where the settings leave it open.

A larger batch is faster until the device is busy, and its memory bounds it. Since images depend on
it in their last bits, the choice depends only on the model, the settings and the kind of machine.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gendataagent.core import memory
from gendataagent.core.hub import ModelSource, local_folder

MOST_ON_CPU, MOST_ON_GPU = 32, 64  # more brings no further speed, only padding
UNKNOWN = 8  # of a model that is not on this machine yet
_MAPS = 6  # full-size feature maps of the decoder at once; measured on that of SD 1.5
_MAPS_WITH_GRADIENTS = 40  # all of them are kept for the backward pass of feedback
_SHARE_OF_RAM, _SHARE_OF_GPU = 0.25, 0.5
_MOST_ELEMENTS = 2**31 - 1  # of a tensor: kernels count them in 32 bits
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def largest_batch(
    source: ModelSource, *, size_px: int, dtype: str, device: str, gradients: bool
) -> int:
    """Return the largest power of two that fits with room to spare, estimated without weights.

    Args:
        size_px: side of the images; 0 = the model's own.
        dtype: name of the dtype that images are made in.
        gradients: whether feedback decodes with gradients.
    """
    shape = _decoder_shape(local_folder(source), size_px)
    if shape is None:
        return UNKNOWN
    channels, side_px = shape
    elements = channels * side_px**2
    on_gpu = not device.startswith("cpu")
    limits = [MOST_ON_GPU if on_gpu else MOST_ON_CPU, _MOST_ELEMENTS // elements]
    total = memory.total_bytes(device)
    if total is not None:
        of_image = elements * _BYTES[dtype] * (_MAPS_WITH_GRADIENTS if gradients else _MAPS)
        limits.append(int(total * (_SHARE_OF_GPU if on_gpu else _SHARE_OF_RAM)) // of_image)
    return 1 << (max(1, min(limits)).bit_length() - 1)


def filled_by(images: int) -> int:
    """Return the smallest power of two of at least `images`: a larger batch would be padding."""
    return 1 << (max(1, images) - 1).bit_length()


def _decoder_shape(folder: Path | None, size_px: int) -> tuple[int, int] | None:
    """Return the channels of the decoder's full-size feature maps, and the side of an image."""
    if folder is None:
        return None
    vae = _config(folder / "vae")
    widths = _sizes(vae.get("decoder_block_out_channels") or vae.get("block_out_channels"))
    if not widths:
        return None
    network = _config(folder / "unet") or _config(folder / "transformer")
    latent_side = _sizes([network.get("sample_size")]) or [0]
    side_px = size_px or 2 ** (len(widths) - 1) * latent_side[0]
    # The widest at full size: the decoder enlarges before it narrows.
    return (max(widths[:2]), side_px) if side_px else None


def _sizes(values: Any) -> list[int]:
    """Return a list of positive integers; empty where it is none."""
    are_sizes = isinstance(values, list) and all(isinstance(v, int) and v > 0 for v in values)
    return list(values) if are_sizes else []


def _config(folder: Path) -> dict[str, Any]:
    """Return the configuration of a part; empty where it has none that can be read."""
    try:
        tree = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}
