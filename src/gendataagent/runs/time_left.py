"""How long a run still takes: steps and rounds that are left, at the cost of those measured."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from gendataagent.core.progress import Foretelling, Stage

_RECENT = 3  # epochs; later ones may have more synthetic images in memory


class TimeLeft:
    """Measures epochs and rounds of a run, and foretells the rest.

    Args:
        steps: optimiser steps planned for each epoch.
        round_epochs: epochs trained before each round.
        epochs_done: before this attempt.
        rounds_measured: seconds of rounds of earlier attempts.
        more_follows: whether another training of as many steps follows, with rounds that are not
            known yet.
    """

    def __init__(
        self,
        steps: Sequence[int],
        round_epochs: Sequence[int],
        epochs_done: int,
        *,
        rounds_measured: Sequence[float] = (),
        more_follows: bool = False,
    ) -> None:
        self._steps, self._round_epochs = steps, round_epochs
        self._epochs_done = epochs_done
        self._a_step: list[float] = []
        self._rounds = list(rounds_measured)
        self._more_follows = more_follows

    def epoch_done(self, seconds: float, steps: int) -> None:
        """Note an epoch's training."""
        self._epochs_done += 1
        if steps:
            self._a_step.append(seconds / steps)

    def round_done(self, seconds: float) -> None:
        """Note a round that was made in this attempt."""
        self._rounds.append(seconds)

    def tell(self, stage: Stage, *, asked: bool = False) -> None:
        """Tell a display how long the rest takes, or that no epoch was measured yet.

        Args:
            asked: whether the round before the next epoch is over.
        """
        if not isinstance(stage, Foretelling):
            return
        if not self._a_step:
            stage.expect(None)
            return
        a_step = fmean(self._a_step[-_RECENT:])
        steps = sum(self._steps[self._epochs_done :])
        left = (steps + self._more_follows * sum(self._steps)) * a_step
        first = self._epochs_done + asked
        rounds = sum(epoch >= first for epoch in self._round_epochs)
        left += rounds * (fmean(self._rounds) if self._rounds else 0.0)
        stage.expect(left, at_least=self._more_follows or (rounds > 0 and not self._rounds))
