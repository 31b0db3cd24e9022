"""The trainer: what it changes, what it leaves unchanged, and exact resuming."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gendataagent.config import AdaptationConfig
from gendataagent.core.errors import ConfigError, DataError, ModelError, TrainingDivergedError
from gendataagent.core.protocols import RenderRequest
from gendataagent.data import LabelledImages
from gendataagent.generation.adaptation.batches import epoch_batches
from gendataagent.generation.adaptation.lora_layers import WEIGHTS_FILE, LoraLayers
from gendataagent.generation.adaptation.trainer import AdaptationTrainer
from tests.generation.adaptation.conftest import CLASSES, load, make_images

pytestmark = pytest.mark.integration

CONFIG = AdaptationConfig(epochs=2, batch_size=3, learning_rate=1e-2)


def trainer(
    pipeline: Any, images: LabelledImages | None = None, **changes: Any
) -> AdaptationTrainer:
    images = images or make_images(7, size=(40, 32))  # wide: every epoch crops and encodes again
    names = {"seed", "size_px", "device", "precision"} & set(changes)
    options: dict[str, Any] = {"seed": 3, "size_px": 32, **{n: changes.pop(n) for n in names}}
    return AdaptationTrainer(
        pipeline,
        images,
        [f"A photo of {CLASSES[label]}" for label in images.labels],
        replace(CONFIG, **changes),
        **options,
    )


def train(fit: AdaptationTrainer, until: int | None = None) -> list[float]:
    fit.cache()
    losses = []
    steps = fit.train()
    for step in steps:
        losses.append(step.loss)
        if step.number == until:
            steps.close()
    return losses


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(found) == set(expected)
    assert [n for n in expected if not torch.equal(found[n], expected[n])] == []


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [(8, 4, [4, 4]), (7, 3, [3, 4]), (8, 3, [3, 3, 2]), (5, 8, [5]), (3, 1, [1, 1, 1])],
)
def test_an_epoch_has_every_image_once_and_no_batch_of_one(
    count: int, size: int, expected: list[int]
) -> None:
    batches = epoch_batches(0, 1, count, size)
    assert [len(batch) for batch in batches] == expected
    assert sorted(i for batch in batches for i in batch) == list(range(count))
    assert epoch_batches(0, 1, count, size) == batches
    if count > 3:
        assert epoch_batches(0, 2, count, size) != batches
        assert epoch_batches(1, 1, count, size) != batches


@pytest.mark.parametrize("size", [(40, 32), (32, 32)])
def test_resumed_after_any_step_it_ends_the_same_to_the_bit(
    pipeline: Any, size: tuple[int, int]
) -> None:
    images = make_images(7, size=size)
    with trainer(pipeline, images) as uninterrupted:
        losses = train(uninterrupted)
        expected, _ = uninterrupted.state()
        assert uninterrupted.steps == len(losses) == 4
    for stop in (1, 2, 3, 4):
        with trainer(pipeline, images) as first:
            before = train(first, until=stop)
            tensors, state = first.state()
        torch.manual_seed(stop)  # nothing may depend on the state of torch's global generator
        torch.rand(5)
        with trainer(pipeline, images) as second:
            second.load_state(tensors, state)
            after = train(second)
            assert_same(second.state()[0], expected)
        assert before + after == losses


def test_the_state_holds_all_moments_and_weights(pipeline: Any) -> None:
    with trainer(pipeline) as fit:
        train(fit, until=2)
        tensors, state = fit.state()
        assert state["steps_done"] == 2
        for name in fit.parts["lora"].parameters:
            assert tensors[f"adamw.step.{name}"] == 2
            assert tensors[f"adamw.exp_avg.{name}"].shape == tensors[f"lora.{name}"].shape
            assert f"adamw.exp_avg_sq.{name}" in tensors


def test_only_lora_of_the_attention_learns_and_the_model_is_restored(pipeline: Any) -> None:
    unet = pipeline.unet
    unet.train()
    unet.conv_in.weight.requires_grad_(False)
    weights = {n: t.clone() for n, t in unet.state_dict().items()}
    others = {
        name: {n: t.clone() for n, t in getattr(pipeline, name).state_dict().items()}
        for name in ("vae", "text_encoder")
    }
    modules = dict(unet.named_modules())
    required = {n: p.requires_grad for n, p in unet.named_parameters()}
    training = {n: m.training for n, m in modules.items()}
    with trainer(pipeline, gradient_checkpointing="on") as fit:
        assert unet.is_gradient_checkpointing
        train(fit)
        layers = fit.parts["lora"]
        assert isinstance(layers, LoraLayers)
        assert layers.changed
        targets = {name.partition(".lora_")[0].rpartition("attn")[2][2:] for name in
                  fit.parts["lora"].parameters}  # fmt: skip
        assert targets == {"to_q", "to_k", "to_v", "to_out.0"}
    assert dict(unet.named_modules()).keys() == modules.keys()
    assert all(m is modules[n] for n, m in unet.named_modules())
    assert {n: p.requires_grad for n, p in unet.named_parameters()} == required
    assert {n: m.training for n, m in unet.named_modules()} == training
    assert not getattr(unet, "peft_config", None)
    assert not unet.is_gradient_checkpointing
    assert_same(unet.state_dict(), weights)
    for name, expected in others.items():
        assert_same(getattr(pipeline, name).state_dict(), expected)


def test_the_model_is_restored_after_an_error_too(pipeline: Any) -> None:
    def interrupted() -> None:
        with trainer(pipeline) as fit:
            for _ in fit.train():
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not any("lora" in name for name, _ in pipeline.unet.named_modules())


def test_gradient_checkpointing_gives_the_same_result(pipeline: Any) -> None:
    found = []
    for setting in ("on", "off"):
        with trainer(pipeline, gradient_checkpointing=setting) as fit:
            train(fit)
            found.append(fit.state()[0])
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], atol=1e-5, rtol=1e-4)


@pytest.fixture(params=["sd", "sdxl"])
def any_folder(request: pytest.FixtureRequest) -> Path:
    fixtures = {"sd": "tiny_pipeline_folder", "sdxl": "sdxl_folder"}
    folder: Path = request.getfixturevalue(fixtures[request.param])
    return folder


def unet_output(pipeline: Any, sample: Tensor) -> Tensor:
    """The UNet's output for a fixed input."""
    extra = None
    if getattr(pipeline, "text_encoder_2", None) is not None:
        sizes = torch.tensor([[32, 32, 0, 0, 32, 32]])
        extra = {"text_embeds": torch.ones(1, 16), "time_ids": sizes}
    width = pipeline.unet.config.cross_attention_dim
    text = torch.linspace(-1, 1, 5 * width).view(1, 5, width)
    with torch.no_grad():
        found: Tensor = pipeline.unet(sample, 300, text, added_cond_kwargs=extra).sample
    return found


