"""Which images each optimiser step of an epoch trains on."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from gendataagent.config import TrainingConfig

MIN_BATCH = 2  # batch normalisation has no statistics of a single image


def draw_batches(
    labels_N: Tensor, reals: int, config: TrainingConfig, *, seed: int, steps: int = 0
) -> list[Tensor]:
    """Return the image indices of each step, [B] each.

    With training.synthetic_share, and images of both kinds, each kind is drawn in endless passes
    of its own, real images first in a step; shares that are not whole images are made up for by
    the steps that follow.

    Args:
        labels_N: of all images, real ones first.
        reals: how many of them are real.
        steps: where training.steps_per_epoch leaves them open; 0 = as many as one pass takes.
    """
    generator = torch.Generator().manual_seed(seed)
    balanced, share = config.class_balance == "sampling", config.synthetic_share

    def drawn(indices: Tensor, length: int) -> Tensor:
        if balanced:
            return indices[_endless_balanced(labels_N[indices], length, generator)]
        return endless(indices, length, generator)

    sizes, indices = _sizes(len(labels_N), config, steps), torch.arange(len(labels_N))
    if not share or reals in (0, len(labels_N)):
        return list(drawn(indices, sum(sizes)).split(sizes))
    ends = [math.floor(share * end + 0.5) for end in accumulate(sizes, initial=0)]
    synthetic = [end - start for start, end in pairwise(ends)]
    real = [size - made for size, made in zip(sizes, synthetic, strict=True)]
    of_both = (
        drawn(indices[:reals], sum(real)).split(real),
        drawn(indices[reals:], sum(synthetic)).split(synthetic),
    )
    return [torch.cat(pair) for pair in zip(*of_both, strict=True)]


def _sizes(images: int, config: TrainingConfig, steps: int) -> list[int]:
    """Return how many images each step has."""
    size, fixed = config.batch_size, config.steps_per_epoch
    if fixed:
        return [size] * fixed
    sizes = [min(size, images - start) for start in range(0, images, size)]
    if len(sizes) > 1 and sizes[-1] < MIN_BATCH:
        sizes[-2:] = [sum(sizes[-2:])]
    # Otherwise no image is in a step twice.
    return sizes if steps in (0, len(sizes)) else [min(size, images)] * steps


def endless(indices: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Return the first `length` of endless passes over `indices`, each newly shuffled."""
    passes = math.ceil(length / len(indices))
    orders = [torch.randperm(len(indices), generator=generator) for _ in range(max(1, passes))]
    return indices[torch.cat(orders)[:length]]


def _endless_balanced(labels_N: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Return `length` indices: one image of each class in turn, in random order, each class in
    endless passes over its own images.
    """
    classes = labels_N.unique()
    turns = max(1, math.ceil(length / len(classes)))
    turns_TC = torch.stack(
        [endless((labels_N == label).nonzero().flatten(), turns, generator) for label in classes],
        dim=1,
    )
    order_TC = torch.rand(turns_TC.shape, generator=generator).argsort(dim=1)
    return turns_TC.gather(1, order_TC).flatten()[:length]
