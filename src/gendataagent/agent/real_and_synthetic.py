"""The training set of another library's training loop: real images, and the agent's, by epoch.

    agent = Agent.open(train_set, out="runs/own", epochs=40, rounds=5, generator=...)
    both = RealAndSynthetic(agent, train_set)
    Trainer(model, arguments, train_dataset=both, callbacks=[both.transformers_callback()]).train()

An epoch has the same number of images from first to last, so that the number of optimiser steps and
the learning rates are known before the training, and a loader made once stays right.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from multiprocessing import parent_process
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn
from torch.utils.data import Dataset, get_worker_info

from gendataagent.agent.agent import Agent
from gendataagent.agent.synthetic import SyntheticImages, with_drawn_labels
from gendataagent.core.errors import ConfigError, DataError
from gendataagent.core.launch import check_own_loop
from gendataagent.core.records import derive_seed
from gendataagent.data.train_set import check_same_labels
from gendataagent.training.batches import endless
from gendataagent.training.siblings import with_siblings

if TYPE_CHECKING:
    from gendataagent.agent.lightning_callback import LightningCallback
    from gendataagent.agent.transformers_callback import TransformersCallback

# Positions in the memory that this process shares with the workers of its data loaders.
_STATUS, _EPOCH, _READ, _BY_HAND, _ROUNDS = 0, 1, 2, 3, 4
_NOT_BEGUN, _BEGINNING, _BEGUN = 0, 1, 2
FIRST_EPOCH_WITHIN_S = 60
_POLL_S = 0.02


class RealAndSynthetic(Dataset[Any]):
    """Real and synthetic images as one data set of constant length, whose content changes by epoch.

    Each epoch is `epoch_images` of all images at hand, drawn without replacement, by a seed of its
    own: a resumed epoch has the same ones. Before the first round they are the real images.
    `begin_epoch` runs a round when one is due; the callbacks call it. Workers of a data loader,
    persistent ones too, follow by themselves.

    Args:
        agent: of the same `train_set`.
        train_set: what the model is trained on without the agent, with its transforms. Items are
            its items, synthetic ones in the same form.
        epoch_images: None = as many as `train_set` has, and so as many steps as without the agent.
        transform: applied to the image of each (image, label), after the set's own; timm's
            `create_loader` sets it.

    Raises:
        DataError: `train_set` is not the agent's: of another length, or of other classes.
        ConfigError: `epoch_images` below 1; or several processes train.
    """

    def __init__(
        self,
        agent: Agent,
        train_set: Any,
        *,
        epoch_images: int | None = None,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        check_own_loop()
        if len(train_set) != len(agent.images):
            raise DataError(
                f"train_set has {len(train_set)} images, the agent was opened with "
                f"{len(agent.images)}. Give both the same set"
            )
        check_same_labels(train_set, agent.train_set)
        if epoch_images is not None and epoch_images < 1:
            raise ConfigError(f"epoch_images must be at least 1, got {epoch_images}")
        self.transform = transform
        self._agent: Agent | None = agent
        self._pool, self._seed = agent.pool, agent.config.seed
        self._training, self._real_ids = agent.config.training, tuple(agent.images.ids)
        self._train_set = train_set
        self._length = epoch_images or len(train_set)
        shared = torch.zeros(_ROUNDS + 1 + len(agent.schedule.round_epochs), dtype=torch.int64)
        self._shared = shared.share_memory_()
        self._epoch = -1
        self._synthetic = self._labelled = agent.pool.kept([])
        self._order_L = torch.empty(0, dtype=torch.int64)

    @property
    def synthetic(self) -> SyntheticImages:
        """The synthetic images of this epoch's draw."""
        return self._synthetic

    def begin_epoch(self, model: nn.Module, epoch: int) -> SyntheticImages:
        """Run a round if one is due, and draw the images of an epoch; return the synthetic ones.

        Call it before every epoch, in a loop of your own or through a callback.

        Args:
            model: as for `Agent.ask`; left as found.
            epoch: epochs trained so far.

        Raises:
            RunFolderError: the folder lacks what this training has made before `epoch`.
            ConfigError: several processes train, or no image was read in the epoch before.
        """
        if self._agent is None:
            raise ConfigError("begin_epoch is for the process that trains, not for its workers")
        if distributed.is_available() and distributed.is_initialized():
            check_own_loop(distributed.get_world_size())
        if epoch == self._epoch:
            return self._synthetic
        if 0 <= self._epoch < epoch and not self._shared[_READ]:
            raise ConfigError(
                "no image of this data set was read in the last epoch, so that no synthetic one "
                "can enter training. Give your trainer or data loader the RealAndSynthetic set in "
                f"place of the train set; with drop_last, batches of at most {len(self)} images"
            )
        self._shared[_STATUS] = _BEGINNING
        try:
            self._agent.catch_up(model, epoch=epoch)
            synthetic = self._agent.ask(model, epoch=epoch)
        except BaseException:
            self._shared[_STATUS] = _NOT_BEGUN  # workers that wait end
            raise
        rounds = sorted({candidate.round for candidate in synthetic.candidates})
        self._shared[_EPOCH], self._shared[_READ] = epoch, 0
        self._shared[_BY_HAND], self._shared[_ROUNDS] = self._agent.by_hand.size, len(rounds)
        self._shared[_ROUNDS + 1 : _ROUNDS + 1 + len(rounds)] = torch.tensor(rounds)
        self._draw(epoch, synthetic)
        self._shared[_STATUS] = _BEGUN
        return synthetic

    def check_epochs(self, epochs: int | None, trainer: str) -> None:
        """Raise `ConfigError` unless a trainer trains the epochs that the agent has planned for."""
        if epochs != (planned := self._training.epochs):
            raise ConfigError(
                f"{trainer} trains {epochs} epochs, the agent plans its rounds for {planned}. Give "
                f"both the same number: Agent.open(..., epochs={epochs})"
                if epochs is not None and epochs > 0
                else f"{trainer} has no number of epochs, which the agent needs to plan its "
                f"rounds: set it to {planned}"
            )

    def transformers_callback(self) -> TransformersCallback:
        """Return the callback for `transformers.Trainer`."""
        from gendataagent.agent.transformers_callback import TransformersCallback

        return TransformersCallback(self)

    def lightning_callback(
        self, network: Callable[[Any], nn.Module] | None = None
    ) -> LightningCallback:
        """Return the callback for `lightning.Trainer`.

        Args:
            network: LightningModule -> the module that returns logits; None = itself.

        Raises:
            ConfigError: Lightning is not installed.
        """
        from gendataagent.agent.lightning_callback import LightningCallback

        return LightningCallback(self, network)

    def __len__(self) -> int:
        """Return the number of images of an epoch, the same for all."""
        return self._length

    def __getitem__(self, index: int) -> Any:
        """Return image `index` of this epoch, real or synthetic, as the train set's items are.

        Raises:
            IndexError: no such position.
            ConfigError: no epoch has begun.
        """
        self._follow()
        self._shared[_READ] = 1
        position = int(self._order_L[index])
        real = len(self._train_set)
        item = self._train_set[position] if position < real else self._labelled[position - real]
        if self.transform is None:
            return item
        if isinstance(item, Mapping):
            raise ConfigError(
                "transform is for items (image, label); these are rows of a datasets.Dataset: give "
                "that a transform (set_transform) and leave this one None"
            )
        image, *rest = item
        return (self.transform(image), *rest)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a worker process needs: no model is sent to it."""
        return {**self.__dict__, "_agent": None}

    def _draw(self, epoch: int, synthetic: SyntheticImages) -> None:
        """Choose the images of an epoch, each as often as any other, give or take one.

        With training.synthetic_share that holds for each kind; with training.sibling_replacement
        for real images, of which some are replaced by their synthetic ones. A soft label is drawn:
        the expected loss and gradient are those of the soft one.
        """
        generator = torch.Generator().manual_seed(derive_seed(self._seed, "own-epoch", epoch))
        real, both = len(self._train_set), len(self._train_set) + len(synthetic)
        images, share = torch.arange(both), self._training.synthetic_share
        if self._training.sibling_replacement:
            (self._order_L,) = with_siblings(
                [endless(images[:real], self._length, generator)],
                self._real_ids,
                [candidate.source_id for candidate in synthetic.candidates],
                self._training.sibling_replacement,
                derive_seed(self._seed, "own-siblings", epoch),
            )
        elif share and both > real:
            made = round(share * self._length)
            parts = [endless(images[:real], self._length - made, generator),
                     endless(images[real:], made, generator)]  # fmt: skip
            self._order_L = endless(torch.cat(parts), self._length, generator)
        else:
            self._order_L = endless(images, self._length, generator)
        self._epoch, self._synthetic = epoch, synthetic
        self._labelled = with_drawn_labels(synthetic, derive_seed(self._seed, "own-labels", epoch))

    def _follow(self) -> None:
        """Take over the epoch that the training process has begun; wait for it in a worker."""
        if get_worker_info() is not None:
            self._wait()
        if self._shared[_STATUS] != _BEGUN:
            raise ConfigError(
                "no epoch has begun: give your trainer the callback (transformers_callback() or "
                "lightning_callback()), or call begin_epoch(model, epoch) before each epoch"
            )
        if (epoch := int(self._shared[_EPOCH])) != self._epoch:
            first = _ROUNDS + 1
            rounds = self._shared[first : first + int(self._shared[_ROUNDS])].tolist()
            by_hand = self._pool.by_hand(int(self._shared[_BY_HAND]))
            self._draw(epoch, self._pool.kept(rounds, by_hand))

    def _wait(self) -> None:
        # Lightning starts workers before it announces the first epoch; a round may then take hours.
        deadline = time.monotonic() + FIRST_EPOCH_WITHIN_S
        trains = parent_process()
        while (status := int(self._shared[_STATUS])) != _BEGUN:
            if status == _NOT_BEGUN and time.monotonic() > deadline:
                return
            if trains is not None and not trains.is_alive():
                return
            time.sleep(_POLL_S)
