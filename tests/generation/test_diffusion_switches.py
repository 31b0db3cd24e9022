"""The switches of diffusers: each runs, and its images are near those of the plain path."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

from gendataagent.core.errors import ModelError
from gendataagent.generation.diffusion import DiffusionFactory
from gendataagent.generation.diffusion.switches import TinyDecoder
from gendataagent.generation.tiny.model import model_folder
from tests.generation.conformance import render_request
from tests.tiny_models import save_tiny_sdxl

PLAIN = DiffusionFactory(model=str(model_folder()), dtype="float32", batch_size=4)


def pixels(factory: DiffusionFactory, count: int = 3) -> np.ndarray[Any, Any]:
    """Return the images of some requests, [N, H, W, 3], as integers."""
    made = factory().render([render_request(number) for number in range(count)])
    return np.stack([np.asarray(result.image, dtype=np.int64) for result in made])


def draws_the_same_noise(dtype: torch.dtype) -> bool:
    """Return whether a seed means the same noise in `dtype` as in float32, up to rounding."""
    plain, drawn = (
        torch.randn(256, generator=torch.Generator().manual_seed(0), dtype=one).float()
        for one in (torch.float32, dtype)
    )
    return torch.allclose(plain, drawn, atol=0.05)


@pytest.fixture(scope="module")
def plain() -> np.ndarray[Any, Any]:
    return pixels(PLAIN)


@pytest.mark.parametrize(
    ("changes", "most"),
    [({"channels_last": True}, 1.0), ({"fuse_qkv": True}, 1.0), ({"dtype": "bfloat16"}, 4.0)],
)
def test_images_are_near_those_of_the_plain_path(
    changes: dict[str, Any], most: float, plain: np.ndarray[Any, Any]
) -> None:
    """Mean distance in levels of 255."""
    if "dtype" in changes and not draws_the_same_noise(torch.bfloat16):
        pytest.skip("this version of torch draws other noise in bfloat16: another image, as good")
    made = pixels(replace(PLAIN, **changes))
    assert np.abs(made - plain).mean() <= most


@pytest.mark.slow
def test_compiled_images_are_near_those_of_the_plain_path(plain: np.ndarray[Any, Any]) -> None:
    made = pixels(replace(PLAIN, compile=True))
    assert np.abs(made - plain).mean() <= 1.0


@pytest.mark.parametrize("switch", ["fuse_qkv", "compile"])
def test_a_switch_that_a_model_does_not_have_is_named(
    switch: str, tiny_pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import UNet2DConditionModel

    def refuse(self: object) -> None:
        raise ValueError("not supported for models having added KV projections")

    monkeypatch.setattr(UNet2DConditionModel, "_repeated_blocks", None)
    monkeypatch.setattr(UNet2DConditionModel, "fuse_qkv_projections", refuse)
    switches: dict[str, Any] = {switch: True}
    factory = DiffusionFactory(model=str(tiny_pipeline_folder), **switches)
    message = rf"generation\.{switch}=true does not work on a UNet2DConditionModel: .*; set it"
    with pytest.raises(ModelError, match=message):
        factory()


def test_a_tiny_autoencoder_decodes(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    folder = save_tiny_sdxl(tmp_path / "sdxl")
    factory = DiffusionFactory(model=str(folder), dtype="float32", batch_size=2)
    whole = pixels(factory, 2)
    tiny = pixels(replace(factory, decoder=str(tiny_pipeline_folder / "vae")), 2)
    assert tiny.shape == whole.shape
    assert not np.array_equal(tiny, whole)


def test_a_decoder_that_is_none_is_refused(tiny_pipeline_folder: Path) -> None:
    factory = DiffusionFactory(model=str(tiny_pipeline_folder), decoder="nowhere")
    with pytest.raises(ModelError, match=r"generation\.decoder: 'nowhere' .*madebyollin/taesd"):
        factory()


@pytest.mark.parametrize(
    "config",
    [
        {"scaling_factor": 0.18215},
        {"scaling_factor": 0.5, "shift_factor": 0.06},
        {"scaling_factor": 2.0, "latents_mean": [1.0, 2.0], "latents_std": [0.5, 3.0]},
    ],
)
def test_the_tiny_decoder_reads_the_latents_of_the_denoiser(config: dict[str, Any]) -> None:
    """A pipeline scales latents before it calls decode; the tiny decoder sees them unscaled."""
    latents = torch.randn(3, 2, 4, 4)
    mean = torch.tensor(config.get("latents_mean", [0.0, 0.0])).view(1, 2, 1, 1)
    std = torch.tensor(config.get("latents_std", [1.0, 1.0])).view(1, 2, 1, 1)
    scaled = latents * std / config["scaling_factor"] + mean + config.get("shift_factor", 0.0)

    class Tiny:
        dtype = torch.float32
        config = MappingProxyType({"scaling_factor": 1.0})

        def decode(self, x: torch.Tensor, *, return_dict: bool) -> tuple[torch.Tensor]:
            return (x,)

    class Vae:
        dtype = torch.float32

    vae = Vae()
    vae.config = config  # type: ignore[attr-defined]
    decoded = TinyDecoder(vae, Tiny())(scaled, return_dict=False, generator=None)[0]
    torch.testing.assert_close(decoded, latents)