def test_the_saved_lora_is_the_trained_one_and_loads_like_any_other(
    any_folder: Path, tmp_path: Path
) -> None:
    pipeline = load(any_folder)
    side = pipeline.unet.config.sample_size
    sample = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(0))
    base = unet_output(pipeline, sample)
    with trainer(pipeline, epochs=3, size_px=side * pipeline.vae_scale_factor) as fit:
        train(fit)
        trained = unet_output(pipeline, sample)
        path = fit.parts["lora"].save(tmp_path)
    assert path == tmp_path / WEIGHTS_FILE
    assert [p.name for p in tmp_path.iterdir()] == [WEIGHTS_FILE]
    assert torch.equal(unet_output(pipeline, sample), base)
    other = load(any_folder)
    other.load_lora_weights(tmp_path)
    loaded = unet_output(other, sample)
    torch.testing.assert_close(loaded, trained, atol=1e-5, rtol=1e-5)
    assert (loaded - base).abs().max() > 1e-3


def test_the_generator_uses_the_lora(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    from gendataagent.generation.diffusion import DiffusionFactory

    with trainer(load(tiny_pipeline_folder), epochs=3) as fit:
        train(fit)
        fit.parts["lora"].save(tmp_path)
    request = RenderRequest(
        source=make_images(1).image(0), prompt="A photo of cat", negative_prompt="", seed=1,
        strength=1.0, guidance_scale=2.0, num_inference_steps=2,
    )  # fmt: skip
    images = [
        DiffusionFactory(model=str(tiny_pipeline_folder), lora=lora)().render([request])[0].image
        for lora in ("", str(tmp_path))
    ]
    assert images[0] is not None
    assert images[1] is not None
    assert images[0].tobytes() != images[1].tobytes()


def test_sdxl_gets_its_sizes_and_pooled_text(sdxl_folder: Path) -> None:
    pipeline = load(sdxl_folder)
    seen: list[dict[str, Tensor]] = []
    with trainer(pipeline, make_images(4, size=(48, 32)), epochs=1) as fit:
        pipeline.unet.register_forward_pre_hook(
            lambda _, __, kwargs: seen.append(kwargs["added_cond_kwargs"]), with_kwargs=True
        )
        train(fit)
    sizes = torch.cat([call["time_ids"] for call in seen])
    assert sizes[:, [0, 1, 2, 4, 5]].unique(dim=0).tolist() == [[32, 48, 0, 32, 32]]
    assert len(sizes[:, 3].unique()) > 1  # the crops' left edges
    assert all(call["text_embeds"].shape[1] == 16 for call in seen)


def test_cached_prompt_embeddings_equal_freshly_encoded_ones(any_folder: Path) -> None:
    from gendataagent.core.progress import SilentProgress
    from gendataagent.generation.adaptation.prompt_embeddings import PromptEmbeddings

    prompts = ["A photo of cat", "A photo of ship", "A photo of cat"]
    pipeline, cpu = load(any_folder), torch.device("cpu")
    cached = PromptEmbeddings(pipeline, prompts, cpu)
    cached.cache(SilentProgress())
    fresh = PromptEmbeddings(pipeline, prompts, cpu, cache_bytes=1)
    fresh.cache(SilentProgress())
    assert (cached.fully_cached, fresh.fully_cached) == (True, False)
    assert (cached.of([0])[1] is None) == (not cached.dual)
    for found, expected in zip(cached.of([1, 2]), fresh.of([1, 2]), strict=True):
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            torch.testing.assert_close(found, expected)
            assert not torch.allclose(found[0], found[1])


def test_steps_lower_the_loss(pipeline: Any) -> None:
    with trainer(pipeline, make_images(4), learning_rate=1e-3) as fit:
        batch = fit._prepare([(1, index) for index in range(4)])
        losses = [fit._step(batch) for _ in range(6)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 1e-3


def test_bf16_resumes_to_the_bit(pipeline: Any) -> None:
    half = pipeline.to(torch.bfloat16)
    with trainer(half, precision="bf16") as uninterrupted:
        train(uninterrupted)
        expected, _ = uninterrupted.state()
    with trainer(half, precision="bf16") as first:
        train(first, until=1)
        state = first.state()
    with trainer(half, precision="bf16") as second:
        second.load_state(*state)
        train(second)
        assert_same(second.state()[0], expected)
    assert all(t.dtype == torch.float32 for t in expected.values())


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"images": make_images(1)}, DataError, "at least 2 images, got 1"),
        ({"batch_size": 1}, ConfigError, "mmd_weight=0"),
        ({"size_px": 30}, ConfigError, "multiple of 4 .* got 30"),
        ({"precision": "fp16"}, ConfigError, "mixed_precision=fp16 needs a CUDA GPU, got cpu"),
    ],
)
def test_bad_settings_and_images_are_refused(
    pipeline: Any, changes: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        trainer(pipeline, **changes)
    assert not getattr(pipeline.unet, "peft_config", None)


def _predict_sample(pipeline: Any) -> None:
    pipeline.scheduler.register_to_config(prediction_type="sample")


def _flow(pipeline: Any) -> None:
    pipeline.scheduler.register_to_config(prediction_type="flow_prediction")


def _inpainting(pipeline: Any) -> None:
    pipeline.unet.register_to_config(in_channels=9)


def _distilled(pipeline: Any) -> None:
    pipeline.unet.register_to_config(time_cond_proj_dim=8)


def _upscaler(pipeline: Any) -> None:
    pipeline.unet.register_to_config(class_embed_type="timestep")


def _adapted(pipeline: Any) -> None:
    trainer(pipeline)


def _without_text(pipeline: Any) -> None:
    pipeline.text_encoder = None


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_predict_sample, "prediction_type='sample'"),
        (_flow, "flow-matching"),
        (_inpainting, "9 input channels"),
        (_distilled, "few-step model"),
        (_upscaler, "class_embed_type='timestep'"),
        (_adapted, "already has LoRA layers"),
        (_without_text, "no text_encoder"),
    ],
)
def test_a_generator_that_cannot_be_adapted_is_refused(
    pipeline: Any, spoil: Callable[[Any], None], words: str
) -> None:
    spoil(pipeline)
    with pytest.raises(ModelError, match=words):
        trainer(pipeline)


