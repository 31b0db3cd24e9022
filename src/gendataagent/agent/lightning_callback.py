"""Rounds of the agent inside `lightning.Trainer`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import nn

from gendataagent.core.errors import ConfigError
from gendataagent.core.launch import check_own_loop

try:
    from lightning.pytorch import Callback
except ImportError:
    try:
        from pytorch_lightning import Callback
    except ImportError as error:
        raise ConfigError(
            "lightning_callback needs Lightning, not installed here; install it with: "
            "pip install lightning"
        ) from error

if TYPE_CHECKING:
    from gendataagent.agent.real_and_synthetic import RealAndSynthetic


class LightningCallback(Callback):  # type: ignore[misc] # Lightning is optional
    """Begins each epoch of a `RealAndSynthetic`; `RealAndSynthetic.lightning_callback` makes it.

    Args:
        network: LightningModule -> the module that returns logits; None = itself.
    """

    def __init__(
        self, both: RealAndSynthetic, network: Callable[[Any], nn.Module] | None = None
    ) -> None:
        super().__init__()
        self._both, self._network = both, network

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Check that the trainer's plan is the agent's, and begin the first epoch.

        `on_train_epoch_start` is not called for an epoch that is resumed in its middle.

        Raises:
            ConfigError: several processes train, or other epochs than the agent has planned.
        """
        check_own_loop(trainer.world_size)
        if not trainer.fast_dev_run:
            self._both.check_epochs(trainer.max_epochs, "Lightning's Trainer (max_epochs)")
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Run a round if one is due."""
        model = pl_module if self._network is None else self._network(pl_module)
        self._both.begin_epoch(model, trainer.current_epoch)
