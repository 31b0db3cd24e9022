"""Corruptions to measure robustness with: Gaussian blur and speckle noise.

Constants and order of operations: Hendrycks & Dietterich, "Benchmarking Neural Network Robustness",
ICLR 2019, and its code [C]. One difference: their ImageNet-C files were saved once more as JPEG
(quality 85), ours are not.

Letters in tensor names: B images, 3 colour channels, S side in px.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from gendataagent.core.errors import ConfigError
from gendataagent.core.records import derive_seed
from gendataagent.data.pixels import Pixels

SEVERITIES = (1, 2, 3, 4, 5)
TRUNCATE = 4.0  # standard deviations at which skimage and scipy truncate the Gaussian

# side in px -> constant at severity 1 to 5
SIGMA_PX: Mapping[int, tuple[float, ...]] = {
    224: (1, 2, 3, 4, 6),
    64: (0.5, 0.75, 1, 1.25, 1.5),
    32: (0.4, 0.6, 0.7, 0.8, 1),
}
SPECKLE: Mapping[int, tuple[float, ...]] = {
    224: (0.15, 0.2, 0.35, 0.45, 0.6),
    64: (0.15, 0.2, 0.25, 0.3, 0.35),
    32: (0.06, 0.1, 0.12, 0.16, 0.2),
}


def corrupt(
    images_B3SS: Tensor, name: str, severity: int, *, ids: Sequence[str], seed: int = 0
) -> Tensor:
    """Return the images corrupted, with their dtype: uint8, or float in [0, 1].

    The result is clipped to [0, 1] and truncated to 256 levels, as in the original code:
    np.uint8(255 * x). The work is done on the CPU in double precision, whatever the device.

    Args:
        ids: the noise of an image is seeded by `seed`, its id, the corruption and the severity,
            so neither order nor batch matters.

    Raises:
        ConfigError: no such corruption or severity.
    """
    check([name], [severity])
    if len(ids) != len(images_B3SS):
        raise ConfigError(f"{len(images_B3SS)} images need as many ids, got {len(ids)}")
    table, change = CORRUPTIONS[name]
    constant = table[table_px(images_B3SS.shape[-1])][severity - 1]
    seeds = [derive_seed(seed, id_, name, severity) for id_ in ids]
    floating = images_B3SS.is_floating_point()
    values_B3SS = images_B3SS.detach().cpu().double()
    changed_B3SS = change(values_B3SS if floating else values_B3SS / 255, constant, seeds)
    levels_B3SS = (changed_B3SS.clamp(0, 1) * 255).to(torch.uint8)  # truncates
    if floating:
        return (levels_B3SS / 255).to(images_B3SS)
    return levels_B3SS.to(images_B3SS.device)


def corrupted(pixels: Pixels, name: str, severity: int, *, size_px: int, seed: int = 0) -> Pixels:
    """Return the centre crops of `size_px` of the images, corrupted whenever they are read.

    Cropped first, then corrupted, as the original code does. There, images of 224 px are: shorter
    side to 256, centre crop of 224. `Pixels` store the centre square at 256 px; its crop is the
    same part of the image at the same scale.

    Raises:
        ConfigError: no such corruption or severity.
    """
    check([name], [severity])

    def read(indices_B: Tensor) -> Tensor:
        ids = [pixels.ids[index] for index in indices_B.tolist()]
        return corrupt(pixels.batch(indices_B, crop_px=size_px), name, severity, ids=ids, seed=seed)

    return Pixels(read, pixels.labels, ids=pixels.ids, size_px=size_px, read_ahead=True)


def table_px(size_px: int) -> int:
    """Return the size whose constants are used for images of `size_px`.

    The nearest by ratio: those of 32 up to 45 px, of 64 up to 119 px, else of 224.
    Above 224 px, a sigma in px blurs less of the image than it does there.
    """
    return min(SIGMA_PX, key=lambda px: abs(math.log(size_px / px)))


def check(names: Sequence[str], severities: Sequence[int]) -> None:
    """Raise one `ConfigError` that names every unknown corruption and severity."""
    problems = [
        f"unknown corruption {name!r}; there are: {', '.join(CORRUPTIONS)}"
        for name in names
        if name not in CORRUPTIONS
    ]
    problems += [
        f"severity must be a whole number from {SEVERITIES[0]} to {SEVERITIES[-1]}, got {severity}"
        for severity in severities
        if severity not in SEVERITIES
    ]
    if not names:
        problems.append(f"name at least one corruption of: {', '.join(CORRUPTIONS)}")
    if not severities:
        problems.append("name at least one severity, from 1 to 5")
    if problems:
        raise ConfigError(problems)


def _gaussian_blur(images_B3SS: Tensor, sigma_px: float, seeds: Sequence[int]) -> Tensor:
    """Return every channel blurred, as by skimage.filters.gaussian (mode "nearest")."""
    radius = int(TRUNCATE * sigma_px + 0.5)
    steps_K = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel_K = torch.exp(-0.5 * (steps_K / sigma_px) ** 2)
    kernel_K = kernel_K / kernel_K.sum()
    flat_N1SS = images_B3SS.flatten(0, 1)[:, None]
    padded_N1SS = functional.pad(flat_N1SS, (radius,) * 4, mode="replicate")
    rows_N1SS = functional.conv2d(padded_N1SS, kernel_K[None, None, :, None])
    return functional.conv2d(rows_N1SS, kernel_K[None, None, None, :]).view_as(images_B3SS)


def _speckle_noise(images_B3SS: Tensor, scale: float, seeds: Sequence[int]) -> Tensor:
    """Return x + x n, n from N(0, scale^2) for each image, channel and pixel."""
    noise = [
        torch.randn(
            images_B3SS.shape[1:],
            generator=torch.Generator().manual_seed(seed),
            dtype=torch.float64,
        )
        for seed in seeds
    ]
    return images_B3SS + images_B3SS * scale * torch.stack(noise) if noise else images_B3SS


CORRUPTIONS: Mapping[
    str, tuple[Mapping[int, tuple[float, ...]], Callable[[Tensor, float, Sequence[int]], Tensor]]
] = {
    "gaussian_blur": (SIGMA_PX, _gaussian_blur),
    "speckle_noise": (SPECKLE, _speckle_noise),
}
