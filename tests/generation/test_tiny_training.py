"""The scripts that train the bundled model: checkpoints, schedule, tokenizer, duplicates."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch

BUNDLE = Path(__file__).resolve().parents[2] / "scripts" / "bundle"


@pytest.fixture(autouse=True)
def _scripts_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BUNDLE))


def test_a_resumed_optimizer_takes_the_same_next_step(tmp_path: Path) -> None:
    from training_state import load_state, restore_optimizer, save_state

    def step(model: torch.nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        torch.autograd.backward(model(torch.ones(2, 3)).square().sum())
        optimizer.step()

    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(3):
        step(model, optimizer)
    path = tmp_path / "state.safetensors"
    save_state(path, {"model": model.state_dict()}, optimizer, {"steps": 3, "loss": 0.5})
    saved, numbers = load_state(path)
    assert numbers == {"steps": 3, "loss": 0.5}
    again = torch.nn.Linear(3, 2)
    again.load_state_dict(saved["model"])
    again_optimizer = torch.optim.AdamW(again.parameters(), lr=0.1)
    restore_optimizer(again_optimizer, saved["optimizer"])
    step(model, optimizer)
    step(again, again_optimizer)
    assert torch.equal(model.weight, again.weight)
    assert list(tmp_path.iterdir()) == [path], "a temporary file was left behind"


def test_the_learning_rate_warms_up_stays_and_falls_by_the_clock() -> None:
    from training_state import WallClock

    now = time.time()
    young = WallClock(finish=now + 1_000, warm_up_steps=10, decay_from=0.6, start=now)
    assert young.factor(0) == pytest.approx(0.1)
    assert young.factor(50) == 1.0
    old = WallClock(finish=now + 200, warm_up_steps=10, decay_from=0.6, start=now - 800)
    assert old.factor(50) == pytest.approx(0.5, abs=0.01)
    over = WallClock(finish=now - 1, warm_up_steps=10, decay_from=0.6, start=now - 800)
    assert over.over
    assert over.factor(50) == pytest.approx(0.01)


def test_words_of_the_vocabulary_are_one_token_and_other_strings_are_bytes(tmp_path: Path) -> None:
    from tiny_text import PROMPT_TOKENS, build_tokenizer, save_tokenizer, vocabulary_texts
    from transformers import CLIPTokenizer

    save_tokenizer(build_tokenizer(vocabulary_texts()), tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    assert tokenizer.model_max_length == PROMPT_TOKENS
    words = {w for text in vocabulary_texts() for w in re.findall(r"\w+", text.lower())}
    assert len(words) > 80
    for word in words:
        assert len(tokenizer(word).input_ids) == 3, word
    for text in ("quokka", "Zürich", "金魚", "🐸"):
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids[1:-1]).replace(" ", "") == text.lower()


def test_the_longest_training_prompts_fit_the_text_encoder() -> None:
    from tiny_text import PROMPT_TOKENS, build_tokenizer, training_prompt, vocabulary_texts

    from gendataagent.generation.tiny.vocabulary import Attributes

    everything = Attributes(
        "brown", "green", "dark", "vivid", "close", "busy", "warm", "high", "left", "fine"
    )
    tokenizer, rng = build_tokenizer(vocabulary_texts()), random.Random(0)
    prompts = {training_prompt("automobile", everything, rng) for _ in range(2_000)}
    assert {"", "A photo of automobile"} < prompts
    assert max(len(tokenizer(prompt).input_ids) for prompt in prompts) <= PROMPT_TOKENS


def test_only_repeated_and_mirrored_images_are_found() -> None:
    from cifar10 import near_duplicate_rows

    rng = np.random.default_rng(0)
    coarse = rng.integers(90, 160, (20, 8, 8, 3), dtype=np.uint8)
    images = coarse.repeat(4, axis=1).repeat(4, axis=2)
    references = images[[3, 7]].copy()
    references[0] = np.clip(references[0].astype(int) // 2 + 40, 0, 255)
    references[1] = references[1, :, ::-1]
    assert near_duplicate_rows(images, references).tolist() == [3, 7]


def test_the_first_rows_of_each_class_are_taken_or_a_shortage_is_reported() -> None:
    from make_slice import first_rows_a_class

    labels = np.arange(40) % 10
    rows = np.arange(5, 40)
    chosen = first_rows_a_class(labels, rows, 2)
    assert np.bincount(labels[chosen]).tolist() == [2] * 10
    assert chosen.min() == 5
    with pytest.raises(ValueError, match="fewer than 4 images of airplane"):
        first_rows_a_class(labels, rows, 4)


@pytest.mark.slow
def test_the_unet_stage_resumes_from_its_checkpoint_and_can_be_exported(tmp_path: Path) -> None:
    from diffusers import AutoencoderTiny, StableDiffusionPipeline
    from tiny_autoencoder import CONFIG
    from tiny_export import export_pipeline
    from tiny_text import build_tokenizer, vocabulary_texts
    from tiny_unet import TrainingSet, UNetRecipe, load_average, train_unet
    from training_state import WallClock, load_state

    from gendataagent.generation.tiny.vocabulary import Attributes

    corpus = TrainingSet(torch.randn(40, 2, 8, 8, 8), [0] * 40, [Attributes("red", "green")] * 40)
    tokenizer, checkpoint = build_tokenizer(vocabulary_texts()), tmp_path / "unet.safetensors"
    recipe = UNetRecipe(batch=4)
    seen = []
    for _ in range(2):
        clock = WallClock(time.time() + 2.0, warm_up_steps=1, decay_from=0.5)
        train_unet(corpus, tokenizer, checkpoint, clock=clock, recipe=recipe)
        seen.append(load_state(checkpoint)[1])
    assert 0 < seen[0]["steps"] < seen[1]["steps"]
    assert seen[1]["images"] == 4 * seen[1]["steps"]
    over = WallClock(time.time() - 1.0, warm_up_steps=1, decay_from=0.5)
    before, _ = load_state(checkpoint)
    train_unet(corpus, tokenizer, checkpoint, clock=over, recipe=recipe)
    after, _ = load_state(checkpoint)
    for group in ("model", "average", "optimizer"):
        assert all(torch.equal(t, after[group][name]) for name, t in before[group].items()), group
    denoiser = load_average(checkpoint, tokenizer)
    vae = AutoencoderTiny(**CONFIG)
    export_pipeline(vae, denoiser, tokenizer, scaling_factor=1.1, folder=tmp_path / "model")
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "model")
    assert pipeline.vae.config.scaling_factor == 1.1
    assert pipeline("a frog", num_inference_steps=2).images[0].size == (32, 32)


def test_the_decoder_stage_leaves_the_encoder_unchanged_and_resumes(tmp_path: Path) -> None:
    from diffusers import AutoencoderTiny
    from tiny_autoencoder import CONFIG, load_autoencoder
    from tiny_decoder import load_features, train_decoder, train_features
    from training_state import WallClock, load_state, save_state

    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    start, network, checkpoint = (tmp_path / f"{n}.safetensors" for n in ("a", "b", "c"))
    save_state(start, {"model": AutoencoderTiny(**CONFIG).state_dict()}, None, {})
    train_features(images, np.arange(8), network, clock=WallClock(time.time() + 0.3, 1, 0.5))
    latents = torch.randn(8, 2, 8, 8, 8)
    for seconds in (0.3, -1.0):
        clock = WallClock(time.time() + seconds, 1, 0.5)
        train_decoder(images, latents, load_features(network), start, checkpoint, clock=clock)
        states = load_state(checkpoint)[0]
        changed = {
            name.split(".")[0]
            for name, tensor in load_autoencoder(start).state_dict().items()
            if not torch.equal(tensor, states["model"][name])
        }
        assert changed == {"decoder"}
        assert states["optimizer"]
    raw, averaged = states["raw"], states["model"]
    assert any(not torch.equal(raw[name], averaged[f"decoder.{name}"]) for name in raw)


def test_features_compare_zero_for_the_same_image_and_ignore_the_scale_of_activations() -> None:
    from tiny_decoder import relative_error

    torch.manual_seed(0)
    real, made = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    assert relative_error(real, real) == 0.0
    assert relative_error(made, real) == pytest.approx(2.0, abs=0.5)
    scale = torch.tensor([1.0, 10.0, 100.0])[None, :, None, None]
    assert relative_error(made * scale, real * scale) == pytest.approx(
        relative_error(made, real).item(), rel=1e-3
    )
