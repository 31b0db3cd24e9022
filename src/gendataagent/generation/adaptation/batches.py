"""Which images each step of an adaptation reads: a pure function of seed and step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from gendataagent.core.records import derive_seed

MIN_IMAGES = 2  # the distribution-matching term needs more than one image

Reading = tuple[int, int]
"""How often an image has been read by then, from 1, and its index."""


class Batches(Protocol):
    """What each step reads."""

    @property
    def steps(self) -> int:
        """Number of steps in all."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """After how many steps as many images were read as there are."""
        ...

    def of(self, step: int) -> list[Reading]:
        """Return what a step reads, from 0."""
        ...


def epoch_batches(seed: int, epoch: int, count: int, batch_size: int) -> list[list[int]]:
    """Return the image indices of each step of an epoch (from 1), every image once.

    The last batch is smaller if the count does not divide; a single image left over joins the batch
    before. Fewer images than `batch_size` make one batch.
    """
    order = _order(count, derive_seed(seed, "adapt-order", epoch))
    batches = [order[start : start + batch_size] for start in range(0, count, batch_size)]
    if len(batches) > 1 and len(batches[-1]) < MIN_IMAGES <= batch_size:
        batches[-2:] = [batches[-2] + batches[-1]]
    return batches


def _order(count: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochBatches:
    """Every image once in each epoch, all classes mixed."""

    seed: int
    count: int
    batch_size: int
    epochs: int

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches."""
        return len(epoch_batches(self.seed, 1, self.count, self.batch_size))

    @property
    def steps(self) -> int:
        """Number of steps in all epochs."""
        return self.steps_per_epoch * self.epochs

    def of(self, step: int) -> list[Reading]:
        """Return what a step reads, from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        indices = epoch_batches(self.seed, epoch + 1, self.count, self.batch_size)[place]
        return [(epoch + 1, index) for index in indices]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassTurns:
    """One class a step, all in turn, each for `steps_each` steps of `batch_size` of its images.

    A class with fewer images than that is read more than once in a step.
    """

    seed: int
    labels: Sequence[int]
    batch_size: int
    steps_each: int

    @property
    def steps_per_epoch(self) -> int:
        """After how many steps as many images were read as there are."""
        return -(-len(self.labels) // self.batch_size)

    @property
    def steps(self) -> int:
        """Number of steps in all."""
        return self.steps_each * len(set(self.labels))

    def of(self, step: int) -> list[Reading]:
        """Return what a step reads, from 0."""
        classes = sorted(set(self.labels))
        turn, place = divmod(step, len(classes))
        label = classes[place]
        members = [index for index, its in enumerate(self.labels) if its == label]
        found = []
        for position in range(turn * self.batch_size, (turn + 1) * self.batch_size):
            times, place = divmod(position, len(members))
            order = _order(len(members), derive_seed(self.seed, "class-order", label, times))
            found.append((times + 1, members[order[place]]))
        return found
