"""The diffusion generator on a minimal real Stable Diffusion, loaded like a user's model."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gendataagent.config import GenerationConfig
from gendataagent.core.errors import ConfigError, GenerationError, ModelError
from gendataagent.core.hub import content_hash
from gendataagent.core.protocols import Rendered, RenderRequest
from gendataagent.data.decoding.images import centre_square
from gendataagent.generation.diffusion import DiffusionFactory, signature
from gendataagent.generation.diffusion.generator import DiffusionGenerator
from gendataagent.generation.executors import ProcessExecutor, SerialExecutor


@pytest.fixture(scope="module")
def generator(tiny_pipeline_folder: Path) -> DiffusionGenerator:
    return DiffusionFactory(model=str(tiny_pipeline_folder))()


@pytest.fixture
def copied(tiny_pipeline_folder: Path, tmp_path: Path) -> Path:
    """A copy of the pipeline to damage."""
    return Path(shutil.copytree(tiny_pipeline_folder, tmp_path / "damaged"))


def request(seed: int, **changes: Any) -> RenderRequest:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 32, 3), dtype=np.uint8)
    return replace(
        RenderRequest(
            source=Image.fromarray(pixels), prompt=f"A photo of cat, which is number {seed}",
            negative_prompt="blurry", seed=seed, strength=0.75, guidance_scale=2.0,
            num_inference_steps=4,
        ),
        **changes,
    )  # fmt: skip


def pixels_of(results: Sequence[Rendered]) -> list[bytes]:
    assert all(result.rejected_by is None for result in results)
    return [result.image.tobytes() for result in results if result.image is not None]


def test_one_image_per_request_in_order_at_the_models_size(generator: DiffusionGenerator) -> None:
    requests = [request(seed) for seed in range(5)]
    results = generator.render(requests)
    assert [r.image.size for r in results if r.image is not None] == [(32, 32)] * 5
    assert generator.size_px == 32
    images = pixels_of(results)
    assert len(set(images)) == 5
    assert pixels_of(generator.render(requests[::-1])) == images[::-1]


def test_from_text_alone_an_image_depends_on_prompt_and_seed_in_any_batch(
    generator: DiffusionGenerator,
) -> None:
    """Beside images of the same strength that do have a source, and encoded once for all."""
    texts = [request(seed, from_text=True, strength=1.0) for seed in range(3)]
    images = pixels_of(generator.render(texts))
    others = [replace(text, source=request(9).source) for text in texts]
    assert pixels_of(generator.render(others)) == images
    assert len(set(images)) == 3
    misses = generator.latent_cache.misses
    assert pixels_of([generator.render([one])[0] for one in texts]) == images
    assert generator.latent_cache.misses == misses
    both = [text for seed in range(3) for text in (request(seed, strength=1.0), texts[seed])]
    mixed = pixels_of(generator.render(both))
    assert mixed[1::2] == images
    assert not set(mixed[::2]) & set(images)


def test_an_image_depends_on_its_request_alone_in_any_batch(
    generator: DiffusionGenerator,
) -> None:
    requests = [request(seed) for seed in range(8)]
    alone = pixels_of([generator.render([one])[0] for one in requests])

    def in_batches_of(size: int) -> list[bytes]:
        batches = [requests[start : start + size] for start in range(0, 8, size)]
        return pixels_of([result for batch in batches for result in generator.render(batch)])

    for size in (2, 3, 4, 7, 8):
        assert in_batches_of(size) == alone


def test_every_pipeline_call_has_the_same_batch_size(
    generator: DiffusionGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, batch_sizes = type(generator._pipeline), []
    call = kind.__call__

    def counting(pipeline: Any, **arguments: Any) -> Any:
        batch_sizes.append(len(arguments["prompt"]))
        return call(pipeline, **arguments)

    monkeypatch.setattr(kind, "__call__", counting)
    assert len(generator.render([request(0)])) == 1
    assert len(generator.render([request(seed) for seed in range(9)])) == 9
    # Kernels round differently for other batch sizes.
    assert batch_sizes == [generator.batch_size] * 3


def test_the_batch_size_comes_from_the_settings(tiny_pipeline_folder: Path) -> None:
    settings = GenerationConfig(batch_size=3)
    made = DiffusionFactory.from_config(settings, str(tiny_pipeline_folder), "cpu")()
    assert made._batch_size.size == 3
    assert len(pixels_of(made.render([request(seed) for seed in range(4)]))) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 99},
        {"prompt": "A photo of dog"},
        {"negative_prompt": "sharp"},
        {"strength": 0.5},
        {"guidance_scale": 7.5},
        {"num_inference_steps": 8},
        {"source": Image.new("RGB", (32, 32), (255, 0, 0))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_part_of_a_request_matters(
    change: dict[str, Any], generator: DiffusionGenerator
) -> None:
    one, other = generator.render([request(1), replace(request(1), **change)])
    assert pixels_of([one]) != pixels_of([other])


def test_requests_of_different_settings_keep_their_order(generator: DiffusionGenerator) -> None:
    requests = [
        request(seed, guidance_scale=guidance, strength=strength)
        for seed, (guidance, strength) in enumerate(
            [(2.0, 0.75), (7.5, 0.75), (7.5, 0.5), (2.0, 0.75), (2.0, 0.75), (1.0, 0.75)]
        )
    ]
    alone = pixels_of([generator.render([one])[0] for one in requests])
    assert pixels_of(generator.render(requests)) == alone


def test_nothing_in_nothing_out(generator: DiffusionGenerator) -> None:
    assert generator.render([]) == []


def test_more_strength_keeps_less_of_the_source(tiny_pipeline_folder: Path) -> None:
    generator = DiffusionFactory(model=str(tiny_pipeline_folder), dtype="float32")()
    red = request(3, source=Image.new("RGB", (32, 32), (250, 0, 0)), guidance_scale=1.0)
    blue = replace(red, source=Image.new("RGB", (32, 32), (0, 0, 250)))

    def distance(strength: float) -> float:
        one, other = (
            np.asarray(r.image, dtype=float)
            for r in generator.render([replace(r, strength=strength, num_inference_steps=50)
                                       for r in (red, blue)])
        )  # fmt: skip
        return float(np.abs(one - other).mean())

    assert distance(1.0) < distance(0.5) < distance(0.02)


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7), (33, 31), (32, 32), (1000, 999)])
def test_sources_of_any_size_and_aspect_work(
    size: tuple[int, int], generator: DiffusionGenerator
) -> None:
    (result,) = generator.render([request(0, source=Image.new("RGB", size, (90, 160, 200)))])
    assert result.image is not None
    assert (result.image.size, result.image.mode) == ((32, 32), "RGB")


def test_only_the_centre_square_of_the_source_counts(generator: DiffusionGenerator) -> None:
    square = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    wide = Image.new("RGB", (64, 32), (255, 255, 255))
    wide.paste(square, (16, 0))
    results = generator.render([request(0, source=square), request(0, source=wide)])
    one, other = pixels_of(results)
    assert one == other


def test_prompts_in_any_script_and_of_any_length_work(generator: DiffusionGenerator) -> None:
    prompts = ["", "A photo of Kätzchen, 犬 🐈", "A photo of cat, which is " + "very " * 200]
    assert len(pixels_of(generator.render([request(0, prompt=p) for p in prompts]))) == 3


@pytest.mark.integration
def test_serial_and_worker_processes_make_the_same_images(tiny_pipeline_folder: Path) -> None:
    factory = DiffusionFactory(model=str(tiny_pipeline_folder))
    tasks = [[request(0), request(1), request(2)], [request(3)]]
    serial = [pixels_of(task) for task in SerialExecutor().map(factory, tasks)]
    assert [pixels_of(task) for task in ProcessExecutor(1).map(factory, tasks)] == serial


@pytest.mark.parametrize("value", [0.0, float("nan")], ids=["black", "nan"])
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_a_black_image_is_rejected_but_returned(value: float, tiny_pipeline_folder: Path) -> None:
    generator = DiffusionFactory(model=str(tiny_pipeline_folder))()
    last = list(generator._pipeline.vae.decoder.parameters())[-2:]  # weight and bias
    for values in last:
        values.data.fill_(value)
    results = generator.render([request(0), request(1)])
    assert [r.rejected_by for r in results] == ["black-image", "black-image"]
    assert all(r.image is not None and not np.asarray(r.image).any() for r in results)


def test_images_that_overflow_in_half_precision_are_rendered_again_in_full(
    tiny_pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = DiffusionFactory(model=str(tiny_pipeline_folder), dtype="bfloat16")()
    run, used = generator._run_pipeline, []

    def overflowing(requests: Sequence[RenderRequest]) -> list[Rendered]:
        used.append((generator._pipeline.unet.dtype, [r.seed for r in requests]))
        results = run(requests)
        if generator._pipeline.unet.dtype == torch.bfloat16:
            results[1] = Rendered(image=Image.new("RGB", (32, 32)), rejected_by="black-image")
        return results

    monkeypatch.setattr(generator, "_run_pipeline", overflowing)
    results = generator.render([request(0), request(1), request(2)])
    assert [r.rejected_by for r in results] == [None] * 3
    assert used == [(torch.bfloat16, [0, 1, 2]), (torch.float32, [1])]
    assert generator._pipeline.unet.dtype == torch.bfloat16


def test_a_batch_that_exceeds_memory_is_halved_and_a_single_image_raises(
    tiny_pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [request(seed) for seed in range(5)]
    generator = DiffusionFactory(model=str(tiny_pipeline_folder))()
    expected, kind = pixels_of(generator.render(requests)), type(generator._pipeline)
    call, limit, batch_sizes, sliced = kind.__call__, 2, [], []

    def small_memory(pipeline: Any, **arguments: Any) -> Any:
        batch_sizes.append(len(arguments["prompt"]))
        sliced.append(pipeline.vae.use_slicing)
        if batch_sizes[-1] > limit:
            raise torch.OutOfMemoryError
        return call(pipeline, **arguments)

    monkeypatch.setattr(kind, "__call__", small_memory)
    images = np.frombuffer(b"".join(pixels_of(generator.render(requests))), dtype=np.uint8)
    wanted = np.frombuffer(b"".join(expected), dtype=np.uint8)
    assert np.abs(images.astype(int) - wanted).max() <= 1  # other kernels round differently
    assert batch_sizes == [8, 8, 4, 2, 2, 2]
    assert sliced == [False] + [True] * 5
    limit = 0
    with pytest.raises(GenerationError, match=r"memory for a single image; lower .*size_px"):
        generator.render(requests)


def test_the_hub_is_asked_only_after_the_local_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import diffusers

    asked = []

    def recording(model: str, *, local_files_only: bool, **_: Any) -> Any:
        asked.append(local_files_only)
        raise OSError("not here")

    monkeypatch.setattr(diffusers.AutoPipelineForImage2Image, "from_pretrained", recording)
    with pytest.raises(ModelError, match="not here"):
        DiffusionFactory(model="someone/model")()
    assert asked == [True, False]


def missing(folder: Path) -> None:
    shutil.rmtree(folder)


def empty_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def half_downloaded(folder: Path) -> None:
    shutil.rmtree(folder / "unet")


def cut_weights(folder: Path) -> None:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def garbled_index(folder: Path) -> None:
    (folder / "model_index.json").write_text('{"_class_name": ', encoding="utf-8")


def pickled_weights(folder: Path) -> None:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({}, path.with_suffix(".bin"))
    path.unlink()


def another_pipeline(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    index["_class_name"] = "NoSuchPipeline"
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")


def parts_that_do_not_fit(folder: Path) -> None:
    path = folder / "unet" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "cross_attention_dim": 24}), encoding="utf-8")


@pytest.mark.parametrize(
    "damage",
    [
        missing,
        empty_folder,
        half_downloaded,
        cut_weights,
        garbled_index,
        pickled_weights,
        another_pipeline,
        parts_that_do_not_fit,
    ],
)
def test_a_damaged_pipeline_folder_is_named(damage: Callable[[Path], None], copied: Path) -> None:
    damage(copied)
    with pytest.raises(ModelError) as caught:
        DiffusionFactory(model=str(copied))()
    message = str(caught.value)
    assert message.startswith("generation.generator: ")
    assert str(copied) in message
    assert "tiny-sd" in message
    assert "\n" not in message


def test_a_hub_model_missing_offline_is_named() -> None:
    with pytest.raises(ModelError, match=r"'nobody/nothing' .* hub cannot be reached"):
        DiffusionFactory(model="nobody/nothing")()


@pytest.mark.parametrize("name", ["NoSuchScheduler", "UNet2DConditionModel", ""])
def test_an_unknown_scheduler_is_refused_with_examples(
    name: str, tiny_pipeline_folder: Path
) -> None:
    with pytest.raises(ModelError, match=rf"no scheduler '{name}'; for example UniPC"):
        DiffusionFactory(model=str(tiny_pipeline_folder), scheduler=name)()


@pytest.mark.parametrize("name", ["DDIMScheduler", "DPMSolverMultistepScheduler"])
def test_schedulers_are_chosen_by_name(
    name: str, tiny_pipeline_folder: Path, generator: DiffusionGenerator
) -> None:
    other = DiffusionFactory(model=str(tiny_pipeline_folder), scheduler=name)()
    assert type(other._pipeline.scheduler).__name__ == name
    assert type(generator._pipeline.scheduler).__name__ == "UniPCMultistepScheduler"
    requests = [request(seed) for seed in range(4)]
    images = pixels_of(other.render(requests))
    assert images == pixels_of([other.render([one])[0] for one in requests])
    assert images != pixels_of(generator.render(requests))


def test_another_size_is_used_if_it_suits_the_model(tiny_pipeline_folder: Path) -> None:
    generator = DiffusionFactory(model=str(tiny_pipeline_folder), size_px=40)()
    (result,) = generator.render([request(0)])
    assert result.image is not None
    assert result.image.size == (40, 40)
    with pytest.raises(ConfigError, match=r"size_px must be a multiple of 4 .*, got 50"):
        DiffusionFactory(model=str(tiny_pipeline_folder), size_px=50)()


def test_a_factory_is_built_from_settings_and_can_be_pickled(tiny_pipeline_folder: Path) -> None:
    settings = GenerationConfig(size_px=64, scheduler="DDIMScheduler", dtype="bfloat16")
    factory = DiffusionFactory.from_config(settings, str(tiny_pipeline_folder), "cpu")
    assert factory == DiffusionFactory(
        model=str(tiny_pipeline_folder), size_px=64, scheduler="DDIMScheduler", dtype="bfloat16",
        batch_size=32,
    )  # fmt: skip
    assert pickle.loads(pickle.dumps(factory)) == factory
    hub = DiffusionFactory.from_config(GenerationConfig(revision="abc"), "some/model", "cuda")
    assert hub.device == "cuda"
    description = hub.describe()
    assert (description.name, description.revision) == ("some/model", "abc")


def test_the_revision_of_a_folder_is_a_content_hash(
    tiny_pipeline_folder: Path, copied: Path
) -> None:
    name, revision = (
        DiffusionFactory(model=str(copied)).describe().name,
        DiffusionFactory(model=str(copied)).describe().revision,
    )
    assert name == "damaged"
    assert revision == content_hash(tiny_pipeline_folder)
    path = copied / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert content_hash(copied) != revision


def test_a_source_that_requests_share_is_resized_once(
    generator: DiffusionGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    resized = []

    def counting(image: Image.Image, size_px: int, **options: Any) -> Image.Image:
        resized.append(image)
        return centre_square(image, size_px, **options)

    source = request(0).source
    requests = [request(seed, source=source) for seed in range(5)]
    expected = pixels_of(generator.render(requests))
    monkeypatch.setattr(signature, "centre_square", counting)
    assert pixels_of(generator.render([*requests, request(7)])[:5]) == expected
    assert len(resized) == 2
