"""The epochs of rounds, of baseline comparisons and of snapshots for VoG."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gendataagent.config import RunConfig


@dataclass(frozen=True, slots=True)
class Schedule:
    """Epochs are counted as trained so far: a round at 10 runs between epochs 10 and 11.

    Args:
        round_epochs: epochs trained before each round, increasing.
        snapshot_epochs: epochs trained at which the classifier's weights are kept for VoG.
        enter_epochs: epochs trained before the images of each round are filtered and used: those of
            the round itself, with agent.overlap those of the next one.
    """

    round_epochs: tuple[int, ...]
    snapshot_epochs: tuple[int, ...]
    enter_epochs: tuple[int, ...]

    @classmethod
    def from_config(cls, config: RunConfig) -> Schedule:
        """Return the schedule of a run; without the agent it is empty."""
        if not config.agent.enabled:
            return cls((), (), ())
        starts, enters = _round_epochs(config)
        snapshots = marked_epochs(config.training.epochs, config.filter.snapshot_at)
        return cls(starts, tuple(snapshots), enters)

    def rounds_until(self, epoch: int) -> list[int]:
        """Return the rounds whose images are due at or before `epoch`."""
        return [i for i, at in enumerate(self.enter_epochs) if at <= epoch]

    def begun_until(self, epoch: int) -> list[int]:
        """Return the rounds that begin at or before `epoch`."""
        return [i for i, at in enumerate(self.round_epochs) if at <= epoch]


def guard_epochs(config: RunConfig) -> tuple[int, ...]:
    """Return the epochs trained at which a guarded run is compared with its baseline.

    They end the spans that train on the images of one round. The baseline, without the agent, has
    the same ones.
    """
    return _round_epochs(config)[1][1:] if config.agent.is_guarded else ()


def _round_epochs(config: RunConfig) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the epochs at which rounds begin, and at which their images enter training."""
    agent, first = config.agent, config.agent.first_round_epoch
    spans = agent.rounds + agent.overlap  # between rounds, and to the end
    end = agent.last_epoch(config.training.epochs)
    if first < 0:
        first = end // (spans + 1)
    epochs = tuple(first + i * (end - first) // spans for i in range(spans))
    return (epochs[:-1], epochs[1:]) if agent.overlap else (epochs, epochs)


def marked_epochs(epochs: int, marks: Iterable[float]) -> list[int]:
    """Return the epochs of these shares of the training, increasing, at most `epochs`.

    In a short training several shares may fall on one epoch; the later ones then move to the next
    epochs, so that no snapshot is lost.
    """
    marked: list[int] = []
    for mark in sorted(marks):
        earliest = marked[-1] + 1 if marked else 1
        marked.append(max(earliest, round(mark * epochs)))
    return [epoch for epoch in marked if epoch <= epochs]
