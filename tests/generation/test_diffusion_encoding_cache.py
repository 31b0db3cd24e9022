"""Sources and texts are encoded once with unchanged images; truncation of long prompts."""

from __future__ import annotations

import gc
import logging
import pickle
import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gendataagent.core.errors import ModelError
from gendataagent.generation.diffusion import DiffusionFactory
from gendataagent.generation.diffusion.encoding_cache import EncodingCache
from gendataagent.generation.diffusion.generator import DiffusionGenerator
from gendataagent.generation.diffusion.loading import load_pipeline
from gendataagent.generation.diffusion.prompts import NO_LIMIT, TokenCounter, token_limit
from gendataagent.generation.executors import SerialExecutor
from gendataagent.generation.prompts import compose_prompt
from tests.generation.conformance import make_image, pixels, render_request
from tests.tiny_models import (
    save_tiny_flagging_sd,
    save_tiny_lcm,
    save_tiny_pipeline,
    save_tiny_sd3,
    save_tiny_sdxl,
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DiffusionGenerator]:
    """Loaded generators: with a tiny and a KL autoencoder, with one to three text encoders."""
    folder = tmp_path_factory.mktemp("models")
    return {
        save.__name__: DiffusionFactory(model=str(save(folder / save.__name__)))()
        for save in (save_tiny_pipeline, save_tiny_sdxl, save_tiny_sd3, save_tiny_lcm)
    }


def row(value: float, numbers: int = 4) -> tuple[torch.Tensor, ...]:
    return (torch.full((1, numbers), float(value)),)


def test_the_least_recently_used_entry_is_dropped() -> None:
    cache = EncodingCache(max_bytes=3 * 16)
    for name in "abc":
        cache.put(name, row(ord(name)))
    found = cache.get("a")
    assert found is not None
    assert torch.equal(found[0], row(ord("a"))[0])
    cache.put("d", row(0.0))
    assert (cache.get("b"), len(cache)) == (None, 3)
    assert all(cache.get(name) is not None for name in "acd")
    cache.put("large", row(0.0, numbers=13))
    assert (cache.get("large"), len(cache)) == (None, 3)
    cache.put("middle", row(0.0, numbers=8))
    assert len(cache) == 2
    assert (cache.hits, cache.misses) == (4, 2)


def test_cached_tensors_are_copies() -> None:
    cache, tensor = EncodingCache(1000), torch.zeros(1, 2)
    cache.put("a", (tensor,))
    tensor += 1
    found = cache.get("a")
    assert found is not None
    assert not found[0].any()


FAMILIES = ["save_tiny_pipeline", "save_tiny_sdxl", "save_tiny_sd3"]


@pytest.mark.parametrize("family", FAMILIES)
def test_images_equal_those_of_the_pipeline_without_cache(
    family: str, models: dict[str, DiffusionGenerator], tmp_path: Path
) -> None:
    generator = models[family]
    dtype = generator._dtype
    save: Callable[[Path], Path] = globals()[family]
    plain = load_pipeline(DiffusionFactory(model=str(save(tmp_path / "model"))), dtype)
    requests = [render_request(number) for number in range(8)]
    with torch.inference_mode():
        expected = plain(**generator._signature.arguments(requests)).images
    for _ in range(2):  # encoded, then from the cache
        made = generator.render(requests)
        assert [image.tobytes() for image in expected] == pixels(made)


@pytest.mark.parametrize("family", [*FAMILIES, "save_tiny_lcm"])
def test_a_source_is_encoded_once_and_sampled_per_image(
    family: str, models: dict[str, DiffusionGenerator]
) -> None:
    generator, number = models[family], 70
    misses = generator.latent_cache.misses
    variants = [render_request(number, seed=seed) for seed in range(5)]
    images = pixels(generator.render(variants))
    assert generator.latent_cache.misses == misses + 1
    assert len(set(images)) == 5
    generator.render([render_request(number, source=make_image(71))])
    assert generator.latent_cache.misses == misses + 2


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_is_encoded_once(family: str, models: dict[str, DiffusionGenerator]) -> None:
    generator = models[family]
    texts = [render_request(0, prompt=f"A photo of {word}") for word in ("otter", "lynx")]
    generator.render(texts)
    misses = generator.prompt_cache.misses
    generator.render([*texts, *texts])
    assert generator.prompt_cache.misses == misses
    generator.render([replace(texts[0], prompt="A photo of newt")])
    assert generator.prompt_cache.misses == misses + 1


