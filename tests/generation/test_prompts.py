"""Every prompt starts with its class."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendataagent.core.text import normalize_whitespace
from gendataagent.data.class_names import readable_class_name
from gendataagent.generation.prompts import compose_prompt


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("golden_retriever", "golden retriever"),
        ("  two   spaces_", "two spaces"),
        ("Große Katze", "Große Katze"),
        (unicodedata.normalize("NFD", "Kätzchen"), unicodedata.normalize("NFC", "Kätzchen")),
        ("犬", "犬"),
        ("___", "___"),
        ("n02085620-Chihuahua", "n02085620-Chihuahua"),
    ],
)
def test_a_folder_name_becomes_words(folder: str, words: str) -> None:
    assert readable_class_name(folder) == words


@pytest.mark.parametrize(
    ("caption", "prompt"),
    [
        ("brown, on grass", "A photo of great dane, which is brown, on grass"),
        ("", "A photo of great dane"),
        (" \n ", "A photo of great dane"),
        ("brown.  ", "A photo of great dane, which is brown"),
        ("brown .", "A photo of great dane, which is brown"),
        ("on\n  grass", "A photo of great dane, which is on grass"),
        ("a {caption} %s", "A photo of great dane, which is a {caption} %s"),
    ],
)
def test_the_prompt_has_the_format_of_the_paper(caption: str, prompt: str) -> None:
    assert compose_prompt("great_dane", caption) == prompt


def test_prompts_have_no_invisible_characters() -> None:
    name, caption = "\ufeffgreat\xa0_da\u200bne\u2029", "\u202eon\u3000gr\xadass\u3164.\xa0"
    assert compose_prompt(name, caption) == "A photo of great dane, which is on grass"


@given(st.text(min_size=1), st.text())
def test_every_prompt_starts_with_the_class(class_name: str, caption: str) -> None:
    prompt = compose_prompt(class_name, caption)
    name = readable_class_name(normalize_whitespace(class_name))
    assert prompt.startswith(f"A photo of {name}")
