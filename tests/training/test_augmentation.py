from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gendataagent.config import TrainingConfig
from gendataagent.training.augmentation import Augmenter

COUNT, SIDE = 400, 32


def columns_image(count: int = COUNT, side: int = SIDE) -> Tensor:
    """Return images whose value is the number of the column: where a pixel came from shows."""
    return torch.arange(side, dtype=torch.uint8).expand(count, 3, side, side).clone()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("crop", ["pad-crop", "resized-crop", "none"])
def test_the_result_depends_on_the_generator_alone(crop: str) -> None:
    augment = Augmenter(crop=crop, colour_jitter=0.4, size_px=SIDE)
    images = torch.randint(0, 256, (6, 3, SIDE, SIDE), generator=generator()).to(torch.uint8)
    torch.manual_seed(1)
    first = augment(images, generator(5))
    torch.manual_seed(2)
    assert torch.equal(first, augment(images, generator(5)))
    assert not torch.equal(first, augment(images, generator(6)))
    assert first.shape == images.shape
    assert first.dtype == torch.float32
    assert 0 <= first.min() <= first.max() <= 1


@pytest.mark.parametrize("crop", ["pad-crop", "resized-crop"])
def test_every_image_is_changed_in_its_own_way(crop: str) -> None:
    augment = Augmenter(crop=crop, colour_jitter=0, size_px=SIDE)
    results = augment(columns_image(), generator())
    assert len({tuple(row.tolist()) for row in results[:, 0, 10]}) > 15


def test_pad_crop_shifts_by_up_to_an_eighth_and_flips_half() -> None:
    augment = Augmenter(crop="pad-crop", colour_jitter=0, size_px=SIDE)
    rows_BS = (augment(columns_image(), generator())[:, 0, 10] * 255).round().long()
    flipped_B = rows_BS[:, 20] < rows_BS[:, 10]
    assert 0.4 < flipped_B.float().mean() < 0.6
    rows_BS[flipped_B] = rows_BS[flipped_B].flip(1)
    shifts = rows_BS[:, 15] - 15
    assert set(shifts.tolist()) == set(range(-4, 5))
    window = torch.arange(SIDE)
    for row, shift in zip(rows_BS[:50], shifts[:50].tolist(), strict=True):
        place = (window + shift).abs()
        assert torch.equal(row, torch.where(place > 31, 62 - place, place))


def test_pad_crop_shifts_rows_too_and_all_channels_alike() -> None:
    augment = Augmenter(crop="pad-crop", colour_jitter=0, size_px=SIDE)
    results = augment(columns_image().transpose(2, 3), generator())
    middles = (results[:, 0, 15, 10] * 255).round().long() - 15
    assert set(middles.tolist()) == set(range(-4, 5))
    assert torch.equal(results[:, 0], results[:, 2])
    across = (augment(columns_image(), generator())[:, 0, 10, [0, -1]] * 255).round()
    assert len(set(zip(middles.tolist(), across.amax(dim=1).tolist(), strict=True))) > 30


def test_none_is_the_centre_crop() -> None:
    augment = Augmenter(crop="none", colour_jitter=0, size_px=SIDE - 2)
    images = columns_image(3)
    assert torch.equal(augment(images, generator()) * 255, images[..., 1:-1, 1:-1].float())


def test_resized_crop_takes_windows_of_the_usual_areas_and_ratios() -> None:
    augment = Augmenter(crop="resized-crop", colour_jitter=0, size_px=SIDE)
    across = augment(columns_image(), generator(3))[:, 0] * 255
    down = augment(columns_image().transpose(2, 3), generator(3))[:, 0] * 255
    # slope of the ramp = source pixels per output pixel = side of the window in shares
    width = (across[:, 16, 20] - across[:, 16, 12]).abs() / 8
    height = (down[:, 20, 16] - down[:, 12, 16]).abs() / 8
    area = width * height
    assert 0.07 < area.min() < 0.12
    assert 0.85 < area.max() <= 1.001
    inside = (width < 0.98) & (height < 0.98)
    ratio = (width / height)[inside]
    assert 0.74 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.34
    flipped = (across[:, 16, 20] < across[:, 16, 12]).float().mean()
    assert 0.4 < flipped < 0.6


def test_resized_crop_keeps_a_plain_image_plain() -> None:
    augment = Augmenter(crop="resized-crop", colour_jitter=0, size_px=40)
    plain = torch.full((64, 3, 6, 6), 51, dtype=torch.uint8)
    torch.testing.assert_close(augment(plain, generator()), torch.full((64, 3, 40, 40), 0.2))


def test_jitter_of_grey_changes_only_its_brightness() -> None:
    augment = Augmenter(crop="none", colour_jitter=0.4, size_px=8)
    grey = torch.full((COUNT, 3, 8, 8), 102, dtype=torch.uint8)
    result = augment(grey, generator())
    spread = result.flatten(1)
    torch.testing.assert_close(spread.amax(1), spread.amin(1), atol=2e-4, rtol=0)
    assert 0.24 - 1e-3 < result.min() < 0.26
    assert 0.54 < result.max() < 0.56 + 1e-3


def test_jitter_changes_saturation_and_contrast() -> None:
    augment = Augmenter(crop="none", colour_jitter=0.4, size_px=8)
    half = torch.full((COUNT, 3, 8, 8), 90, dtype=torch.uint8)
    half[:, 0] = 130
    half[..., :4] += 20
    result = augment(half, generator())
    brightness = result.mean(dim=(1, 2, 3))
    colour = (result[:, 0] - result[:, 1]).mean(dim=(1, 2)) / brightness
    contrast = (result[:, 1, :, 0] - result[:, 1, :, -1]).mean(dim=1) / brightness
    assert colour.max() / colour.min() > 3
    assert contrast.max() / contrast.min() > 1.8


@pytest.mark.parametrize(
    ("setting", "size_px", "crop", "stored_px"),
    [
        ("auto", 32, "pad-crop", 32),
        ("auto", 64, "pad-crop", 64),
        ("auto", 224, "resized-crop", 256),
        ("pad-crop", 224, "pad-crop", 224),
        ("none", 32, "none", 32),
    ],
)
def test_settings_choose_the_crop(setting: str, size_px: int, crop: str, stored_px: int) -> None:
    augment = Augmenter.from_config(TrainingConfig(augmentation=setting), size_px)
    assert (augment.crop, augment.stored_px, augment.colour_jitter) == (crop, stored_px, 0.4)
