from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gendataagent.core.errors import ConfigError
from gendataagent.data.pixels import Pixels
from gendataagent.training.corruptions import (
    CORRUPTIONS,
    SEVERITIES,
    SIGMA_PX,
    SPECKLE,
    check,
    corrupt,
    corrupted,
    table_px,
)

BOTH = ("gaussian_blur", "speckle_noise")


def make_images(count: int, side: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def names(count: int) -> list[str]:
    return [f"p{index}" for index in range(count)]


def blurred_directly(plane_SS: np.ndarray, sigma: float) -> np.ndarray:
    """Blur pixel by pixel with a two-dimensional Gaussian, the border pixel going on for ever."""
    side, radius = len(plane_SS), int(4 * sigma + 0.5)
    out = np.zeros((side, side))
    for y in range(side):
        for x in range(side):
            total = weight_sum = 0.0
            for dy in range(-radius, radius + 1):
                for dx in range(-radius, radius + 1):
                    weight = math.exp(-(dx * dx + dy * dy) / (2 * sigma**2))
                    row, column = min(max(y + dy, 0), side - 1), min(max(x + dx, 0), side - 1)
                    total += weight * plane_SS[row, column]
                    weight_sum += weight
            out[y, x] = total / weight_sum
    return out


def test_constants_are_those_of_the_original() -> None:
    assert SIGMA_PX[224] == (1, 2, 3, 4, 6)
    assert SIGMA_PX[64] == (0.5, 0.75, 1, 1.25, 1.5)
    assert SIGMA_PX[32] == (0.4, 0.6, 0.7, 0.8, 1)
    assert SPECKLE[224] == (0.15, 0.2, 0.35, 0.45, 0.6)
    assert SPECKLE[64] == (0.15, 0.2, 0.25, 0.3, 0.35)
    assert SPECKLE[32] == (0.06, 0.1, 0.12, 0.16, 0.2)
    assert SEVERITIES == (1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("size", "table"),
    [(8, 32), (32, 32), (45, 32), (46, 64), (64, 64), (96, 64), (119, 64), (120, 224), (448, 224)],
)
def test_sizes_between_take_the_nearest_by_ratio(size: int, table: int) -> None:
    assert table_px(size) == table


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_blur_is_a_gaussian_of_each_channel_with_the_border_repeated(severity: int) -> None:
    images = make_images(2, 14)
    blurred = corrupt(images, "gaussian_blur", severity, ids=names(2))
    for index in range(2):
        for channel in range(3):
            plane = images[index, channel].double().numpy() / 255
            expected = blurred_directly(plane, SIGMA_PX[32][severity - 1]) * 255
            # cut, not rounded; a sum that ends at a whole number may fall to either side
            got = blurred[index, channel].numpy()
            assert np.all((got == np.floor(expected + 1e-9)) | (got == np.floor(expected - 1e-9)))


def test_blur_far_from_the_border_sums_to_one() -> None:
    images = torch.zeros((1, 3, 80, 80))
    images[0, 1, 40, 40] = 1.0
    blurred = corrupt(images, "gaussian_blur", 5, ids=["p"])  # sigma 1.5: 6 px on each side
    assert blurred[0, 0].abs().sum() == blurred[0, 2].abs().sum() == 0
    assert blurred[0, 1, 40, 40] == math.floor(255 / (2 * math.pi * 1.5**2) + 0.003) / 255
    assert blurred[0, 1, 40, 33] == 0
    assert torch.equal(blurred[0, 1], blurred[0, 1].T)


def test_speckle_grows_with_the_pixel_and_has_the_right_spread() -> None:
    images = torch.full((1, 3, 128, 128), 0.5)
    images[:, 0] = 0.0
    noisy = corrupt(images, "speckle_noise", 2, ids=["p"])  # 0.2 of the value
    assert noisy[0, 0].abs().max() == 0
    values = noisy[0, 1:]
    assert float(values.mean()) == pytest.approx(0.5 - 0.5 / 255, abs=2e-3)  # fractions cut off
    assert float(values.std()) == pytest.approx(0.2 * 0.5, rel=0.02)


def test_values_are_clipped_and_come_in_256_levels() -> None:
    noisy = corrupt(torch.full((1, 3, 64, 64), 0.95), "speckle_noise", 5, ids=["p"])
    assert float(noisy.max()) == 1.0
    assert float((noisy == 1).double().mean()) > 0.3  # beyond white stays white, not black again
    assert torch.equal(noisy, (noisy * 255).round() / 255)


@pytest.mark.parametrize("name", BOTH)
def test_bytes_and_floats_of_the_same_images_become_the_same(name: str) -> None:
    images = make_images(3, 20)
    from_bytes = corrupt(images, name, 4, ids=names(3))
    from_floats = corrupt(images.double() / 255, name, 4, ids=names(3))
    assert from_bytes.dtype == torch.uint8
    assert from_floats.dtype == torch.float64
    assert torch.equal(from_bytes, (from_floats * 255).round().to(torch.uint8))
    assert corrupt(images.float() / 255, name, 4, ids=names(3)).dtype == torch.float32


@pytest.mark.parametrize("name", BOTH)
def test_the_corruption_of_an_image_does_not_depend_on_its_batch(name: str) -> None:
    images, ids = make_images(5, 16), names(5)
    together = corrupt(images, name, 3, ids=ids)
    order = torch.tensor([3, 0, 4])
    apart = corrupt(images[order], name, 3, ids=[ids[i] for i in order])
    assert torch.equal(apart, together[order])
    torch.manual_seed(5)
    assert torch.equal(corrupt(images[:1], name, 3, ids=ids[:1]), together[:1])


def test_noise_differs_by_image_severity_and_seed() -> None:
    images = torch.full((2, 3, 16, 16), 0.5)
    first = corrupt(images, "speckle_noise", 1, ids=["a", "b"])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, corrupt(images, "speckle_noise", 1, ids=["a", "b"], seed=1))
    stronger = corrupt(images, "speckle_noise", 2, ids=["a", "b"])
    ratio = (stronger - 0.5) / (first - 0.5 + 1e-6)
    assert float(ratio.std()) > 1  # other noise, not the same enlarged


