"""Every prompt has its class; other classes are found in captions."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendataagent.core.text import normalize_whitespace
from gendataagent.data.class_names import readable_class_name
from gendataagent.generation.prompts import (
    compose_prompt,
    names_another_class,
    plural,
    singular,
)


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
        ("a c\u200bat\xa0on grass", "frog", "cat"),
        ("a great\u2003dane", "cat", "great dane"),
        ("", "cat", None),
    ],
)
def test_other_classes_match_complete_words(caption: str, own: str, other: str | None) -> None:
    assert names_another_class(caption, own, CLASSES) == other


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("cat", "cats"), ("fox", "foxes"), ("butterfly", "butterflies"), ("toy", "toys"),
        ("wolf", "wolves"), ("mouse", "mice"), ("bench", "benches"), ("glass", "glasses"),
        ("dish", "dishes"), ("goose", "geese"),
    ],
)  # fmt: skip
def test_plural_and_singular_are_inverse(one: str, many: str) -> None:
    assert plural(one) == many
    assert singular(many) == one
    assert singular(one) == one


@pytest.mark.parametrize("word", ["iris", "bus", "grass", "walrus", "gas", "chess", "news"])
def test_a_singular_is_a_prefix_of_words_that_look_like_plurals(word: str) -> None:
    assert word.startswith(singular(word))


@pytest.mark.parametrize(
    ("caption", "names", "other"),
    [
        ("two cats on a sofa", ("dog", "cat"), "cat"),
        ("a pair of red foxes", ("dog", "red fox"), "red fox"),
        ("a carrot", ("dog", "carrots"), "carrots"),
        ("a great-dane", ("dog", "great dane"), "great dane"),
        ("the cat's tail", ("dog", "cat"), "cat"),
        ("concatenated scats", ("dog", "cat"), None),
        ("一只狗在草地上", ("猫", "狗"), "狗"),
        ("anything", ("dog", ""), None),
        # colours that are also things
        ("orange, on a green background", ("apple", "orange"), None),
        ("mostly red, on an orange background", ("apple", "orange"), None),
        ("an orange cat in bright orange", ("apple", "orange"), None),
        ("a black and orange wing", ("apple", "orange"), None),
        ("the wall is orange", ("apple", "orange"), None),
        ("an orange on a table", ("apple", "orange"), "orange"),
        ("next to an orange.", ("apple", "orange"), "orange"),
        ("a big ripe orange, cut open", ("apple", "orange"), "orange"),
        ("with two oranges", ("apple", "orange"), "orange"),
        ("a pink rose in a vase", ("tulip", "rose"), "rose"),
        ("a rose-coloured petal", ("tulip", "rose"), None),
    ],
)
def test_plurals_hyphens_unspaced_scripts_and_colours(
    caption: str, names: tuple[str, ...], other: str | None
) -> None:
    assert names_another_class(caption, names[0], names) == other


@given(st.sampled_from(["cat", "great dane", "green frog"]), st.text(max_size=20))
def test_the_own_class_is_not_another_class(own: str, words: str) -> None:
    assert names_another_class(f"{words} {own}", own, (own,)) is None
