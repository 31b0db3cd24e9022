"""Words of the classes: what is trained, exact resuming, and the folder of an adaptation."""

from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from gendataagent.config import AdaptationConfig, GenerationConfig, RunConfig
from gendataagent.core.errors import ConfigError, DataError, ModelError
from gendataagent.core.files import read_jsonl
from gendataagent.core.protocols import RenderRequest
from gendataagent.data import LabelledImages
from gendataagent.generation.adaptation import Adaptation, adapt, read_adaptation
from gendataagent.generation.adaptation.batches import ClassTurns
from gendataagent.generation.adaptation.trainer import AdaptationTrainer
from gendataagent.generation.backends import build_generator
from gendataagent.generation.class_words import class_words
from gendataagent.generation.diffusion import DiffusionFactory
from tests.children import kill_once_written
from tests.generation.adaptation.conftest import CLASSES, load, make_images
from tests.generation.adaptation.test_adapt import Interrupting, assert_same, settings
from tests.tiny_models import save_tiny_flux, save_tiny_sd3

pytestmark = pytest.mark.integration

CONFIG = AdaptationConfig(
    kind="tokens", batch_size=2, token_steps=3, token_learning_rate=1e-2, mmd_weight=0.0
)
SETTINGS = GenerationConfig()
TRAIN = make_images(5, size=(40, 32))
WORDS = dict(zip(CLASSES, ("cat", "old ship"), strict=True))
TOKENS = {"cat": "<cat>", "ship": "<ship>"}


def trainer(pipeline: Any, images: LabelledImages = TRAIN, **changes: Any) -> AdaptationTrainer:
    return AdaptationTrainer(
        pipeline,
        images,
        [f"A photo of {TOKENS[CLASSES[label]]}" for label in images.labels],
        replace(CONFIG, **changes),
        seed=3,
        size_px=32,
        words=WORDS,
        labels=images.labels,
    )


@pytest.fixture(params=["sd", "sdxl"])
def any_folder(request: pytest.FixtureRequest) -> Path:
    fixtures = {"sd": "tiny_pipeline_folder", "sdxl": "sdxl_folder"}
    folder: Path = request.getfixturevalue(fixtures[request.param])
    return folder


def test_each_class_has_its_turn_and_its_steps() -> None:
    turns = ClassTurns(seed=1, labels=(0, 1, 0, 1, 0, 1, 1), batch_size=2, steps_each=5)
    assert (turns.steps, turns.steps_per_epoch) == (10, 4)
    read = [turns.of(step) for step in range(turns.steps)]
    assert [{turns.labels[i] for _, i in batch} for batch in read] == [{0}, {1}] * 5
    counts = Counter(index for batch in read for _, index in batch)
    assert {counts[i] for i in (0, 2, 4)} == {3, 4}
    assert {counts[i] for i in (1, 3, 5, 6)} == {2, 3}
    of_image = [times for batch in read for times, index in batch if index == 2]
    assert of_image == sorted(set(of_image))  # each time with another crop and noise
    few = ClassTurns(seed=1, labels=(0, 1), batch_size=3, steps_each=1)
    assert [few.of(0), few.of(1)] == [[(1, 0), (2, 0), (3, 0)], [(1, 1), (2, 1), (3, 1)]]


def test_only_the_words_of_the_class_that_is_read_learn(any_folder: Path) -> None:
    pipeline = load(any_folder)
    parts = [p for p in ("unet", "vae", "text_encoder", "text_encoder_2") if hasattr(pipeline, p)]
    before = {
        p: {n: t.clone() for n, t in getattr(pipeline, p).state_dict().items()} for p in parts
    }
    required = {p: [x.requires_grad for x in getattr(pipeline, p).parameters()] for p in parts}
    tokenizer = pipeline.tokenizer
    with trainer(pipeline, token_vectors=2) as fit:
        first = fit.parts["tokens"].tensors()
        steps = fit.train()
        next(steps)
        steps.close()
        after = fit.parts["tokens"].tensors()
        changed = {name for name in first if not torch.equal(first[name], after[name])}
        assert {name.partition(":")[2] for name in changed} == {"cat"}  # the first turn
        assert {name.partition(":")[0] for name in changed} == {p for p in parts if "text" in p}
        assert all(tensor.shape == (2, 16) for tensor in first.values())
    for part in parts:
        now = getattr(pipeline, part).state_dict()
        assert set(now) == set(before[part])
        assert all(torch.equal(now[name], tensor) for name, tensor in before[part].items())
        assert [x.requires_grad for x in getattr(pipeline, part).parameters()] == required[part]
    assert pipeline.tokenizer is tokenizer


