"""training.batchnorm_from_real: batch normalisation takes its statistics from real images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from gendataagent.config import TrainingConfig
from gendataagent.core.errors import DataError
from gendataagent.data.pixels import Pixels
from gendataagent.training.classifier import Classifier
from gendataagent.training.trainer import Trainer

MakePixels = Callable[..., Pixels]
PLAIN = TrainingConfig(epochs=2, batch_size=8, learning_rate=0.05, augmentation="none",
                       colour_jitter=0.0, mixed_precision="no")  # fmt: skip


def trainer_of(module: nn.Module, seed: int = 0, config: TrainingConfig = PLAIN) -> Trainer:
    classifier = Classifier.wrap(module, class_names=("red", "green", "blue"), size_px=8)
    return Trainer(classifier, config, seed=seed)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Dropout(0.5), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.3), nn.Flatten(),
        nn.Linear(144, 3),
    )  # fmt: skip


def test_the_statistics_are_those_of_the_real_images(make_pixels: MakePixels) -> None:
    real = make_pixels(24)
    module = network()
    trainer = trainer_of(module)
    trainer.fit_epoch(1, real)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert trainer.recompute_batchnorm(real)
    after = module.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"2.running_mean", "2.running_var", "2.num_batches_tracked"}
    images = trainer.classifier.normalise(real.batch(torch.arange(24)).float() / 255)
    seen = module[1](images)  # every pass sees all 24 images, in whole batches
    assert torch.allclose(after["2.running_mean"], seen.mean(dim=(0, 2, 3)), atol=1e-5)
    assert module[2].momentum == 0.3


def test_modes_are_left_as_found_and_dropout_stays_off(make_pixels: MakePixels) -> None:
    module = network()
    module.train()
    module[2].eval()
    trainer = trainer_of(module)
    trainer.recompute_batchnorm(make_pixels(16))
    assert [layer.training for layer in module] == [True, True, False, True, True]


def test_the_same_seed_gives_the_same_bits_and_another_does_not(make_pixels: MakePixels) -> None:
    config = replace(PLAIN, colour_jitter=0.4)
    found = []
    for seed in (0, 0, 1):
        trainer = trainer_of(network(), seed, config)
        trainer.recompute_batchnorm(make_pixels(20))
        found.append(trainer.classifier.module.state_dict()["2.running_mean"])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_without_batch_normalisation_nothing_changes(make_pixels: MakePixels) -> None:
    trainer = trainer_of(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)))
    before = {k: v.clone() for k, v in trainer.classifier.module.state_dict().items()}
    assert not trainer.recompute_batchnorm(make_pixels(8))
    after = trainer.classifier.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_single_image_is_refused(make_pixels: MakePixels) -> None:
    with pytest.raises(DataError, match="at least 2 images, got 1"):
        trainer_of(network()).recompute_batchnorm(make_pixels(1))
