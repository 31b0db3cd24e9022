"""Training with mixed batches, RandAugment, soft labels, synthetic images alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gendataagent.config import TrainingConfig
from gendataagent.core.checkpoints import load_latest, save_checkpoint
from gendataagent.core.errors import DataError
from gendataagent.data.pixels import Pixels
from gendataagent.training.classifier import Classifier
from gendataagent.training.evaluation import evaluate
from gendataagent.training.trainer import Trainer
from tests.made_records import candidates_of

MakePixels = Callable[..., Pixels]
Network = Callable[[int], nn.Module]
KINDS: dict[str, dict[str, Any]] = {
    "mixup": {"mix": "mixup"},
    "cutmix": {"mix": "cutmix", "mix_probability": 0.5},
    "randaugment": {"randaugment_operations": 2},
    "soft labels": {"synthetic_label_smoothing": 0.3},
    "synthetic alone": {"real_images": False},
    "siblings": {"sibling_replacement": 0.5},
    "all of it": {"mix": "cutmix", "randaugment_operations": 1, "synthetic_weight": 0.5,
                  "synthetic_label_smoothing": 0.3, "sibling_replacement": 0.3},
}  # fmt: skip


def trainer_of(module: nn.Module, **settings: Any) -> Trainer:
    classifier = Classifier.wrap(module, class_names=("red", "green", "blue"), size_px=8)
    settings = {"epochs": 4, "batch_size": 8, "learning_rate": 0.05, **settings}
    return Trainer(classifier, TrainingConfig(**settings), seed=3)


def states(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.state()[0].items()}


def plain_linear() -> nn.Module:
    linear = nn.Linear(192, 3)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.Flatten(), linear)


class Recorder:
    """Pixels that write down which images were read."""

    def __init__(self, pixels: Pixels) -> None:
        self.batches: list[list[int]] = []

        def read(indices: Tensor) -> Tensor:
            self.batches.append(indices.tolist())
            return pixels.batch(indices)

        self.pixels = Pixels(read, pixels.labels, ids=pixels.ids, size_px=pixels.size_px)


@pytest.mark.parametrize("kind", KINDS)
def test_resumed_training_is_equal_to_the_bit(
    kind: str, network: Network, make_pixels: MakePixels, tmp_path: Path
) -> None:
    real, synthetic = make_pixels(21), make_pixels(10, seed=1)
    through = trainer_of(network(0), **KINDS[kind])
    made = candidates_of(synthetic, strength=0.8, sources=real.ids[:10])

    def train(trainer: Trainer, epoch: int) -> float:
        return trainer.fit_epoch(epoch, real, synthetic, candidates=made).loss

    losses = [train(through, epoch) for epoch in range(1, 5)]

    stopped = trainer_of(network(0), **KINDS[kind])
    for epoch in (1, 2):
        train(stopped, epoch)
    save_checkpoint(tmp_path, 2, *stopped.state())
    torch.rand(17)

    resumed = trainer_of(network(99), **KINDS[kind])
    found = load_latest(tmp_path)
    assert found is not None
    resumed.load_state(found.tensors, found.state)
    again = [train(resumed, epoch) for epoch in (3, 4)]
    assert again == losses[2:]
    end, other_end = states(through), states(resumed)
    assert all(torch.equal(end[name], other_end[name]) for name in end)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_differs_from_plain_training_and_learns(
    kind: str, network: Network, make_pixels: MakePixels
) -> None:
    plain, other = trainer_of(network(0)), trainer_of(network(0), **KINDS[kind])
    real, synthetic = make_pixels(90), make_pixels(60, seed=1)
    made = candidates_of(synthetic, sources=real.ids[:60])
    for epoch in range(1, 5):
        plain.fit_epoch(epoch, real, synthetic)
        other.fit_epoch(epoch, real, synthetic, candidates=made)
    one, two = states(plain), states(other)
    assert any(not torch.equal(one[name], two[name]) for name in one)
    assert evaluate(other.classifier, make_pixels(60, seed=5), "test").top1 > 0.8


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_the_loss_of_a_mixed_batch_is_divided_between_both_classes(
    mix: str, make_pixels: MakePixels
) -> None:
    """One step from 0 against the gradient by hand, for every image's two labels."""
    seen: list[Tensor] = []
    module = plain_linear()
    module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    settings: dict[str, Any] = {
        "epochs": 1, "batch_size": 6, "learning_rate": 0.1, "momentum": 0.0, "weight_decay": 0.0,
        "augmentation": "none", "colour_jitter": 0, "mix": mix,
    }  # fmt: skip
    trainer = trainer_of(module, **settings)
    pixels = make_pixels(6)
    loss = trainer.fit_epoch(1, pixels).loss
    assert loss == pytest.approx(math.log(3), rel=1e-5)
    clean = trainer.classifier.normalise(pixels.batch(torch.arange(6)).float() / 255).flatten(1)
    # Which two images, in which proportion, gave each of the batch's: found by least squares.
    weights_66 = torch.linalg.lstsq(clean.T, seen[0].flatten(1).T).solution.T
    if mix == "cutmix":
        close = (seen[0].flatten(1)[:, None] == clean[None]).float().mean(dim=2)
        weights_66 = torch.where(close > 0.02, close, torch.zeros(()))
    targets = weights_66 @ nn.functional.one_hot(pixels.labels, 3).float()
    gradient = (torch.full((6, 3), 1 / 3) - targets).T @ seen[0].flatten(1) / 6
    found = dict(module.named_parameters())["1.weight"].detach() / -0.1
    torch.testing.assert_close(found, gradient, atol=2e-2, rtol=2e-2)


def test_soft_labels_depend_on_weight_and_strength_and_leave_real_images_alone(
    make_pixels: MakePixels,
) -> None:
    trainer = trainer_of(
        plain_linear(), synthetic_label_smoothing=0.3, synthetic_weight=0.5, real_images=True
    )
    real, made = make_pixels(3), make_pixels(3, seed=1)
    records = [
        replace(c, strength=strength)
        for c, strength in zip(candidates_of(made), (0.0, 0.5, 1.0), strict=True)
    ]
    targets = trainer._targets(Pixels.concat([real, made]), 3, 6, records)
    expected = torch.eye(3).repeat(2, 1)
    expected[4:] = 0.5 * torch.tensor([[0.05, 0.9, 0.05], [0.1, 0.1, 0.8]])
    expected[3] *= 0.5
    torch.testing.assert_close(targets, expected)
    of_red = [replace(c, source_class="red", label_share=0.6) for c in records]
    mixed = trainer_of(plain_linear())._targets(Pixels.concat([real, made]), 3, 6, of_red)
    torch.testing.assert_close(mixed[3:], 0.6 * torch.eye(3) + 0.4 * torch.eye(3)[[0, 0, 0]])
    with pytest.raises(DataError, match="2 records but 3 synthetic images"):
        trainer.fit_epoch(1, real, made, candidates=records[:2])


def test_synthetic_images_alone_are_trained_on_when_asked_for(
    network: Network, make_pixels: MakePixels
) -> None:
    real, synthetic = Recorder(make_pixels(20)), make_pixels(12, seed=1)
    trainer = trainer_of(network(0), real_images=False)
    metrics = trainer.fit_epoch(1, real.pixels, synthetic)
    assert real.batches == []
    assert (metrics.real_images, metrics.synthetic_images) == (0, 12)
    for nothing in (None, make_pixels(0)):
        with pytest.raises(DataError, match=r"enabled=true and agent\.first_round_epoch=0"):
            trainer.fit_epoch(2, real.pixels, nothing)
