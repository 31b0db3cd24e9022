"""Rounds of the agent inside `transformers.Trainer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from gendataagent.core.launch import check_own_loop

if TYPE_CHECKING:
    from gendataagent.agent.real_and_synthetic import RealAndSynthetic

_ROUNDING = 1e-6  # of the Trainer's epoch, which counts steps as fractions


class TransformersCallback(TrainerCallback):  # type: ignore[misc] # transformers is not followed
    """Begins each epoch of a `RealAndSynthetic`; `RealAndSynthetic.transformers_callback` makes it.

    A training that the Trainer resumes from a checkpoint continues with the rounds of the folder.
    """

    def __init__(self, both: RealAndSynthetic) -> None:
        self._both = both

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check that the Trainer's plan is the agent's; raise `ConfigError` otherwise."""
        check_own_loop(args.world_size)
        self._both.check_epochs(state.num_train_epochs, "the Trainer (num_train_epochs, max_steps)")

    def on_epoch_begin(
        self, args: Any, state: Any, control: Any, *, model: Any, **kwargs: Any
    ) -> None:
        """Run a round if one is due."""
        self._both.begin_epoch(model, int(state.epoch + _ROUNDING))
