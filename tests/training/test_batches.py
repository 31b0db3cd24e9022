"""Which images a step trains on: how many of each kind, and in endless passes."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from gendataagent.config import RunConfig, TrainingConfig
from gendataagent.core.errors import ConfigError
from gendataagent.training.batches import draw_batches

LABELS_N = torch.tensor([0, 1, 2, 3] * 10)  # 12 real images, 28 synthetic ones
REALS = 12


def config(**settings: object) -> TrainingConfig:
    return RunConfig.from_dict({"training": {"batch_size": 8, **settings}}).training


def synthetic(batches: list[torch.Tensor]) -> list[int]:
    return [int((batch >= REALS).sum()) for batch in batches]


def test_by_default_all_images_are_drawn_alike() -> None:
    batches = draw_batches(LABELS_N, REALS, config(), seed=1)
    assert [len(batch) for batch in batches] == [8] * 5
    assert sorted(torch.cat(batches).tolist()) == list(range(40))
    assert len(set(synthetic(batches))) > 1


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.25, [2] * 8), (0.5, [4] * 8), (0.3, [2, 3, 2, 3, 2, 2, 3, 2]), (0.01, [0] * 6 + [1, 0])],
)
def test_a_share_of_every_step_is_synthetic(share: float, expected: list[int]) -> None:
    settings = config(synthetic_share=share, steps_per_epoch=8)
    batches = draw_batches(LABELS_N, REALS, settings, seed=1)
    assert [len(batch) for batch in batches] == [8] * 8
    assert synthetic(batches) == expected
    taken = Counter(torch.cat(batches).tolist())
    for kind in (range(REALS), range(REALS, len(LABELS_N))):
        times = [taken[index] for index in kind]
        assert max(times) - min(times) <= 1  # passes over each kind


@pytest.mark.parametrize(("steps", "sizes"), [(0, [8] * 5), (7, [8] * 7)])
def test_a_share_leaves_the_number_of_steps(steps: int, sizes: list[int]) -> None:
    batches = draw_batches(LABELS_N, REALS, config(synthetic_share=0.25), seed=1, steps=steps)
    assert [len(batch) for batch in batches] == sizes
    assert synthetic(batches) == [2] * len(sizes)


@pytest.mark.parametrize("reals", [0, len(LABELS_N)])
def test_images_of_one_kind_are_drawn_as_without_a_share(reals: int) -> None:
    plain = draw_batches(LABELS_N, reals, config(), seed=3)
    shared = draw_batches(LABELS_N, reals, config(synthetic_share=0.5), seed=3)
    assert all(torch.equal(*pair) for pair in zip(plain, shared, strict=True))


def test_classes_are_balanced_within_each_kind() -> None:
    labels_N = torch.tensor([0] * 9 + [1] * 3 + [0] * 20 + [1] * 8)
    settings = config(synthetic_share=0.5, steps_per_epoch=6, class_balance="sampling")
    batches = torch.cat(draw_batches(labels_N, REALS, settings, seed=1))
    for kind in (batches < REALS, batches >= REALS):
        assert labels_N[batches[kind]].float().mean() == 0.5


def test_the_seed_decides() -> None:
    settings = config(synthetic_share=0.25)
    one, same, other = (
        torch.cat(draw_batches(LABELS_N, REALS, settings, seed=seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    "other", [{"sibling_replacement": 0.5}, {"real_images": False}], ids=["siblings", "no-real"]
)
def test_a_share_beside_another_way_to_set_it_is_refused(other: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"training\.synthetic_share"):
        config(synthetic_share=0.5, **other)
