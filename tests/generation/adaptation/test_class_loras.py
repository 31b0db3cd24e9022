"""A LoRA for each class: trained one after the other, and each used for its class alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from gendataagent.config import GenerationConfig, RunConfig
from gendataagent.core.errors import ConfigError, DataError, ModelError
from gendataagent.core.protocols import RenderRequest
from gendataagent.generation.adaptation import Adaptation, adapt, read_adaptation
from gendataagent.generation.backends import build_generator
from gendataagent.generation.class_words import class_words
from gendataagent.generation.diffusion import DiffusionFactory
from gendataagent.generation.diffusion.batch_trial import tried_batch
from gendataagent.generation.diffusion.class_loras import write_class_loras
from tests.generation.adaptation.conftest import make_images
from tests.generation.adaptation.test_adapt import Interrupting, assert_same, settings

pytestmark = pytest.mark.integration

SETTINGS = GenerationConfig()
TRAIN = make_images(7, size=(40, 32))
WEIGHTS = "pytorch_lora_weights.safetensors"


def each_class(folder: Path, **adaptation: Any) -> RunConfig:
    return settings(folder, **{"per_class": True, "rank": 2, "learning_rate": 0.1, **adaptation})


@pytest.fixture(scope="module")
def config(tiny_pipeline_folder: Path) -> RunConfig:
    return each_class(tiny_pipeline_folder)


@pytest.fixture(scope="module")
def finished(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Adaptation:
    return adapt(config, TRAIN, tmp_path_factory.mktemp("each"))


def test_each_class_has_a_lora_of_its_own_images(
    finished: Adaptation, config: RunConfig, tmp_path: Path
) -> None:
    names = [path.relative_to(finished.folder).as_posix() for path in finished.paths]
    assert names == ["class_loras.json", f"classes/cat/{WEIGHTS}", f"classes/ship/{WEIGHTS}"]
    assert not list(finished.folder.glob("classes/*/checkpoints"))
    assert (finished.steps, finished.epochs, len(finished.losses)) == (2 * 3, 3, 3)
    assert finished.distances is not None
    ships = TRAIN.subset([i for i, label in enumerate(TRAIN.labels) if label == 1])
    whole = replace(config, adaptation=replace(config.adaptation, per_class=False))
    alone = adapt(whole, ships, tmp_path)
    assert alone.paths[0].read_bytes() == (finished.folder / names[2]).read_bytes()


def test_interrupted_in_the_middle_of_the_classes_none_is_trained_twice(
    finished: Adaptation, config: RunConfig, tmp_path: Path
) -> None:
    class AtSteps(Interrupting):
        """Stops in the training of the second class; counts the steps after it."""

        steps = 0

        def stage(self, name: str, total: int | None = None, unit: str = "", done: int = 0) -> Any:
            self.counts = name == "adapt"
            return super().stage(name, total, unit, done)

        def _event(self) -> None:
            self.left -= getattr(self, "counts", False)
            if self.left <= 0:
                raise KeyboardInterrupt

        def advance(self, amount: float = 1) -> None:
            self.steps += self.counts
            super().advance(amount)

    with pytest.raises(KeyboardInterrupt):
        adapt(config, TRAIN, tmp_path, progress=AtSteps(1 + 3 + 1 + 1))
    weights = tmp_path / "classes" / "cat" / WEIGHTS
    written = weights.stat().st_mtime_ns
    assert not (tmp_path / "classes" / "ship" / WEIGHTS).exists()
    again = AtSteps(10**6)
    assert_same(adapt(config, TRAIN, tmp_path, progress=again), finished)
    assert weights.stat().st_mtime_ns == written
    assert again.steps <= 3


def test_what_has_changed_is_refused_and_trained_again(
    finished: Adaptation, config: RunConfig, tmp_path: Path
) -> None:
    out = tmp_path / "each"
    shutil.copytree(finished.folder, out)
    path = out / "classes" / "ship" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    factory = DiffusionFactory(model=config.generation.generator, class_loras=str(out))
    for use in (factory.check, factory):
        with pytest.raises(ModelError, match=r"class_loras: .*ship.*has changed since"):
            use()
    (out / "adaptation.json").unlink()
    assert_same(adapt(config, TRAIN, out), finished)
    path.unlink()
    with pytest.raises(ModelError, match="is missing"):
        factory.check()
    index = out / "class_loras.json"
    rows = json.loads(index.read_text(encoding="utf-8"))
    for file, words in (
        ("../../other.safetensors", "files elsewhere"), ("/etc/passwd", "files elsewhere"),
        ("a\0b", "is damaged"),
    ):  # fmt: skip
        rows["classes"]["ship"]["file"] = file
        index.write_text(json.dumps(rows), encoding="utf-8")
        with pytest.raises(ModelError, match=words):
            factory.check()
    for content in ("{", "[]", '{"classes": []}', '{"classes": {"cat": 1}}', '{"classes": {}}'):
        index.write_text(content, encoding="utf-8")
        with pytest.raises(ModelError, match=r"is damaged|names no files"):
            factory.check()


def test_numbers_that_are_not_finite_are_refused(
    finished: Adaptation, config: RunConfig, tmp_path: Path
) -> None:
    out = tmp_path / "each"
    shutil.copytree(finished.folder, out)
    paths = {path.parent.name: path for path in out.glob(f"classes/*/{WEIGHTS}")}
    stored = load_file(paths["ship"])
    save_file({name: tensor * float("nan") for name, tensor in stored.items()}, paths["ship"])
    write_class_loras(out, paths)
    generator = DiffusionFactory(model=config.generation.generator, class_loras=str(out))()
    pixels(generator, [request("cat", 1)])
    with pytest.raises(ModelError, match=r"the LoRA of ship .* not finite"):
        generator.render([request("ship", 1)])


def request(name: str, seed: int) -> RenderRequest:
    return RenderRequest(
        source=TRAIN.image(0), prompt="A photo of it", negative_prompt="", seed=seed, strength=1.0,
        guidance_scale=2.0, num_inference_steps=2, class_name=name,
    )  # fmt: skip


def pixels(generator: Any, requests: list[RenderRequest]) -> list[bytes]:
    return [made.image.tobytes() for made in generator.render(requests)]


def test_an_image_depends_on_its_request_alone(finished: Adaptation, config: RunConfig) -> None:
    adapted = config.with_adaptation(str(finished.folder))
    factory = DiffusionFactory(
        model=config.generation.generator, class_loras=str(finished.folder), dtype="float32"
    )
    assert factory.describe() == build_generator(adapted).describe()
    assert "+class_loras:" in factory.describe().revision
    generator = factory()
    mixed = [request(("cat", "ship")[i % 2], seed=i // 2) for i in range(6)]
    found = pixels(generator, mixed)
    assert found == [pixels(generator, [each])[0] for each in reversed(mixed)][::-1]
    assert found[0] != found[1]  # the same prompt and seed, drawn by another LoRA
    one = DiffusionFactory(
        model=config.generation.generator,
        lora=str(finished.folder / "classes" / "ship"),
        dtype="float32",
    )
    assert_close(found[1], pixels(one(), [mixed[1]])[0])
    assert tried_batch(replace(factory, batch_size=2)) == 2  # of no class
    with pytest.raises(ModelError, match="has no LoRA for dog"):
        generator.render([request("dog", 1)])
    assert pixels(generator, mixed) == found
    assert class_words(factory, ("ship", "cat"), SETTINGS) == {}
    with pytest.raises(ConfigError, match="has no LoRA for 1 class of the data, such as dog"):
        class_words(factory, ("cat", "dog"), SETTINGS)


def assert_close(found: bytes, expected: bytes) -> None:
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= 1


def test_another_generator_is_refused(finished: Adaptation, sdxl_folder: Path) -> None:
    factory = DiffusionFactory(model=str(sdxl_folder), class_loras=str(finished.folder))
    with pytest.raises(ModelError, match="does not fit this generator"):
        factory.check()
    with pytest.raises(ModelError, match=r"has no class_loras\.json"):
        replace(factory, class_loras=str(sdxl_folder)).check()


def test_an_sdxl_has_loras_for_each_class_too(sdxl_folder: Path, tmp_path: Path) -> None:
    config = each_class(sdxl_folder, epochs=1, measure_images=4, sample_every_epochs=0)
    adapt(config, TRAIN, tmp_path)
    generator = build_generator(config.with_adaptation(str(tmp_path)))()
    one, other = pixels(generator, [request("cat", 1), request("ship", 1)])
    assert one != other
    assert read_adaptation(tmp_path).distances is not None


def test_a_class_of_one_image_needs_no_matching_term(
    tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    single = TRAIN.subset([0, 2, 1])
    with pytest.raises(DataError, match="from at least 2 training images of each, but ship has 1"):
        adapt(each_class(tiny_pipeline_folder), single, tmp_path / "one")
    brief = each_class(
        tiny_pipeline_folder, mmd_weight=0.0, epochs=1, measure_images=0, sample_every_epochs=0
    )
    assert adapt(brief, single, tmp_path / "two").steps == 2


def test_a_lora_for_each_class_goes_with_neither_words_nor_joined_weights() -> None:
    wrong = {"adaptation": {"enabled": True, "per_class": True, "kind": "tokens"},
             "generation": {"fuse_qkv": True, "class_tokens": "words"}}  # fmt: skip
    with pytest.raises(ConfigError) as raised:
        RunConfig.from_dict(wrong)
    text = str(raised.value)
    assert "needs adaptation.kind = lora, got tokens" in text
    assert "generation.class_tokens names others" in text
    assert "set generation.fuse_qkv=false" in text
