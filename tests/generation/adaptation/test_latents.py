"""Crops, flips and random draws; cached latents equal freshly encoded ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gendataagent.core.errors import TrainingDivergedError
from gendataagent.core.progress import SilentProgress
from gendataagent.generation.adaptation.latents import (
    LatentEncoder,
    LatentSource,
    RandomDraw,
    crop,
    random_draw,
    sample_latent,
)
from tests.generation.adaptation.conftest import load, make_images

SHAPE = (4, 8, 8)


def drawn(image_id: str = "a", epoch: int = 1, seed: int = 0) -> RandomDraw:
    return random_draw(seed, epoch, image_id, shape_CSS=SHAPE, timesteps=1000)


def test_a_draw_depends_on_seed_epoch_and_image_alone() -> None:
    torch.manual_seed(1)
    first = drawn()
    torch.manual_seed(2)
    again = drawn()
    assert torch.equal(first.noise_CSS, again.noise_CSS)
    assert (first.timestep, first.top, first.flip) == (again.timestep, again.top, again.flip)
    for other in (drawn("b"), drawn(epoch=2), drawn(seed=1)):
        assert not torch.equal(first.noise_CSS, other.noise_CSS)
        assert first.timestep != other.timestep
    assert not torch.equal(first.noise_CSS, first.posterior_CSS)


def test_draws_cover_all_timesteps_and_both_flips() -> None:
    many = [drawn(str(i)) for i in range(2000)]
    timesteps = np.array([d.timestep for d in many])
    assert timesteps.min() < 10
    assert timesteps.max() > 989
    assert abs(timesteps.mean() - 499.5) < 4 * 289 / 2000**0.5
    assert abs(np.mean([d.flip for d in many]) - 0.5) < 4 * 0.5 / 2000**0.5


def ramp(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.arange(width)
    pixels[..., 1] = np.arange(height)[:, None]
    return Image.fromarray(pixels)


def levels(pixels_3PP: torch.Tensor) -> torch.Tensor:
    return ((pixels_3PP + 1) * 127.5).round()


@pytest.mark.parametrize(("share", "left_px"), [(0.0, 0), (0.5, 4), (0.999, 8)])
def test_the_crop_is_at_the_drawn_position(share: float, left_px: int) -> None:
    found = crop(ramp(40, 32), 32, top=0.9, left=share, flip=False)
    assert found.corner_px == (0, left_px)
    assert found.original_px == (32, 40)
    assert found.positions == 9
    red = levels(found.pixels_3PP)[0, 0]
    assert red.tolist() == [float(x) for x in range(left_px, left_px + 32)]


def test_the_flip_comes_after_the_crop() -> None:
    plain = crop(ramp(40, 32), 32, top=0, left=0.25, flip=False)
    flipped = crop(ramp(40, 32), 32, top=0, left=0.25, flip=True)
    assert torch.equal(flipped.pixels_3PP, plain.pixels_3PP.flip(-1))


@pytest.mark.parametrize("size", [(100, 64), (64, 100), (20, 16), (33, 32)])
def test_the_shorter_side_is_resized_to_the_crop(size: tuple[int, int]) -> None:
    found = crop(ramp(*size), 32, top=0.99, left=0.99, flip=False)
    assert found.pixels_3PP.shape == (3, 32, 32)
    long = int(max(size) * 32 / min(size))
    assert found.positions == long - 32 + 1
    assert max(found.corner_px) == long - 32


def source(pipeline: Any, size: tuple[int, int] = (32, 32), **changes: Any) -> LatentSource:
    settings = {"size_px": 32, "random_crop": True, "flip": True, **changes}
    return LatentSource(make_images(5, size=size), LatentEncoder(pipeline), **settings)


@pytest.mark.parametrize("flip", [True, False])
def test_cached_latents_equal_freshly_encoded_ones(pipeline: Any, flip: bool) -> None:
    cached, fresh = source(pipeline, flip=flip), source(pipeline, flip=flip)
    cached.cache(SilentProgress())
    assert cached.fully_cached
    assert not fresh.fully_cached
    for epoch in range(4):
        draws = [drawn(str(i), epoch) for i in (3, 0, 4)]
        found, batch = (s.latents(s.prepare([3, 0, 4], draws)) for s in (cached, fresh))
        torch.testing.assert_close(found, batch, atol=1e-5, rtol=1e-5)
        assert torch.equal(
            cached.prepare([3, 0, 4], draws).sizes_B6, fresh.prepare([3, 0, 4], draws).sizes_B6
        )


def test_only_images_with_a_single_crop_are_cached(pipeline: Any) -> None:
    cases = {
        (40, 32): False,  # each epoch has another crop
        (32, 32): True,
    }
    for size, complete in cases.items():
        one = source(pipeline, size)
        one.cache(SilentProgress())
        assert one.fully_cached is complete
    central = source(pipeline, (40, 32), random_crop=False)
    central.cache(SilentProgress())
    assert central.fully_cached
    assert central.prepare([0], [drawn()]).sizes_B6.tolist() == [[32, 40, 0, 4, 32, 32]]


def test_latents_that_exceed_the_memory_limit_are_not_cached(pipeline: Any) -> None:
    bytes_each = 4 * 8 * 8 * 4 * 2  # channels, side, float32, flips
    for limit, complete in ((5 * bytes_each, True), (5 * bytes_each - 1, False)):
        one = source(pipeline, cache_bytes=limit)
        one.cache(SilentProgress())
        assert one.fully_cached is complete


def test_a_latent_is_the_scaled_mean_and_deviation(sdxl_folder: Path) -> None:
    pipeline = load(sdxl_folder)
    encoder = LatentEncoder(pipeline)
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1
    moments = encoder.moments(pixels)
    with torch.no_grad():
        expected = pipeline.vae.encode(pixels).latent_dist
    scale = pipeline.vae.config.scaling_factor
    torch.testing.assert_close(moments[:, 0], expected.mean * scale)
    torch.testing.assert_close(moments[:, 1], expected.std * scale)
    noise = torch.randn(moments.shape[2:])
    torch.testing.assert_close(
        sample_latent(moments[0], noise), (expected.mean[0] + expected.std[0] * noise) * scale
    )


def test_latents_that_overflow_raise(pipeline: Any) -> None:
    torch.nn.init.constant_(pipeline.vae.encoder.layers[-1].bias, torch.inf)
    with pytest.raises(TrainingDivergedError, match="mixed_precision"):
        source(pipeline)
