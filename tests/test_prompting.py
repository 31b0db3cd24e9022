"""The class is always in the prompt, and never another one."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendataagent.prompting import compose_prompt, names_another_class, readable_class_name


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
def test_the_prompt_is_the_papers(caption: str, prompt: str) -> None:
    assert compose_prompt("great_dane", caption) == prompt


@given(st.text(min_size=1), st.text())
def test_every_prompt_starts_with_the_class(class_name: str, caption: str) -> None:
    prompt = compose_prompt(class_name, caption)
    assert prompt.startswith(f"A photo of {readable_class_name(class_name)}")


CLASSES = ("cat", "great dane", "green frog", "frog", "Kätzchen", "c++")


@pytest.mark.parametrize(
    ("caption", "own", "other"),
    [
        ("a cat on grass", "frog", "cat"),
        ("A CAT", "frog", "cat"),
        ("cat-like, brown", "frog", "cat"),
        ("a category of its own", "frog", None),
        ("a bobcat", "frog", None),
        ("a cat on grass", "cat", None),
        ("next to a Great_Dane", "cat", "great dane"),
        ("a great, dane", "cat", None),
        ("a frog", "green frog", None),  # the own name holds the other
        ("a green frog", "frog", "green frog"),
        (unicodedata.normalize("NFD", "ein KÄTZCHEN"), "cat", "Kätzchen"),
        ("written in c++", "cat", "c++"),
        ("in c major", "cat", None),
        ("", "cat", None),
    ],
)
def test_another_class_is_found_as_a_whole_word(caption: str, own: str, other: str | None) -> None:
    assert names_another_class(caption, own, CLASSES) == other
