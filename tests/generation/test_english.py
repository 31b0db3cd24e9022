"""Plurals and ordinary words of English."""

from __future__ import annotations

import pytest

from gendataagent.generation.english import is_ordinary, plural, singular


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
    "word",
    [
        "a",
        "other",
        "yes",
        "no",
        "7",
        "१",
        "一",
        "seven",
        "nineteen",
        "ninety",
        "sixth",
        "3rd",
        "xii",
        "der",
        "und",
        "oui",
        "otro",
        "да",
        "其他",
        "是",
        "아니오",
        "red",
        "é",
        "α",
        "の",
        "ก",
        "-",
        "normal",
        "½",
    ],
)
def test_ordinary_words_may_stand_in_any_caption(word: str) -> None:
    assert is_ordinary(word)


@pytest.mark.parametrize("word", ["cat", "猫", "개", "b2", "iris", "orange", "3d"])
def test_other_words_are_not_ordinary(word: str) -> None:
    assert not is_ordinary(word)
