"""The distance against its definition and against theory, and its standard error."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gendataagent.core.errors import DataError
from gendataagent.generation.adaptation.mmd import KernelMMD, latent_features


def normal(count: int, width: int = 1, *, seed: int, mean: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator) + mean


def by_definition(own: Tensor, reference: Tensor, bandwidth: float) -> float:
    def kernel(x: Tensor, y: Tensor) -> float:
        return math.exp(-float((x - y).double().square().sum()) / (2 * bandwidth**2))

    def pairs(rows: Tensor) -> float:
        n = len(rows)
        total = sum(kernel(rows[i], rows[j]) for i in range(n) for j in range(n) if i != j)
        return total / (n * (n - 1))

    cross = sum(kernel(x, y) for x in own for y in reference) / (len(own) * len(reference))
    return pairs(own) + pairs(reference) - 2 * cross


def test_it_is_the_unbiased_estimator() -> None:
    own, reference = normal(6, 3, seed=1, mean=0.5), normal(8, 3, seed=2)
    mmd = KernelMMD(reference)
    expected = by_definition(own, reference, mmd.bandwidth)
    assert mmd.distance(own).mmd2 == pytest.approx(expected, abs=1e-7)


def test_the_standard_error_is_the_jackknife() -> None:
    own, reference = normal(6, 3, seed=1, mean=0.5), normal(8, 3, seed=2)
    mmd = KernelMMD(reference)

    def without(rows: Tensor, i: int) -> Tensor:
        return torch.cat([rows[:i], rows[i + 1 :]])

    own_less = [(without(own, i), reference) for i in range(6)]
    reference_less = [(own, without(reference, i)) for i in range(8)]
    variance = 0.0
    for one_less in (own_less, reference_less):
        n = len(one_less)
        values = torch.tensor([by_definition(*pair, mmd.bandwidth) for pair in one_less])
        variance += float((n - 1) / n * (values.double() - values.mean()).square().sum())
    found = mmd.distance(own).standard_error
    assert found == pytest.approx(math.sqrt(variance), rel=1e-4)


def test_it_agrees_with_theory_for_two_normal_distributions() -> None:
    mmd = KernelMMD(normal(1500, seed=1))
    s2 = mmd.bandwidth**2
    scale, mean = mmd.bandwidth / math.sqrt(s2 + 2), 0.7
    truth = 2 * scale * (1 - math.exp(-(mean**2) / (2 * (s2 + 2))))
    found = mmd.distance(normal(1500, seed=2, mean=mean))
    assert abs(found.mmd2 - truth) < 3 * found.standard_error
    assert found.mmd2 > 5 * found.standard_error


def test_for_one_distribution_it_varies_around_0_by_its_standard_error() -> None:
    found = [
        KernelMMD(normal(40, 4, seed=2 * i)).distance(normal(30, 4, seed=2 * i + 1))
        for i in range(100)
    ]
    values = torch.tensor([d.mmd2 for d in found])
    assert abs(values.mean()) < 3 * values.std() / 10
    assert (values < 0).any()
    errors = torch.tensor([d.standard_error for d in found])
    assert 0.5 < errors.mean() / values.std() < 2  # the jackknife is rough where all is equal


def test_a_paired_change_is_the_difference_with_a_smaller_error_than_either() -> None:
    mmd = KernelMMD(normal(60, 4, seed=1))
    before = normal(50, 4, seed=2, mean=0.6)
    after = before - 0.2 + 0.01 * normal(50, 4, seed=3)
    change = mmd.change(before, after)
    first, second = mmd.distance(before), mmd.distance(after)
    assert change.mmd2 == pytest.approx(second.mmd2 - first.mmd2)
    assert change.mmd2 < -3 * change.standard_error
    assert change.standard_error < min(first.standard_error, second.standard_error)


def test_latents_are_averaged_down_to_8_by_8() -> None:
    large = torch.zeros(2, 4, 64, 64)
    large[:, :, :8, :8] = 1
    features = latent_features(large)
    assert features.shape == (2, 4 * 64)
    assert features.view(2, 4, 8, 8)[0, 0, 0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert latent_features(torch.zeros(2, 8, 4, 4)).shape == (2, 128)


def test_too_few_or_non_finite_images_are_refused() -> None:
    with pytest.raises(DataError, match="at least 3"):
        KernelMMD(normal(2, seed=0))
    broken = normal(5, seed=0)
    broken[2] = math.nan
    with pytest.raises(DataError, match="finite"):
        KernelMMD(normal(5, seed=1)).distance(broken)
    with pytest.raises(DataError, match="5 images before, but 4"):
        KernelMMD(normal(5, seed=1)).change(normal(5, seed=0), normal(4, seed=0))


def test_identical_reference_images_do_not_divide_by_0() -> None:
    found = KernelMMD(torch.zeros(4, 3)).distance(torch.zeros(3, 3))
    assert (found.mmd2, found.standard_error) == (0.0, 0.0)
