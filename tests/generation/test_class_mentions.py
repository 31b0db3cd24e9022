"""Other classes are found in captions, and ordinary words are no mention of one."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendataagent.generation.class_mentions import names_another_class
from gendataagent.generation.prompts import compose_prompt

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


LETTERS = tuple("ABCDE")
CAPTION = (
    "a small brown dog sitting on the grass at a door, no. 3 of 10, with one red ball in front"
)


@pytest.mark.parametrize(
    "names",
    [
        LETTERS,
        tuple("abcdefghijklmnopqrstuvwxyz"),
        tuple("0123456789"),
        ("00", "03", "10"),
        ("yes", "no"),
        ("Yes", "No", "Not", "of"),
        ("cat", "other"),
        ("cat", "with one", "without"),
        ("on", "off", "at", "in front"),
        ("one", "two", "three", "no. 3"),
        ("red", "brown", "green"),
        ("small", "large"),
        ("Ａ", "Ｂ", "３"),
        ("cat", "ha", "i", "it", "no one"),
        ("1", "2", "3", "10", "one red"),
        ("1st", "2nd", "3rd"),
        ("i", "ii", "iii", "iv"),
        ("ten", "twenty", "ninety"),
        ("in", "de", "la", "no"),
        ("dogs on things", "objects", "colours", "types", "hundreds", "lefts"),
        ("xl", "lx", "li", "xc"),
        ("½", "3.5", "1,000", "-1"),
    ],
)
def test_letters_digits_and_ordinary_words_are_no_mention(names: tuple[str, ...]) -> None:
    for own in names:
        assert names_another_class(CAPTION, own, names) is None


@pytest.mark.parametrize(
    ("caption", "names", "other"),
    [
        ("a cat and other things", ("other", "cat"), "cat"),
        ("two ｃａｔｓ", ("dog", "cat"), "cat"),
        ("a cat", ("dog", "ＣＡＴ"), "ＣＡＴ"),
        ("with a mask", ("without mask", "with mask"), None),
        ("a man with mask", ("without mask", "with mask"), "with mask"),
        ("the no entry sign", ("yield sign", "no entry sign"), "no entry sign"),
        ("has had his", ("dog", "ha", "hi"), None),
        ("一只狗", ("猫", "一", "狗"), "狗"),
        ("一只", ("猫", "一"), None),
        ("一只大的白狗在草地上", ("小", "大", "白", "在"), None),
        ("这是一只狗", ("否", "是"), None),
        ("die Katze und der Hund", ("oder", "und", "der"), None),
        ("un chat sur le mur", ("sous", "sur", "le"), None),
        ("el 2º gato", ("otro", "el"), None),
        ("나무와 하늘 아래 개", ("가", "나", "다", "하"), None),
        ("many things, objects and colours", ("dog", "things", "objects", "colors"), None),
        ("½ of it", ("⅓", "½"), None),
        ("개는 정상", ("비정상", "정상"), None),
        ("twenty people", ("thirty", "twenty"), None),
        ("the 3rd floor", ("1st", "3rd"), None),
        ("a dog", ("hot dog", "dog"), None),  # the own name holds the other
        ("a hot dog", ("dog", "hot dog"), "hot dog"),
        ("a school bus", ("bus", "bus stop"), None),
        ("an x-ray of a hand", ("hand", "x ray"), "x ray"),
    ],
)
def test_names_with_other_words_still_count(
    caption: str, names: tuple[str, ...], other: str | None
) -> None:
    assert names_another_class(caption, names[0], names) == other


def seconds_a_caption(names: tuple[str, ...]) -> float:
    """Return the time of one check, the fastest of five, once the table of the classes is built."""
    names_another_class(CAPTION, names[0], names)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(20):
            assert names_another_class(CAPTION, names[0], names) is None
        times.append((time.perf_counter() - start) / 20)
    return min(times)


@pytest.mark.parametrize(
    "pattern", ["{}", "product {}", "sp{} lat{} nom{}", "品{}号", "{}th street"], ids=repr
)
def test_ten_thousand_classes_cost_little_more_than_a_hundred(pattern: str) -> None:
    def names(count: int) -> tuple[str, ...]:
        words = (chr(97 + n % 26) + "".join(chr(97 + int(d)) for d in str(n)) for n in range(count))
        return tuple(pattern.replace("{}", word) for word in words)

    many = names(10_000)
    start = time.perf_counter()
    names_another_class(CAPTION, many[0], many)
    assert time.perf_counter() - start < 5  # the table, once
    assert seconds_a_caption(many) < 2e-3 + 3 * seconds_a_caption(names(100))


def test_the_classes_of_several_data_sets_do_not_mix() -> None:
    for number in range(20):
        names = (f"bird{number}", "dog")
        assert names_another_class("a bird3", "dog", names) == ("bird3" if number == 3 else None)


def test_a_prompt_of_a_letter_keeps_its_caption() -> None:
    assert compose_prompt("A", CAPTION) == f"A photo of A, which is {CAPTION}"