def test_a_word_starts_as_the_words_that_name_its_class(pipeline: Any) -> None:
    table = pipeline.text_encoder.get_input_embeddings().weight.detach()
    ids = pipeline.tokenizer("cat", add_special_tokens=False)["input_ids"]
    mean = table[ids].mean(dim=0)
    with trainer(pipeline) as one:
        assert torch.equal(one.parts["tokens"].tensors()["text_encoder:cat"], mean[None])
    with trainer(pipeline, token_vectors=4) as four:
        found = four.parts["tokens"].tensors()["text_encoder:cat"]
        assert torch.equal(found, torch.cat([table[ids], mean[None]]))


@pytest.mark.parametrize("kind", ["tokens", "lora+tokens"])
def test_resumed_after_any_step_it_ends_the_same_to_the_bit(pipeline: Any, kind: str) -> None:
    changes: dict[str, Any] = {"kind": kind, "epochs": 2}
    with trainer(pipeline, **changes) as whole:
        losses = [step.loss for step in whole.train()]
        expected, _ = whole.state()
    assert len(losses) == (6 if kind == "tokens" else 4)
    for stop in range(1, len(losses)):
        with trainer(pipeline, **changes) as first:
            steps = first.train()
            before = [next(steps).loss for _ in range(stop)]
            steps.close()
            tensors, state = first.state()
        torch.manual_seed(stop)
        with trainer(pipeline, **changes) as second:
            second.load_state(tensors, state)
            assert before + [step.loss for step in second.train()] == losses
            found, _ = second.state()
        assert set(found) == set(expected)
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_gradient_checkpointing_gives_the_same_words(any_folder: Path) -> None:
    found = []
    for setting in ("on", "off"):
        pipeline = load(any_folder)
        with trainer(pipeline, gradient_checkpointing=setting) as fit:
            assert pipeline.unet.is_gradient_checkpointing == (setting == "on")
            for _ in fit.train():
                pass
            found.append(fit.parts["tokens"].tensors())
        assert not pipeline.unet.is_gradient_checkpointing
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], atol=1e-5, rtol=1e-4)


def test_a_state_without_some_moments_is_refused(pipeline: Any) -> None:
    with trainer(pipeline) as fit:
        for _ in fit.train():
            pass
        tensors, state = fit.state()
    key = "adamw.exp_avg.text_encoder:cat"
    with trainer(pipeline) as other, pytest.raises(ModelError, match="incomplete"):
        other.load_state({n: t for n, t in tensors.items() if n != key}, state)
    key = "tokens.text_encoder:cat"
    with trainer(pipeline) as other, pytest.raises(ModelError, match="words of the classes are of"):
        other.load_state({n: t for n, t in tensors.items() if n != key}, state)


def test_untrained_words_are_not_written(pipeline: Any, tmp_path: Path) -> None:
    with trainer(pipeline) as fit:
        steps = fit.train()
        next(steps)
        steps.close()
        with pytest.raises(ModelError, match="the word of ship did not change"):
            fit.parts["tokens"].save(tmp_path)


def tokens_config(folder: Path, **adaptation: Any) -> RunConfig:
    return settings(
        folder, **{"kind": "tokens", "token_steps": 3, "token_learning_rate": 0.1, **adaptation}
    )


