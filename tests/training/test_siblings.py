"""Real images replaced by images made from them: how often, by which, and what else stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gendataagent.config import RunConfig, TrainingConfig
from gendataagent.core.errors import ConfigError, DataError
from gendataagent.data.pixels import Pixels
from gendataagent.training.classifier import Classifier
from gendataagent.training.siblings import with_siblings
from gendataagent.training.trainer import Trainer
from tests.made_records import candidates_of

MakePixels = Callable[..., Pixels]
Network = Callable[[int], nn.Module]

REAL = ("a", "b", "c", "d")
SOURCES = ("b", "d", "b", "b", "gone", "d")  # a and c have no siblings
OF_B, OF_D = {4, 6, 7}, {5, 9}


def replaced(probability: float, *, passes: int = 1, seed: int = 0) -> list[list[int]]:
    batches = [torch.arange(4)] * passes
    return [b.tolist() for b in with_siblings(batches, REAL, SOURCES, probability, seed)]


def test_an_image_is_replaced_by_one_of_its_own_siblings_or_stays() -> None:
    for a, b, c, d in replaced(1.0, passes=50):
        assert (a, c) == (0, 2)
        assert b in OF_B
        assert d in OF_D
    assert {row[1] for row in replaced(1.0, passes=50)} == OF_B
    assert replaced(0.0, passes=3) == [[0, 1, 2, 3]] * 3


def test_each_sibling_is_as_likely_and_the_share_is_the_probability() -> None:
    rows = torch.tensor(replaced(0.3, passes=20_000))
    assert (rows[:, 1] != 1).float().mean().item() == pytest.approx(0.3, abs=0.01)
    counts = [(rows[:, 1] == sibling).sum().item() for sibling in OF_B]
    assert counts == pytest.approx([2000] * 3, rel=0.08)


def test_the_seed_decides_and_batches_do_not_matter_to_what_came_before() -> None:
    assert replaced(0.5, passes=9, seed=4) == replaced(0.5, passes=9, seed=4)
    assert replaced(0.5, passes=9, seed=4) != replaced(0.5, passes=9, seed=5)
    assert replaced(0.5, passes=9)[:4] == replaced(0.5, passes=4)


def pixels_of(level: int, count: int, prefix: str) -> Pixels:
    images = torch.full((count, 3, 8, 8), level, dtype=torch.uint8)
    ids = [f"{prefix}{i}" for i in range(count)]
    return Pixels(images.__getitem__, [i % 3 for i in range(count)], ids=ids, size_px=8)


def trained(network: Network, epoch: int = 1, **settings: object) -> tuple[int, Tensor, int]:
    """Return the steps of an epoch, the mean level of its images, and how many they were."""
    seen: list[Tensor] = []
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].mean((1, 2, 3))))
    classifier = Classifier.wrap(module, class_names=("a", "b", "c"), size_px=8,
                                 mean=(0, 0, 0), std=(1, 1, 1))  # fmt: skip
    config = TrainingConfig(
        epochs=2, batch_size=6, augmentation="none", colour_jitter=0, **settings,  # type: ignore[arg-type]
    )  # fmt: skip
    real, made = pixels_of(0, 30, "r"), pixels_of(255, 60, "m")
    records = candidates_of(made, sources=[f"r{i // 2}" for i in range(60)])
    metrics = Trainer(classifier, config, seed=1).fit_epoch(epoch, real, made, candidates=records)
    levels = torch.cat(seen)
    assert (metrics.real_images, metrics.synthetic_images) == (30, 60)
    return metrics.optimizer_steps, levels, len(levels)


def test_an_epoch_has_the_steps_of_the_real_images_and_the_share_of_synthetic_ones(
    network: Network,
) -> None:
    steps, levels, images = trained(network, sibling_replacement=0.5)
    assert (steps, images) == (5, 30)  # 15 with both
    assert 0.25 < levels.mean().item() < 0.75
    assert trained(network)[::2] == (15, 90)
    assert trained(network, sibling_replacement=1.0)[1].mean().item() == pytest.approx(1)
    again = trained(network, sibling_replacement=0.5)[1]
    assert torch.equal(levels, again)
    assert not torch.equal(levels, trained(network, epoch=2, sibling_replacement=0.5)[1])


@pytest.mark.parametrize("balance", ["weights", "sampling"])
def test_classes_are_balanced_by_the_real_images_alone(balance: str, network: Network) -> None:
    steps, _, images = trained(network, sibling_replacement=0.5, class_balance=balance)
    assert (steps, images) == (5, 30)


def test_it_needs_to_know_what_each_image_was_made_from(
    network: Network, make_pixels: MakePixels
) -> None:
    classifier = Classifier.wrap(network(0), class_names=("a", "b", "c"), size_px=8)
    trainer = Trainer(classifier, TrainingConfig(batch_size=4, sibling_replacement=0.5), seed=0)
    with pytest.raises(DataError, match=r"0 records but 5 synthetic.*candidates=synthetic\.cand"):
        trainer.fit_epoch(1, make_pixels(8), make_pixels(5))
    assert trainer.fit_epoch(1, make_pixels(8)).optimizer_steps == 2  # before the first round


def test_without_real_images_there_is_nothing_to_replace() -> None:
    tree = {"training": {"sibling_replacement": 0.5, "real_images": False},
            "agent": {"first_round_epoch": 0}}  # fmt: skip
    with pytest.raises(ConfigError, match=r"real_images = false trains on none"):
        RunConfig.from_dict(tree)