@pytest.mark.parametrize("name", BOTH)
def test_more_severe_is_further_away(name: str) -> None:
    for side in (32, 64, 224):
        images = make_images(1, side).float() / 255
        gaps = [
            float((corrupt(images, name, severity, ids=["p"]) - images).abs().mean())
            for severity in SEVERITIES
        ]
        assert gaps == sorted(gaps)
        assert len(set(gaps)) == 5


@pytest.mark.parametrize("name", BOTH)
def test_an_empty_batch_stays_empty(name: str) -> None:
    assert corrupt(make_images(0, 32), name, 1, ids=[]).shape == (0, 3, 32, 32)


def test_the_input_is_unchanged() -> None:
    images = make_images(1, 16)
    before = images.clone()
    for name in CORRUPTIONS:
        corrupt(images, name, 5, ids=["p"])
    assert torch.equal(images, before)


def test_pixels_are_cropped_first_and_keep_ids_and_labels() -> None:
    images = make_images(4, 20)
    pixels = Pixels(images.__getitem__, [2, 0, 1, 2], ids=names(4), size_px=20)
    worse = corrupted(pixels, "gaussian_blur", 5, size_px=16)
    assert (worse.ids, worse.labels.tolist(), worse.size_px) == (pixels.ids, [2, 0, 1, 2], 16)
    expected = corrupt(images[:, :, 2:18, 2:18], "gaussian_blur", 5, ids=names(4))
    assert torch.equal(worse.batch([3, 1]), expected[[3, 1]])
    noisy = corrupted(pixels, "speckle_noise", 1, size_px=16, seed=9)
    whole = corrupt(images[:, :, 2:18, 2:18], "speckle_noise", 1, ids=names(4), seed=9)
    assert torch.equal(noisy.batch([2]), whole[[2]])


def test_all_unknown_values_are_named_in_one_error() -> None:
    with pytest.raises(ConfigError) as raised:
        check(["fog", "gaussian_blur", "rain"], [0, 3, 6])
    assert len(raised.value.problems) == 4
    assert "gaussian_blur, speckle_noise" in str(raised.value)
    assert "from 1 to 5, got 6" in str(raised.value)
    with pytest.raises(ConfigError, match="at least one corruption"):
        check([], [1])
    with pytest.raises(ConfigError, match="at least one severity"):
        check(["gaussian_blur"], [])
    with pytest.raises(ConfigError, match="unknown corruption 'fog'"):
        corrupt(make_images(1, 8), "fog", 1, ids=["p"])
    with pytest.raises(ConfigError, match="need as many ids"):
        corrupt(make_images(2, 8), "gaussian_blur", 1, ids=["p"])
