"""Steers the denoising steps of a pipeline by the gradient of a criterion.

    with steered(pipeline.scheduler, decode, value_of, steering):
        pipeline(...)

A wrapper around `scheduler.step` moves the model's output before the step, so the history of a
multistep scheduler stays consistent, and no pipeline has to know of it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gendataagent.core.records import derive_seed
from gendataagent.generation.feedback.clean_latent import clean_latent_weights

Value = Callable[[Tensor], Tensor]
"""Images [B, 3, H, W] in [-0.1, 1.1] -> one value per image [B], differentiable."""

_TINY = 1e-8
# Keeps small gradients from vanishing in float16; a power of two, so it changes no rounding.
_GRADIENT_SCALE = 2.0**10


@dataclass(frozen=True, slots=True)
class Steering:
    """How far, when and over which views a call is steered.

    Args:
        scale: root mean square of the change of each image's clean latent, per step.
        views: over how many views of the image the gradient is summed, see `VIEWS`.
        first, last: shares of the executed steps between which steps are steered.
        seeds: one per image, for the random direction.
    """

    scale: float
    views: int
    first: float
    last: float
    seeds: tuple[int, ...]


def _same(images_BCHW: Tensor) -> Tensor:
    return images_BCHW


def _mirrored(images_BCHW: Tensor) -> Tensor:
    return images_BCHW.flip(-1)


def _blurred(images_BCHW: Tensor) -> Tensor:
    padded = functional.pad(images_BCHW, (1, 1, 1, 1), mode="replicate")
    return functional.avg_pool2d(padded, 3, stride=1)


def _shifted(images_BCHW: Tensor) -> Tensor:
    """Return the images moved by a sixteenth of their sides, their edge repeated."""
    height, width = images_BCHW.shape[-2:]
    down, right = max(1, height // 16), max(1, width // 16)
    padded = functional.pad(images_BCHW, (right, 0, down, 0), mode="replicate")
    return padded[..., :height, :width]


def _grey(images_BCHW: Tensor) -> Tensor:
    return images_BCHW.mean(dim=1, keepdim=True).expand_as(images_BCHW)


def _flat(images_BCHW: Tensor) -> Tensor:
    """Return the images with half their contrast."""
    return (images_BCHW + images_BCHW.mean(dim=(2, 3), keepdim=True)) / 2


VIEWS: Sequence[Callable[[Tensor], Tensor]] = (
    _same, _mirrored, _blurred, _shifted, _grey, _flat,
)  # fmt: skip
"""A gradient summed over several views changes what they share: shape more than pixel noise."""


@contextlib.contextmanager
def steered(
    scheduler: Any, decode: Callable[[Tensor], Tensor], value: Value | None, steering: Steering
) -> Iterator[None]:
    """Steer every `scheduler.step` inside the block.

    Args:
        decode: clean latents -> images in [0, 1], differentiable.
        value: what each step raises; None = a random direction, drawn from the images' seeds.

    Raises:
        ModelError: a scheduler or a kind of prediction that is not supported.
    """
    step = scheduler.step
    signature = inspect.signature(step)
    first_index: int | None = None

    @functools.wraps(step)
    def steered_step(*args: Any, **options: Any) -> Any:
        nonlocal first_index
        bound = signature.bind(*args, **options)
        timestep, latents = bound.arguments["timestep"], bound.arguments["sample"]
        index = _index_of(scheduler, timestep)
        first_index = index if first_index is None else first_index
        done = (index - first_index) / max(1, len(scheduler.timesteps) - first_index)
        if steering.first <= done < steering.last:
            output = bound.arguments["model_output"]
            of_latent, of_output = clean_latent_weights(scheduler, timestep)
            clean = of_latent * latents.float() + of_output * output.float()
            change = (
                _random_change(clean, steering, index)
                if value is None
                else _change(clean, decode, value, steering)
            )
            moved = output.float() + change / of_output
            bound.arguments["model_output"] = moved.to(output.dtype)
        return step(*bound.args, **bound.kwargs)

    scheduler.step = steered_step
    try:
        yield
    finally:
        del scheduler.step


def _index_of(scheduler: Any, timestep: Any) -> int:
    timesteps = scheduler.timesteps
    distances = (timesteps.float() - float(timestep)).abs()
    return int(distances.argmin())


def _change(
    clean: Tensor, decode: Callable[[Tensor], Tensor], value: Value, steering: Steering
) -> Tensor:
    """Return the step of length `scale` along the gradient of `value`, per image."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = clean.detach().clone().requires_grad_(True)
        images = (decode(leaf) / 2 + 0.5).float().clamp(-0.1, 1.1)
        views = torch.cat([view(images) for view in VIEWS[: steering.views]])
        (gradient,) = torch.autograd.grad(value(views).sum() * _GRADIENT_SCALE, leaf)
    return _normalised(gradient, steering.scale)


def _random_change(clean: Tensor, steering: Steering, index: int) -> Tensor:
    drawn = [
        torch.randn(
            clean.shape[1:],
            generator=torch.Generator("cpu").manual_seed(derive_seed(seed, "feedback", index)),
        )
        for seed in steering.seeds
    ]
    return _normalised(torch.stack(drawn).to(clean.device), steering.scale)


def _normalised(direction: Tensor, scale: float) -> Tensor:
    """Return `direction` at a root mean square of `scale` per image; zero where not finite."""
    axes = tuple(range(1, direction.ndim))
    finite = direction.isfinite().all(dim=axes, keepdim=True)
    direction = torch.where(finite, direction, torch.zeros_like(direction))
    rms = direction.square().mean(dim=axes, keepdim=True).sqrt()
    return scale * direction / (rms + _TINY)
