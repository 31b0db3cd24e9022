"""Training the classifier one epoch at a time, so that a resumed epoch is the same to the bit.

Everything random in an epoch (order, crops, mixing, dropout) is seeded by the run's seed and the
epoch's number; only weights and momentum carry over from the previous epoch.

With a `Partners` several processes share each step. The leader reads, augments and mixes the whole
batch as a single process does, and gives the others their parts.

Letters in tensor names: N images, B images of a batch, C classes, S side in px.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from gendataagent.config import TrainingConfig
from gendataagent.core.devices import (
    accelerator_of,
    memory_errors,
    repeatable_kernels,
    training_precision,
)
from gendataagent.core.errors import DataError, ModelError, TrainingDivergedError
from gendataagent.core.records import Candidate, EpochMetrics, derive_seed
from gendataagent.data.pixels import Pixels
from gendataagent.training.augmentation import Augmenter
from gendataagent.training.batches import MIN_BATCH, draw_batches, endless
from gendataagent.training.classifier import Classifier
from gendataagent.training.mixing import Mixer
from gendataagent.training.sharing import Part
from gendataagent.training.siblings import with_siblings

OnStep = Callable[[int, int, float], None]
"""Called with (steps done, steps of the epoch, loss of the last step)."""

BATCHNORM_PASSES = 4
_LESS_MEMORY = (
    "end other programs that use it and resume with --resume, or start a new run with a lower "
    "training.batch_size"
)


Step = tuple[int, float]
"""Images of an optimiser step, and its learning rate."""


class Partners(Protocol):
    """Other processes that share the steps of an epoch."""

    def epoch(
        self, trainer: Trainer, epoch: int, steps: Sequence[Step]
    ) -> AbstractContextManager[Callable[[int], Part]]:
        """Let the others take part in `steps`, with the weights and momentum of `trainer`.

        Yields:
            A function: images of a batch -> this process's part of it.
        """
        ...


class Trainer:
    """SGD with the paper's multistep schedule on real and synthetic images.

    Args:
        classifier: is trained in place, on its device.
        seed: the run's seed.
        partners: other processes that share each step; None = this one alone.

    Attributes:
        epochs_done: epochs trained so far.
        augmenter: the augmentation; `augmenter.stored_px` is the size to store images at.
    """

    def __init__(
        self,
        classifier: Classifier,
        config: TrainingConfig,
        *,
        seed: int,
        partners: Partners | None = None,
    ) -> None:
        self.classifier = classifier
        self._partners = partners
        self.config = config
        self.seed = seed
        self.epochs_done = 0
        self.augmenter = Augmenter.from_config(config, classifier.size_px)
        self._accelerator = accelerator_of(
            classifier.device, training_precision(config.mixed_precision, classifier.device)
        )
        # Only the optimizer is prepared: preparing the module would patch its forward permanently.
        self._optimizer = self._accelerator.prepare_optimizer(
            torch.optim.SGD(
                classifier.module.parameters(),
                lr=config.learning_rate,
                momentum=config.momentum,
                nesterov=config.nesterov and config.momentum > 0,
                weight_decay=config.weight_decay,
            )
        )

    def fit_epoch(
        self,
        epoch: int,
        real: Pixels,
        synthetic: Pixels | None = None,
        *,
        candidates: Sequence[Candidate] = (),
        steps: int = 0,
        on_step: OnStep | None = None,
    ) -> EpochMetrics:
        """Train epoch number `epoch` (from 1) on the plain concatenation of both sets.

        With training.synthetic_share a fixed share of every step is synthetic; with
        training.real_images = false it trains on `synthetic` alone; with
        training.sibling_replacement on as many images as there are real ones.

        Args:
            candidates: the record of each synthetic image, for soft labels and
                training.sibling_replacement; () = hard labels, and each image is as any other.
            steps: optimiser steps, where training.steps_per_epoch leaves them open; 0 = one pass.

        Raises:
            DataError: fewer than two images, a label that is not the index of a class, or not one
                record for each synthetic image.
            TrainingDivergedError: the loss is not a finite number.
            MemoryShortError: a batch does not fit into the memory.
            TrainingProcessError: another process that takes part has ended.
        """
        started = time.perf_counter()
        pixels, reals = self._joined(real, synthetic)
        self._check_records(len(pixels) - reals, candidates)
        counted = reals if reals and self.config.sibling_replacement else len(pixels)
        targets_NC = self._targets(pixels, reals, counted, candidates)
        batches = draw_batches(
            pixels.labels[:counted],
            min(reals, counted),
            self.config,
            seed=derive_seed(self.seed, "order", epoch),
            steps=steps,
        )
        if counted < len(pixels):
            batches = with_siblings(
                batches,
                real.ids,
                [candidate.source_id for candidate in candidates],
                self.config.sibling_replacement,
                derive_seed(self.seed, "siblings", epoch),
            )
        augmentation = torch.Generator().manual_seed(derive_seed(self.seed, "augment", epoch))
        mixer = Mixer.from_config(self.config, derive_seed(self.seed, "mix", epoch))
        rates = [self.learning_rate(epoch, step / len(batches)) for step in range(len(batches))]
        loss_sum, images = 0.0, 0
        with (
            self._shared(epoch, batches, rates) as part_of,
            self._in_training(epoch),
        ):
            for step, (batch, stored_B3SS) in enumerate(pixels.stream(batches)):
                rate, part = rates[step], part_of(len(batch))
                images_B3SS = self.augmenter(stored_B3SS.to(self.classifier.device), augmentation)
                targets_BC = targets_NC[batch]
                if mixer is not None:
                    mixed = mixer(images_B3SS)
                    images_B3SS, targets_BC = mixed.images_B3SS, mixed.divide(targets_BC)
                targets_BC = targets_BC.to(self.classifier.device)
                if part is not None:
                    images_B3SS, targets_BC = part.give(images_B3SS), part.give(targets_BC)
                loss = self._step(images_B3SS, targets_BC, rate, part)
                if not math.isfinite(loss):
                    raise TrainingDivergedError(_divergence(loss, epoch, step + 1, rate))
                loss_sum += loss * len(batch)
                images += len(batch)
                if on_step is not None:
                    on_step(step + 1, len(batches), loss)
        self.epochs_done = epoch
        return EpochMetrics(
            epoch=epoch,
            loss=loss_sum / images,
            learning_rate=rate,
            optimizer_steps=len(batches),
            real_images=reals,
            synthetic_images=len(pixels) - reals,
            seconds=time.perf_counter() - started,
        )

    def follow_epoch(
        self, epoch: int, steps: Sequence[Step], part_of: Callable[[int], Part]
    ) -> None:
        """Take this process's part in the epoch of a leader, which gives it images and targets."""
        image = (3, self.classifier.size_px, self.classifier.size_px)
        classes, device = len(self.classifier.class_names), self.classifier.device
        with self._in_training(epoch):
            for images, rate in steps:
                part = part_of(images)
                images_b3SS = part.receive(*image, device=device)
                targets_bC = part.receive(classes, device=device)
                self._step(images_b3SS, targets_bC, rate, part)

    @contextlib.contextmanager
    def _shared(
        self, epoch: int, batches: Sequence[Tensor], rates: Sequence[float]
    ) -> Iterator[Callable[[int], Part | None]]:
        """Yield a function: images of a batch -> this process's part, None = all of it."""
        if self._partners is None:
            yield lambda _: None
            return
        steps = [(len(batch), rate) for batch, rate in zip(batches, rates, strict=True)]
        with self._partners.epoch(self, epoch, steps) as part_of:
            yield part_of

    @contextlib.contextmanager
    def _in_training(self, epoch: int) -> Iterator[None]:
        with _seeded(derive_seed(self.seed, "dropout", epoch), self.classifier.device):
            self.classifier.module.train()
            yield

    def recompute_batchnorm(self, real: Pixels) -> bool:
        """Recompute the running statistics of batch normalisation from real images alone.

        They are plain means over `BATCHNORM_PASSES` passes, augmented as in training; weights are
        unchanged. Return False, and change nothing, where there is no such layer. Source: ours;
        AdvProp (Xie et al., CVPR 2020) keeps separate statistics during training.

        Raises:
            DataError: fewer than two images.
        """
        module = self.classifier.module
        layers = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        layers = [layer for layer in layers if layer.track_running_stats]
        if not layers:
            return False
        if len(real) < MIN_BATCH:
            raise DataError(
                f"batch normalisation needs at least {MIN_BATCH} images, got {len(real)}"
            )
        momenta = [layer.momentum for layer in layers]
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the mean over all batches
        augmentation = torch.Generator().manual_seed(derive_seed(self.seed, "batchnorm"))
        modes = [(part, part.training) for part in module.modules()]
        size = min(self.config.batch_size, len(real))
        order = endless(torch.arange(len(real)), BATCHNORM_PASSES * len(real), augmentation)
        try:
            module.eval()  # dropout stays off
            for layer in layers:
                layer.train()
            with torch.no_grad(), self._accelerator.autocast():
                for batch in order.split(size):
                    if len(batch) == size:
                        images_B3SS = real.batch(batch).to(self.classifier.device)
                        self.classifier.logits(self.augmenter(images_B3SS, augmentation))
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum
            for part, training in modes:
                part.training = training
        return True

    def learning_rate(self, epoch: int, progress: float = 0.0) -> float:
        """Return the learning rate in epoch number `epoch` (from 1), `progress` of it done."""
        config = self.config
        # The tolerance is for shares like 0.55 of 100 epochs, which is 55.00000000000001.
        drops = sum(epoch - 1 >= mark * config.epochs - 1e-9 for mark in config.decay_milestones)
        rate = config.learning_rate * config.decay_rate**drops
        trained = epoch - 1 + progress
        if trained < config.warmup_epochs:
            # Start at a hundredth, not at 0, so that no step is wasted.
            rate *= max(0.01, trained / config.warmup_epochs)
        return rate

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return everything the next epoch depends on: tensors, and plain JSON values."""
        tensors = {f"model.{k}": v for k, v in self.classifier.module.state_dict().items()}
        for index, buffers in self._optimizer.state_dict()["state"].items():
            if buffers.get("momentum_buffer") is not None:
                tensors[f"momentum.{index}"] = buffers["momentum_buffer"]
        scaler = self._accelerator.scaler
        return tensors, {
            "epochs_done": self.epochs_done,
            "loss_scaler": scaler.state_dict() if scaler is not None else None,
        }

    def load_state(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Restore what `state` returned; raise `ModelError` if it is of another classifier."""
        module = self.classifier.module
        weights = {k.removeprefix("model."): v for k, v in tensors.items() if k[:6] == "model."}
        momentum = {int(k[9:]): v for k, v in tensors.items() if k.startswith("momentum.")}
        try:
            with memory_errors("loading a checkpoint", _LESS_MEMORY):
                module.load_state_dict(weights)
        except RuntimeError as error:
            raise ModelError(
                f"this checkpoint is of another classifier than {type(module).__name__}: {error}"
            ) from error
        optimizer = self._optimizer.state_dict()
        optimizer["state"] = {
            index: {"momentum_buffer": value.to(self.classifier.device)}
            for index, value in momentum.items()
        }
        self._optimizer.load_state_dict(optimizer)
        if self._accelerator.scaler is not None and state["loss_scaler"] is not None:
            self._accelerator.scaler.load_state_dict(state["loss_scaler"])
        self.epochs_done = int(state["epochs_done"])

    def _joined(self, real: Pixels, synthetic: Pixels | None) -> tuple[Pixels, int]:
        """Return the images of an epoch, real ones first, and how many of them are real."""
        some_synthetic = synthetic is not None and len(synthetic) > 0
        if not self.config.real_images:
            if synthetic is None or not some_synthetic:
                raise DataError(
                    "training.real_images is false, but there are no synthetic images yet; set "
                    "agent.enabled=true and agent.first_round_epoch=0, so that a round runs "
                    "before the first epoch"
                )
            pixels, reals = synthetic, 0
        elif synthetic is not None and some_synthetic:
            pixels, reals = Pixels.concat([real, synthetic]), len(real)
        else:
            pixels, reals = real, len(real)
        if len(pixels) < MIN_BATCH:
            raise DataError(f"training needs at least {MIN_BATCH} images, got {len(pixels)}")
        self.classifier.check_labels(pixels)
        return pixels, reals

    def _check_records(self, images: int, candidates: Sequence[Candidate]) -> None:
        config = self.config
        needed = config.sibling_replacement > 0 or config.synthetic_label_smoothing > 0
        if len(candidates) != images and (candidates or (images and needed)):
            raise DataError(
                f"{len(candidates)} records but {images} synthetic images; "
                "training.sibling_replacement and training.synthetic_label_smoothing need to know "
                "how each was made: fit_epoch(..., candidates=synthetic.candidates)"
            )

    def _targets(
        self, pixels: Pixels, reals: int, counted: int, candidates: Sequence[Candidate]
    ) -> Tensor:
        """Return the targets of cross-entropy, [N, C]: soft labels times loss weight.

        Args:
            reals: how many of the images are real; these come first.
            counted: by how many of the images, from the first, classes are balanced.
        """
        targets_NC = functional.one_hot(pixels.labels, len(self.classifier.class_names)).float()
        made_MC = targets_NC[reals:]  # a view
        index_of = {name: index for index, name in enumerate(self.classifier.class_names)}
        for row, candidate in enumerate(candidates):
            if candidate.source_class is not None:
                made_MC[row] *= candidate.label_share
                made_MC[row, index_of[candidate.source_class]] += 1 - candidate.label_share
        smoothing = self.config.synthetic_label_smoothing
        if smoothing > 0 and len(made_MC):
            strength_M1 = torch.tensor([c.strength for c in candidates])[:, None]
            uniform_MC = torch.full_like(made_MC, 1 / made_MC.shape[1])
            made_MC.copy_(torch.lerp(made_MC, uniform_MC, smoothing * strength_M1))
        made_MC *= self.config.synthetic_weight
        if self.config.class_balance == "weights":
            targets_NC *= class_weights(pixels.labels, pixels.labels[:counted])[:, None]
        return targets_NC

    def _step(
        self, images_B3SS: Tensor, targets_BC: Tensor, rate: float, part: Part | None
    ) -> float:
        """Take one optimiser step; return the loss, the mean over the batch of weighted losses.

        Args:
            part: what of the whole batch the images are; None = all of it.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        module = self.classifier.module
        with memory_errors(f"training with batches of {len(images_B3SS)}", _LESS_MEMORY):
            if part is None:
                loss = self._losses(images_B3SS, targets_BC).mean()
            elif len(images_B3SS):
                with part.layers():
                    loss = self._losses(images_B3SS, targets_BC).sum() / part.images
            else:
                loss = torch.zeros((), device=self.classifier.device, requires_grad=True)
            self._optimizer.zero_grad()
            self._accelerator.backward(loss)
            total = loss.item() if part is None else part.add_up(module.parameters(), loss)
            if self.config.gradient_clip > 0:
                self._accelerator.clip_grad_norm_(module.parameters(), self.config.gradient_clip)
            self._optimizer.step()
        return total

    def _losses(self, images_B3SS: Tensor, targets_BC: Tensor) -> Tensor:
        """Return the weighted loss of each image, [B]."""
        with self._accelerator.autocast():
            logits_BC = self.classifier.logits(images_B3SS)
        return -(targets_BC * functional.log_softmax(logits_BC.float(), dim=1)).sum(dim=1)


def class_weights(labels_N: Tensor, counted: Tensor | None = None) -> Tensor:
    """Return the weight of each image, [N]: every class weighs the same, and the mean is 1.

    Args:
        counted: the labels by which classes are weighed; None = `labels_N`.
    """
    counted = labels_N if counted is None else counted
    images_C = torch.bincount(counted, minlength=int(labels_N.max()) + 1)
    weights_C = len(counted) / ((images_C > 0).sum() * images_C.clamp(min=1))
    return weights_C[labels_N]


def _divergence(loss: float, epoch: int, step: int, rate: float) -> str:
    return (
        f"the training loss became {loss} at epoch {epoch}, step {step}, learning rate {rate:g}. "
        "Lower training.learning_rate (try a tenth), or set training.warmup_epochs=5 or "
        "training.gradient_clip=1; with training.mixed_precision=fp16 also try bf16 or no"
    )


@contextlib.contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators and choose repeatable kernels; restore both."""
    devices = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        repeatable_kernels(device),
    ):
        torch.manual_seed(seed)
        yield