def test_the_distribution_of_a_kl_autoencoder_is_cached_not_a_sample(
    models: dict[str, DiffusionGenerator],
) -> None:
    vae = models["save_tiny_sdxl"]._pipeline.vae
    x = torch.rand(1, 3, 32, 32, dtype=vae.dtype)
    with torch.inference_mode():
        first, again = vae.encode(x).latent_dist, vae.encode(x).latent_dist
        two = vae.encode(torch.rand(2, 3, 32, 32, dtype=vae.dtype)).latent_dist
    assert torch.equal(first.mean, again.mean)
    assert torch.equal(first.std, again.std)
    samples = [d.sample(torch.Generator().manual_seed(s)) for d, s in ((first, 1), (again, 1))]
    assert torch.equal(*samples)
    assert not torch.equal(samples[0], again.sample(torch.Generator().manual_seed(2)))
    assert two.mean.shape[0] == 2


def test_half_and_full_precision_have_separate_cache_entries(tiny_pipeline_folder: Path) -> None:
    generator = DiffusionFactory(model=str(tiny_pipeline_folder), dtype="bfloat16")()
    generator.render([render_request(0)])
    misses = generator.latent_cache.misses, generator.prompt_cache.misses
    generator._pipeline.to(torch.float32)
    generator.render([render_request(0)])
    assert generator.latent_cache.misses == misses[0] + 1
    assert generator.prompt_cache.misses == misses[1] + 2


def test_a_released_generator_is_freed(tiny_pipeline_folder: Path) -> None:
    factory, executor = DiffusionFactory(model=str(tiny_pipeline_folder)), SerialExecutor()
    assert len(list(executor.map(factory, [[render_request(0)]]))) == 1
    assert executor._built is not None
    generator: Any = executor._built[1]
    unet = weakref.ref(generator._pipeline.unet)
    del generator
    gc.disable()
    try:
        executor.release()
    finally:
        gc.enable()
    assert unet() is None


def test_a_truncated_caption_is_rendered_a_truncated_class_name_is_rejected(
    models: dict[str, DiffusionGenerator],
) -> None:
    generator = models["save_tiny_pipeline"]
    long = "very " * 100
    prompts = [
        compose_prompt("cat", long),
        compose_prompt("x" * 67, long),  # a token a letter, 2 for start and end, 8 of "A photo of"
        compose_prompt("x" * 68, long),
        compose_prompt("x" * 68, ""),
        "x" * 300,  # the position of its class name is unknown
        compose_prompt("dog", "brown"),
    ]
    reasons = [r.rejected_by for r in generator.render([render_request(0, prompt=p)
                                                        for p in prompts])]  # fmt: skip
    assert reasons == [None, None, "class-cut-off", "class-cut-off", None, None]
    assert generator.render([render_request(0, prompt=prompts[2])])[0].image is None


def test_truncated_prompts_log_no_warning(
    models: dict[str, DiffusionGenerator],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("diffusers", "transformers"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    requests = [render_request(i, prompt=compose_prompt("cat", "very " * 90)) for i in range(2)]
    for family in FAMILIES:
        models[family].render(requests)
    assert caplog.text == ""
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("save", [save_tiny_pipeline, save_tiny_sdxl, save_tiny_sd3])
def test_the_token_limit_needs_no_weights(save: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    shutil.rmtree(folder / "vae")  # the model itself cannot be loaded without it
    count, limit = token_limit(DiffusionFactory(model=str(folder)))
    assert limit == 77  # of CLIP, though the T5 of SD 3 reads more
    assert count("") == 2
    assert count("A photo of cat") == 2 + 1 + 5 + 2 + 3
    assert count("x" * 300) == 302
    assert pickle.loads(pickle.dumps(count))("cat") == 5


def test_the_bundled_model_has_a_token_limit() -> None:
    from gendataagent.generation.tiny.model import model_folder

    count, limit = token_limit(DiffusionFactory(model=str(model_folder())))
    assert 3 <= count("A photo of cat, which is brown") <= limit <= 77


def test_a_model_without_tokenizers_has_no_limit_and_a_missing_model_is_named() -> None:
    counter = TokenCounter.of([])
    assert (counter("any text"), counter.limit) == (0, NO_LIMIT)
    with pytest.raises(ModelError, match="there is no folder"):
        token_limit(DiffusionFactory(model="./nowhere"))


def test_latents_are_cached_for_a_model_with_a_safety_checker(tmp_path: Path) -> None:
    generator = DiffusionFactory(model=str(save_tiny_flagging_sd(tmp_path / "m", flags=0.0)))()
    requests = [render_request(0, seed=seed) for seed in range(3)]
    assert {r.rejected_by for r in generator.render(requests)} == {"flagged-by-safety-checker"}
    assert generator.latent_cache.misses == 1