def test_one_image_per_step_works_without_the_matching_term(pipeline: Any) -> None:
    with trainer(pipeline, make_images(3), batch_size=1, mmd_weight=0.0, epochs=1) as fit:
        assert len(train(fit)) == 3


def test_unchanged_weights_are_not_written(pipeline: Any, tmp_path: Path) -> None:
    with trainer(pipeline) as fit, pytest.raises(ModelError, match="did not change"):
        fit.parts["lora"].save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_non_finite_loss_stops_with_advice(pipeline: Any) -> None:
    with (
        trainer(pipeline, learning_rate=1e30, epochs=9) as fit,
        pytest.raises(TrainingDivergedError, match=r"Lower adaptation\.learning_rate"),
    ):
        train(fit)


def test_a_state_of_another_training_is_refused(pipeline: Any) -> None:
    with trainer(pipeline) as fit:
        train(fit, until=1)
        tensors, state = fit.state()
    with (
        trainer(pipeline, rank=2) as other,
        pytest.raises(ModelError, match="another rank"),
    ):
        other.load_state(tensors, state)
    name = next(iter(tensors))
    fewer = {n: t for n, t in tensors.items() if n != name}
    with trainer(pipeline) as other:
        with pytest.raises(ModelError, match="one side only"):
            other.load_state(fewer, state)
        moment = next(n for n in tensors if n.startswith("adamw.exp_avg_sq"))
        without = {n: t for n, t in tensors.items() if n != moment}
        with pytest.raises(ModelError, match="incomplete"):
            other.load_state(without, state)
