"""Which classes of a data set the bundled generator can draw."""

from __future__ import annotations

import json

import pytest

from gendataagent.generation.known_classes import known_classes, words_for
from gendataagent.generation.tiny.model import MODEL_NAME, model_folder
from gendataagent.generation.tiny.vocabulary import CLASSES

FRUIT = ("apple", "banana", "cherry", "pear")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("cat", "cat"),
        ("Cats", "cat"),
        ("CAT", "cat"),
        ("01_cat", "cat"),
        ("cats_2", "cat"),
        ("class_dog", "dog"),
        ("photos of horses", "horse"),
        ("air-plane", "airplane"),
        ("AirPlane", "airplane"),
        ("aeroplanes", "airplane"),
        ("airliner, plane", "airplane"),
        ("Car", "automobile"),
        ("passenger_cars", "automobile"),
        ("car (automobile)", "automobile"),
        ("lorries", "truck"),
        ("boats", "ship"),
        ("deer", "deer"),
        ("\uff23\uff41\uff54", "cat"),  # full width
        ("cattle", None),
        ("catfish", None),
        ("tabby cat", None),
        ("hot dog", None),
        ("sea horse", None),
        ("carpet", None),
        ("apple", None),
        ("7", None),
        ("photos", None),
    ],
)
def test_a_class_is_found_whatever_its_spelling(name: str, word: str | None) -> None:
    known = known_classes(MODEL_NAME, [name, "banana"])
    assert known is not None
    assert known.word_of.get(name) == word
    assert known.unknown == (("banana",) if word else (name, "banana"))


def test_the_ten_classes_are_known_by_their_own_names() -> None:
    known = known_classes(MODEL_NAME, tuple(CLASSES))
    assert known is not None
    assert dict(known.word_of) == {name: name for name in CLASSES}
    assert not known.unknown


def test_two_classes_with_one_word_cannot_be_told_apart() -> None:
    known = known_classes(MODEL_NAME, ["car", "auto", "frog"])
    assert known is not None
    assert known.unknown == ("car", "auto")
    assert dict(known.word_of) == {"frog": "frog"}


def test_a_generator_without_a_list_knows_anything() -> None:
    assert known_classes("stable-diffusion-v1-5/stable-diffusion-v1-5", FRUIT) is None
    assert words_for("stable-diffusion-v1-5/stable-diffusion-v1-5", ["cars"]) == {}
    assert words_for(MODEL_NAME, ["cars", "apple"]) == {"cars": "automobile"}


def test_each_word_of_the_list_is_one_token_of_the_bundled_generator() -> None:
    vocabulary = json.loads((model_folder() / "tokenizer" / "vocab.json").read_text())
    assert {f"{word}</w>" for word in CLASSES} <= set(vocabulary)
