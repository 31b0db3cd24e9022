"""Crops, mirrorings and draws, and that kept latents are those encoded anew."""

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
    Draw,
    LatentEncoder,
    LatentSource,
    choose,
    cut,
    draw,
)
from tests.generation.adaptation.conftest import load, make_images

SHAPE = (4, 8, 8)


def drawn(image_id: str = "a", epoch: int = 1, seed: int = 0) -> Draw:
    return draw(seed, epoch, image_id, shape_CSS=SHAPE, timesteps=1000)


def test_a_draw_depends_on_seed_epoch_and_image_alone() -> None:
    torch.manual_seed(1)
    first = drawn()
    torch.manual_seed(2)
    again = drawn()
    assert torch.equal(first.noise_CSS, again.noise_CSS)
    assert (first.timestep, first.down, first.flip) == (again.timestep, again.down, again.flip)
    for other in (drawn("b"), drawn(epoch=2), drawn(seed=1)):
        assert not torch.equal(first.noise_CSS, other.noise_CSS)
        assert first.timestep != other.timestep
    assert not torch.equal(first.noise_CSS, first.posterior_CSS)


def test_draws_cover_all_timesteps_and_both_mirrorings() -> None:
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


@pytest.mark.parametrize(("along", "left"), [(0.0, 0), (0.5, 4), (0.999, 8)])
def test_a_crop_lies_where_it_was_drawn(along: float, left: int) -> None:
    found = cut(ramp(40, 32), 32, down=0.9, along=along, flip=False)
    assert found.corner_px == (0, left)
    assert found.original_px == (32, 40)
    assert found.choices == 9
    red = levels(found.pixels_3PP)[0, 0]
    assert red.tolist() == [float(x) for x in range(left, left + 32)]


def test_mirroring_comes_after_the_crop() -> None:
    plain = cut(ramp(40, 32), 32, down=0, along=0.25, flip=False)
    mirrored = cut(ramp(40, 32), 32, down=0, along=0.25, flip=True)
    assert torch.equal(mirrored.pixels_3PP, plain.pixels_3PP.flip(-1))


@pytest.mark.parametrize("size", [(100, 64), (64, 100), (20, 16), (33, 32)])
def test_the_shorter_side_is_brought_to_size(size: tuple[int, int]) -> None:
    found = cut(ramp(*size), 32, down=0.99, along=0.99, flip=False)
    assert found.pixels_3PP.shape == (3, 32, 32)
    long = int(max(size) * 32 / min(size))
    assert found.choices == long - 32 + 1
    assert max(found.corner_px) == long - 32


def source(pipeline: Any, size: tuple[int, int] = (32, 32), **changes: Any) -> LatentSource:
    settings = {"size_px": 32, "random_crop": True, "flip": True, **changes}
    return LatentSource(make_images(5, size=size), LatentEncoder(pipeline), **settings)


@pytest.mark.parametrize("flip", [True, False])
def test_kept_latents_are_those_encoded_anew(pipeline: Any, flip: bool) -> None:
    kept, fresh = source(pipeline, flip=flip), source(pipeline, flip=flip)
    kept.cache(SilentProgress())
    assert kept.complete
    assert not fresh.complete
    for epoch in range(4):
        draws = [drawn(str(i), epoch) for i in (3, 0, 4)]
        found, batch = (s.latents(s.prepare([3, 0, 4], draws)) for s in (kept, fresh))
        torch.testing.assert_close(found, batch, atol=1e-5, rtol=1e-5)
        assert torch.equal(
            kept.prepare([3, 0, 4], draws).sizes_B6, fresh.prepare([3, 0, 4], draws).sizes_B6
        )


def test_only_what_is_exact_is_kept(pipeline: Any) -> None:
    cases = {
        (40, 32): False,  # each epoch has another crop
        (32, 32): True,
    }
    for size, complete in cases.items():
        one = source(pipeline, size)
        one.cache(SilentProgress())
        assert one.complete is complete
    central = source(pipeline, (40, 32), random_crop=False)
    central.cache(SilentProgress())
    assert central.complete
    assert central.prepare([0], [drawn()]).sizes_B6.tolist() == [[32, 40, 0, 4, 32, 32]]


def test_what_would_take_too_much_memory_is_not_kept(pipeline: Any) -> None:
    bytes_each = 4 * 8 * 8 * 4 * 2  # channels, side, float32, mirrorings
    for room, complete in ((5 * bytes_each, True), (5 * bytes_each - 1, False)):
        one = source(pipeline, cache_bytes=room)
        one.cache(SilentProgress())
        assert one.complete is complete


def test_a_latent_is_scaled_mean_and_deviation(sdxl_folder: Path) -> None:
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
        choose(moments[0], noise), (expected.mean[0] + expected.std[0] * noise) * scale
    )


def test_latents_that_overflow_are_said(pipeline: Any) -> None:
    torch.nn.init.constant_(pipeline.vae.encoder.layers[-1].bias, torch.inf)
    with pytest.raises(TrainingDivergedError, match="mixed_precision"):
        source(pipeline)
