"""White space and invisible characters, by exact values."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendataagent.core.text import (
    as_name,
    escape_control_characters,
    normalize_whitespace,
    reason_of,
    remove_control_characters,
    remove_invisible,
    whole_number,
)

SPACES = " \t\n\v\f\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2002\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"
INVISIBLE = (
    "\xad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202e\u2060\u2066\u2069\ufe0f\ufeff"
    "\U000e0041\U000e0100"
)


@pytest.mark.parametrize("space", [*SPACES, *BLANK_LETTERS], ids=lambda c: f"U+{ord(c):04X}")
def test_every_kind_of_space_becomes_one_space(space: str) -> None:
    assert normalize_whitespace(f"{space}a{space}{space}b{space}") == "a b"


@pytest.mark.parametrize(
    ("text", "number"),
    [("12", 12), (" 007\n", 7), ("\u0663", 3), ("9" * 18, 10**18 - 1), ("9" * 19, None),
     ("9" * 5000, None), ("\xb2", None), ("-1", None), ("1.5", None), ("", None)],
)  # fmt: skip
def test_a_whole_number_or_none(text: str, number: int | None) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize("character", INVISIBLE, ids=lambda c: f"U+{ord(c):04X}")
def test_invisible_characters_are_removed(character: str) -> None:
    assert normalize_whitespace(f"{character}c{character}at{character}") == "cat"
    assert remove_invisible(f"{character}c\n{character}at") == "c\nat"


def test_visible_text_is_unchanged() -> None:
    for text in ("a dog, on grass", "Kätzchen", "犬 と 猫", "naïve 1½ °", "e\u0301", "\x00 \x07"):
        assert normalize_whitespace(text) == text


@given(st.text())
def test_only_printable_text_and_control_characters_remain(text: str) -> None:
    result = normalize_whitespace(text)
    assert normalize_whitespace(result) == result
    assert not [
        c for c in result if c != " " and (c.isspace() or unicodedata.category(c) in ("Cf", "Zs"))
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07name", "]0;titlename"),
        ("\x9b2Jname", "name"),
        ("abc\rX", "abcX"),
        ("live\u202eexe.gpj", "liveexe.gpj"),
        ("\ttwo\nlines", "\ttwo\nlines"),
        ("dög 猫 \U0001f408", "dög 猫 \U0001f408"),
    ],
)
def test_text_cannot_steer_a_terminal(text: str, shown: str) -> None:
    assert remove_control_characters(text) == shown


@given(st.text())
def test_no_control_character_is_left(text: str) -> None:
    for safe in (remove_control_characters(text), escape_control_characters(text)):
        assert not {c for c in safe if unicodedata.category(c) == "Cc"} - {"\t", "\n"}


def test_a_name_stays_on_its_line_and_is_cut() -> None:
    assert as_name("cat") == "cat"
    assert as_name("a\nb\tc\u2028d\x85") == "a\\nb\\tc\\u2028d\\u0085"
    assert len(as_name("x" * 10_000)) == 120
    assert as_name("x" * 10_000)[-1] == "\u2026"


def test_the_reason_of_an_error_is_one_line() -> None:
    assert reason_of(ValueError("no\n  such  part.")) == "no such part"
    assert reason_of(KeyError()) == "KeyError"
    assert reason_of(ValueError("x" * 400), 200) == "x" * 200