@pytest.fixture(scope="module")
def finished(tiny_pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Adaptation:
    return adapt(tokens_config(tiny_pipeline_folder), TRAIN, tmp_path_factory.mktemp("tokens"))


def test_the_folder_of_an_adaptation_holds_the_words_by_name(finished: Adaptation) -> None:
    assert [path.name for path in finished.paths] == ["class_tokens.safetensors"]
    with safe_open(finished.paths[0], framework="pt") as opened:
        assert set(opened.keys()) == {"text_encoder:cat", "text_encoder:ship"}
        assert json.loads(opened.metadata()["classes"]) == ["cat", "ship"]
    rows = read_jsonl(finished.folder / "prompts.jsonl")
    assert rows[0]["prompt"] == f"A photo of <cat>, which is {rows[0]['caption']}"
    assert (finished.steps, finished.epochs, len(finished.losses)) == (6, 3, 3)
    assert finished.distances is not None


def test_interrupted_anywhere_it_resumes_to_the_same_result(
    finished: Adaptation, tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    config, stops = tokens_config(tiny_pipeline_folder), 0
    for events in (2, 5, 12, 6, 5, 1000):
        with contextlib.suppress(KeyboardInterrupt):
            adapt(config, TRAIN, tmp_path, progress=Interrupting(events))
            break
        stops += 1
    assert stops >= 3
    assert_same(read_adaptation(tmp_path), finished)


@pytest.mark.slow
def test_killed_it_resumes_to_the_same_result(
    finished: Adaptation, tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    out, toml = tmp_path / "tokens", tmp_path / "config.toml"
    config = tokens_config(tiny_pipeline_folder)
    toml.write_text(config.to_toml(), encoding="utf-8")
    code = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from tests.generation.adaptation.test_class_tokens_training import TRAIN, adapt\n"
        "from gendataagent.config import RunConfig\n"
        "adapt(RunConfig.from_toml(sys.argv[1]), TRAIN, sys.argv[2])\n"
    )
    command = [sys.executable, "-c", code, str(toml), str(out)]
    root = Path(__file__).resolve().parents[3]
    for until in ("checkpoints/epoch-0002", "checkpoints/epoch-0004", "class_tokens.safetensors"):
        kill_once_written(command, out / until, root)
    assert_same(adapt(config, TRAIN, out), finished)


def request(prompt: str, seed: int = 1) -> RenderRequest:
    return RenderRequest(
        source=TRAIN.image(0), prompt=prompt, negative_prompt="", seed=seed, strength=1.0,
        guidance_scale=2.0, num_inference_steps=2,
    )  # fmt: skip


def test_the_generator_reads_the_words_alone_or_in_a_batch(
    finished: Adaptation, tiny_pipeline_folder: Path
) -> None:
    config = tokens_config(tiny_pipeline_folder).with_adaptation(str(finished.folder))
    assert not config.adaptation.enabled
    factory = DiffusionFactory(model=config.generation.generator, class_tokens=str(finished.folder))
    assert factory.describe() == build_generator(config).describe()
    assert "+class_tokens:" in factory.describe().revision
    words = class_words(factory, ("ship", "cat"), SETTINGS)  # by name, whatever the order
    assert words == {"cat": "<cat>", "ship": "<ship>"}
    generator = factory()
    plain = DiffusionFactory(model=str(tiny_pipeline_folder))()
    cat, name = request(f"A photo of {words['cat']}"), request("A photo of cat")
    found = pixels(generator, [request(f"A photo of {words['ship']}", 5), cat, name])
    assert found[1:] == pixels(generator, [cat]) + pixels(generator, [name])
    assert found[2] == pixels(plain, [name])[0] != found[1]  # other prompts are as they were
    with pytest.raises(ConfigError, match="has no word for 1 class of the data, such as dog"):
        class_words(factory, ("cat", "dog"), SETTINGS)


def pixels(generator: Any, requests: list[RenderRequest]) -> list[bytes]:
    return [made.image.tobytes() for made in generator.render(requests)]


def test_lora_and_words_are_trained_and_used_together(
    tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    config = tokens_config(tiny_pipeline_folder, kind="lora+tokens", epochs=1, measure_images=2)
    found = adapt(config, TRAIN, tmp_path)
    assert sorted(path.name for path in found.paths) == [
        "class_tokens.safetensors", "pytorch_lora_weights.safetensors",
    ]  # fmt: skip
    adapted = config.with_adaptation(str(tmp_path)).generation
    assert adapted.lora == adapted.class_tokens == str(tmp_path)
    revision = build_generator(config.with_adaptation(str(tmp_path))).describe().revision
    assert "+lora:" in revision
    assert "+class_tokens:" in revision


def test_an_sdxl_learns_a_word_for_each_of_its_encoders(
    sdxl_folder: Path, tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    config = tokens_config(sdxl_folder, token_vectors=2, sample_every_epochs=0)
    adapt(config, TRAIN, tmp_path)
    factory = build_generator(config.with_adaptation(str(tmp_path)))
    generator = factory()
    one, other = pixels(generator, [request("A photo of <cat>"), request("A photo of <ship>")])
    assert one != other
    wrong = DiffusionFactory(model=str(tiny_pipeline_folder), class_tokens=str(tmp_path))
    with pytest.raises(ModelError, match=r"generation\.class_tokens: .* was made for another gen"):
        wrong.check()


@pytest.mark.parametrize("save", [save_tiny_sd3, save_tiny_flux])
def test_a_generator_that_cannot_learn_words_is_refused_before_anything_is_spent(
    save: Any, tmp_path: Path
) -> None:
    config = tokens_config(save(tmp_path / "model"))
    with pytest.raises(ModelError, match=r"by T5EncoderModel and cannot learn words"):
        adapt(config, TRAIN, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_class_without_images_is_refused(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="but ship has 0"):
        adapt(tokens_config(tiny_pipeline_folder), TRAIN.subset([0, 2, 4]), tmp_path)
