"""The file of the words of the classes: whole or refused, by name."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from gendataagent.config import GenerationConfig, RunConfig
from gendataagent.core.errors import ConfigError, GenDataAgentError, ModelError
from gendataagent.core.protocols import ImageGenerator
from gendataagent.core.records import ModelDescription
from gendataagent.generation.adaptation.checks import checked_spec
from gendataagent.generation.class_words import class_words
from gendataagent.generation.diffusion import DiffusionFactory
from gendataagent.generation.diffusion.class_tokens import (
    FILE_NAME,
    read_class_tokens,
    token_names,
)
from gendataagent.generation.diffusion.token_embeddings import AddedTokens
from gendataagent.runs.planning.checks import check_models_here
from tests.generation.adaptation.conftest import load
from tests.generation.adaptation.tiny_sdxl import save_tiny_sdxl

pytestmark = pytest.mark.integration

WHOLE = {"text_encoder:cat": torch.ones(2, 16), "text_encoder:old: ship": torch.zeros(2, 16)}
CLASSES = ["cat", "old: ship"]


def write(folder: Path, tensors: dict[str, Tensor], classes: object = CLASSES) -> Path:
    metadata = {"classes": classes if isinstance(classes, str) else json.dumps(classes)}
    safetensors.torch.save_file(tensors, folder / FILE_NAME, metadata=metadata)
    return folder


def test_a_whole_file_is_read_by_name(tmp_path: Path) -> None:
    for name in (write(tmp_path, WHOLE), tmp_path / FILE_NAME):
        found = read_class_tokens(str(name))
        assert (found.classes, found.vectors) == (("cat", "old: ship"), 2)
        assert found.widths == {"text_encoder": 16}
        assert found.words(["old: ship"]) == {"old: ship": "<old-ship>"}


@pytest.mark.parametrize(
    ("tensors", "classes", "words"),
    [
        ({"text_encoder:cat": torch.ones(2, 16)}, CLASSES, "lacks 'text_encoder:old: ship'"),
        ({**WHOLE, "text_encoder_2:cat": torch.ones(2, 16)}, CLASSES, "lacks 'text_encoder_2:old"),
        ({**WHOLE, "text_encoder:dog": torch.ones(2, 16)}, CLASSES, "belongs to none of its"),
        ({**WHOLE, "unet:cat": torch.ones(2, 16)}, CLASSES, "belongs to none of its classes"),
        ({**WHOLE, "text_encoder:cat": torch.ones(3, 16)}, CLASSES, "of different shapes"),
        ({**WHOLE, "text_encoder:cat": torch.ones(2, 8)}, CLASSES, "of different shapes"),
        ({"text_encoder:cat": torch.ones(16)}, ["cat"], "of different shapes, or none"),
        ({"text_encoder:cat": torch.ones(0, 16)}, ["cat"], "of different shapes, or none"),
        ({"cat": torch.ones(2, 16)}, ["cat"], "holds no embeddings"),
        (WHOLE, "", "lists no classes"),
        (WHOLE, "not json", "lists no classes"),
        (WHOLE, [], "lists no classes"),
        (WHOLE, ["cat", "cat"], "lists no classes"),
        (WHOLE, [1, 2], "lists no classes"),
        (WHOLE, {"cat": 1}, "lists no classes"),
        (WHOLE, "[" * 100_000, "lists no classes"),
    ],
)
def test_what_is_not_whole_is_refused(
    tensors: dict[str, Tensor], classes: object, words: str, tmp_path: Path
) -> None:
    name = str(write(tmp_path, tensors, classes))
    with pytest.raises(ModelError, match=words) as raised:
        read_class_tokens(name)
    assert str(raised.value).startswith("generation.class_tokens: ")


def test_a_damaged_or_missing_file_is_refused(tmp_path: Path, tiny_pipeline_folder: Path) -> None:
    config = RunConfig.from_dict({"generation": {"class_tokens": str(tmp_path)}})
    with pytest.raises(ModelError, match="there is no file"):
        check_models_here(config)
    factory = DiffusionFactory(model=str(tiny_pipeline_folder), class_tokens=str(tmp_path))
    write(tmp_path, {**WHOLE, "text_encoder:cat": torch.full((2, 16), torch.nan)})
    with pytest.raises(ModelError, match="not finite, in 'text_encoder:cat'"):
        factory()
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:-20])
    for use in (factory.check, factory):
        with pytest.raises(ModelError, match=r"generation\.class_tokens: .*class_tokens\.safe"):
            use()
    config = RunConfig.from_dict({"generation": {"class_loras": str(tmp_path)}})
    with pytest.raises(ModelError, match=r"has no class_loras\.json"):
        check_models_here(config)


def test_each_class_has_a_word_of_its_own() -> None:
    names = ("Golden retriever", "golden_retriever", "猫", "犬", "Café au lait", "a/b", "🚢", "<x>")
    words = token_names(names)
    assert words["Café au lait"] == "<cafe-au-lait>"
    assert words["a/b"] == "<a-b>"
    assert words["<x>"] == "<x>"
    assert len(set(words.values())) == len(names)
    assert all(word.isascii() and word == word.lower() for word in words.values())
    assert words["猫"] == token_names(["猫"])["猫"]  # whatever the other classes


def test_other_prompts_are_encoded_as_before_also_by_an_older_configuration(
    tmp_path: Path,
) -> None:
    """Text encoders of 2022 take the largest id for the end of a prompt; new words have larger."""
    pipeline = load(save_tiny_sdxl(tmp_path / "sdxl"))
    for encoder in (pipeline.text_encoder, pipeline.text_encoder_2):
        for module in encoder.modules():
            if hasattr(module, "eos_token_id"):
                module.eos_token_id = 2

    def pooled(prompt: str) -> Tensor:
        encoded = pipeline.encode_prompt(prompt, device="cpu", do_classifier_free_guidance=False)
        found: Tensor = encoded[2]
        return found.detach()

    before = pooled("A photo of cat")
    vectors = {p: {"<cat>": torch.ones(1, 16)} for p in ("text_encoder", "text_encoder_2")}
    added = AddedTokens(pipeline, vectors)
    assert torch.equal(pooled("A photo of cat"), before)
    short, long = pooled("A photo of <cat>"), pooled("A photo of <cat>, which is red")
    assert not torch.equal(short, long)  # pooled at the end, not at the new word
    added.remove()
    assert torch.equal(pooled("A photo of cat"), before)
    assert {m.eos_token_id for m in pipeline.text_encoder_2.modules()
            if hasattr(m, "eos_token_id")} == {2}  # fmt: skip


def test_a_generator_of_another_kind_is_refused(tmp_path: Path) -> None:
    class OwnFactory:
        """A factory of the user's."""

        def describe(self) -> ModelDescription:
            return ModelDescription(name="own")

        def __call__(self) -> ImageGenerator:
            raise AssertionError("it is not needed")

    assert class_words(OwnFactory(), CLASSES, GenerationConfig()) == {}
    for name in ("class_tokens", "class_loras"):
        named: dict[str, Any] = {name: str(tmp_path)}
        settings = replace(GenerationConfig(), **named)
        with pytest.raises(ConfigError, match=rf"generation\.{name} needs a diffusion generator"):
            class_words(OwnFactory(), CLASSES, settings)


def test_the_tokenizer_may_not_have_the_word(tmp_path: Path, tiny_pipeline_folder: Path) -> None:
    pipeline = load(tiny_pipeline_folder)
    AddedTokens(pipeline, {"text_encoder": {"<cat>": torch.ones(1, 16)}})
    with pytest.raises(ModelError, match="has one of the words already"):
        AddedTokens(pipeline, {"text_encoder": {"<cat>": torch.ones(1, 16)}})
    spec = DiffusionFactory(model=str(tiny_pipeline_folder))
    assert checked_spec(RunConfig(), spec) is spec


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=settings().max_examples // 3,
)
@given(data=st.data())
def test_any_file_is_words_or_a_sentence(tmp_path: Path, data: st.DataObject) -> None:
    path = write(tmp_path, WHOLE) / FILE_NAME
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    with contextlib.suppress(GenDataAgentError):
        read_class_tokens(str(tmp_path)).token_of  # noqa: B018
