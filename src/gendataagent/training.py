"""Fitting the classifier, one epoch at a time, so that a resumed epoch is the same to the bit.

Whatever is random in an epoch (order, crops, dropout) is seeded by the run's seed and the epoch's
number; nothing carries over from the epoch before but weights and momentum.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.nn import functional

from gendataagent.augmentation import Augmenter
from gendataagent.classifier import Classifier
from gendataagent.config import AUTO, TrainingConfig
from gendataagent.errors import DataError, ModelError, TrainingDivergedError
from gendataagent.pixels import Pixels
from gendataagent.records import EpochMetrics, derive_seed

OnStep = Callable[[int, int, float], None]
"""Called with (steps done, steps of the epoch, loss of the last step)."""

MIN_BATCH = 2  # of a single picture BatchNorm cannot take statistics


class Trainer:
    """SGD with the paper's multistep schedule on real and synthetic pictures.

    Args:
        classifier: is trained in place, on its device.
        seed: the run's seed.

    Attributes:
        epochs_done: epochs trained so far.
        augmenter: what is done to the pictures; `augmenter.stored_px` is the size to store them at.
    """

    def __init__(self, classifier: Classifier, config: TrainingConfig, *, seed: int) -> None:
        self.classifier = classifier
        self.config = config
        self.seed = seed
        self.epochs_done = 0
        self.augmenter = Augmenter.from_config(config, classifier.size_px)
        self._accelerator = _accelerator(classifier.device, config.mixed_precision)
        # Only the optimizer is prepared: preparing the module would patch its forward for good.
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
        on_step: OnStep | None = None,
    ) -> EpochMetrics:
        """Train epoch number `epoch` (from 1) on the plain concatenation of both sets.

        Raises:
            DataError: fewer than two pictures, or a label that stands for no class.
            TrainingDivergedError: the loss is not a finite number.
        """
        started = time.perf_counter()
        parts = [part for part in (real, synthetic) if part is not None and len(part)]
        pixels = Pixels.concat(parts) if len(parts) > 1 else real
        if len(pixels) < MIN_BATCH:
            raise DataError(f"training needs at least {MIN_BATCH} pictures, got {len(pixels)}")
        self.classifier.check_labels(pixels)
        weights_N = torch.ones(len(pixels))
        weights_N[len(real) :] = self.config.synthetic_weight
        batches = self._batches(epoch, len(pixels))
        augmentation = torch.Generator().manual_seed(derive_seed(self.seed, "augment", epoch))
        loss_sum, images = 0.0, 0
        with _seeded(derive_seed(self.seed, "dropout", epoch), self.classifier.device):
            self.classifier.module.train()
            for step, (batch, stored_B3SS) in enumerate(pixels.stream(batches)):
                rate = self.learning_rate(epoch, step / len(batches))
                images_B3SS = self.augmenter(stored_B3SS.to(self.classifier.device), augmentation)
                loss = self._step(images_B3SS, pixels.labels[batch], weights_N[batch], rate)
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
            real_images=len(real),
            synthetic_images=len(pixels) - len(real),
            seconds=time.perf_counter() - started,
        )

    def learning_rate(self, epoch: int, progress: float = 0.0) -> float:
        """Return the learning rate in epoch number `epoch` (from 1), `progress` of it done."""
        config = self.config
        # The tolerance is for shares like 0.55 of 100 epochs, which is 55.00000000000001.
        drops = sum(epoch - 1 >= mark * config.epochs - 1e-9 for mark in config.decay_milestones)
        rate = config.learning_rate * config.decay_rate**drops
        trained = epoch - 1 + progress
        if trained < config.warmup_epochs:
            # Starts at a hundredth, not at 0, so that no step is wasted.
            rate *= max(0.01, trained / config.warmup_epochs)
        return rate

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return all that the next epoch depends on: tensors, and plain JSON values."""
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
        """Go back to what `state` returned; raise `ModelError` if it is of another classifier."""
        module = self.classifier.module
        weights = {k.removeprefix("model."): v for k, v in tensors.items() if k[:6] == "model."}
        momentum = {int(k[9:]): v for k, v in tensors.items() if k.startswith("momentum.")}
        try:
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

    def _step(self, images_B3SS: Tensor, labels_B: Tensor, weights_B: Tensor, rate: float) -> float:
        """Take one optimiser step; return the loss, the mean over the batch of weighted losses."""
        device = self.classifier.device
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        with self._accelerator.autocast():
            logits_BC = self.classifier.logits(images_B3SS)
        losses_B = functional.cross_entropy(
            logits_BC.float(), labels_B.to(device), reduction="none"
        )
        loss = (losses_B * weights_B.to(device)).mean()
        self._optimizer.zero_grad()
        self._accelerator.backward(loss)
        if self.config.gradient_clip > 0:
            self._accelerator.clip_grad_norm_(
                self.classifier.module.parameters(), self.config.gradient_clip
            )
        self._optimizer.step()
        return loss.item()

    def _batches(self, epoch: int, count: int) -> list[Tensor]:
        """Return the picture indices of each step of an epoch."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", epoch))
        size, steps = self.config.batch_size, self.config.steps_per_epoch
        if steps:
            passes = math.ceil(steps * size / count)
            order = torch.cat([torch.randperm(count, generator=generator) for _ in range(passes)])
            return list(torch.split(order[: steps * size], size))
        batches = list(torch.split(torch.randperm(count, generator=generator), size))
        if len(batches) > 1 and len(batches[-1]) < MIN_BATCH:
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches


def _divergence(loss: float, epoch: int, step: int, rate: float) -> str:
    return (
        f"the training loss became {loss} at epoch {epoch}, step {step}, learning rate {rate:g}. "
        "Lower training.learning_rate (try a tenth), or set training.warmup_epochs=5 or "
        "training.gradient_clip=1; with training.mixed_precision=fp16 also try bf16 or no"
    )


def _accelerator(device: torch.device, mixed_precision: str) -> Accelerator:
    """Return an Accelerator of this precision, whatever earlier ones in the process were."""
    if mixed_precision == AUTO:
        if device.type == "cuda":
            mixed_precision = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        else:
            mixed_precision = "no"
    settings = {"cpu": device.type == "cpu", "mixed_precision": mixed_precision}
    try:
        return Accelerator(**settings)
    except ValueError:
        # Accelerate keeps its settings once per process and refuses different ones.
        AcceleratorState._reset_state(reset_partial_state=True)
        return Accelerator(**settings)


@contextlib.contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators and choose repeatable kernels; restore both as found."""
    devices = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        torch.backends.cudnn.flags(benchmark=False, deterministic=True),
    ):
        torch.manual_seed(seed)
        yield
