"""How the answer of a language model is split into rewrites."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendataagent.generation.language.parsing import replies_of, without_cut_end
from tests.reply_shapes import LINES, SHAPES


@pytest.mark.parametrize("answer", SHAPES.values(), ids=SHAPES)
def test_every_shape_of_an_answer_is_read(answer: str) -> None:
    assert replies_of(answer) == LINES


@pytest.mark.parametrize(
    "answer",
    [
        "1. a dog on wet grass\n2. a dog at dusk\n3. a dog, seen from above",
        "1) a dog on wet grass\n2) a dog at dusk\n3) a dog, seen from above\n",
        "Sure! Here are three:\n\n1. a dog on wet grass\n\n2. a dog at dusk\n"
        "3. a dog, seen from above\n\nNote: I kept the dog.",
        "- a dog on wet grass\n* a dog at dusk\n• a dog, seen from above",
        "  1. \"a dog on wet grass\"\n  2. **a dog at dusk**\n  3. 'a dog, seen from above'",
        "a dog on wet grass\na dog at dusk\na dog, seen from above",
        json.dumps(LINES),
        json.dumps({"captions": LINES, "count": 3}, indent=2),
        f"```json\n{json.dumps(LINES)}\n```",
        "<think>1. a cat\nHmm.</think>\n1. a dog on wet grass\n2. a dog at dusk\n"
        "3. a dog, seen from above",
        "\ufeff1.\xa0“a\xa0dog on wet grass”\u200b\u20282.\u3000a d\xadog at dusk\r\n"
        "\u200f3.\ta dog, seen\u2009from above\x85",
        "\ufeff" + json.dumps([f"\xa0{line}\u2028" for line in LINES], ensure_ascii=False),
    ],
)
def test_answers_of_every_common_form_are_read(answer: str) -> None:
    assert replies_of(answer) == LINES


@pytest.mark.parametrize("answer", ["", "\n \n", "<think>1. a cat", "[]", "```\n```"])
def test_an_answer_without_replies_has_none(answer: str) -> None:
    assert replies_of(answer) == []


def test_of_broken_json_the_complete_strings_are_read() -> None:
    assert replies_of('["a dog on wet grass", "a do') == ["a dog on wet grass"]
    assert replies_of("[" * 100_000) == []


def test_numbers_inside_a_line_stay() -> None:
    assert replies_of("2 dogs on 3 chairs") == ["2 dogs on 3 chairs"]
    assert replies_of("1. 2 dogs on 3 chairs") == ["2 dogs on 3 chairs"]


@given(st.text())
def test_any_answer_is_read_into_single_lines(answer: str) -> None:
    assert all("\n" not in reply for reply in replies_of(answer))


@given(st.lists(st.from_regex(r"[a-z]+( [a-z]+){1,6}", fullmatch=True), min_size=1, max_size=12))
def test_numbered_lines_are_returned_unchanged(lines: list[str]) -> None:
    numbered = "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
    assert replies_of(numbered) == lines


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("3.5 inch disks on a desk", "3.5 inch disks on a desk"),
        ("a 2-seater sofa", "a 2-seater sofa"),
        ("5-year-old boy on grass", "5-year-old boy on grass"),
        ("T. rex on grass", "T. rex on grass"),
        ("A. mellifera on a flower", "A. mellifera on a flower"),
        ("x-ray of a hand", "x-ray of a hand"),
        ("photo: a dog", "a dog"),
        ("a clock at 2:30 pm", "a clock at 2:30 pm"),
        ("a dog: on grass", "a dog: on grass"),
        ("a dog (with a ball) on grass", "a dog (with a ball) on grass"),
        ("a dog (brown)", "a dog (brown)"),
    ],
)
def test_what_looks_like_a_number_or_a_label_stays(line: str, reply: str) -> None:
    assert replies_of(line) == [reply]


@pytest.mark.parametrize(
    "thoughts",
    [
        "<think>1. a cat\n2. a bird", "<reasoning>\n1. a cat", "[THINK]1. a cat", "◁think▷ a cat",
        "<|channel|>analysis<|message|>1. a cat\n2. a bird", "analysisWe need 1. a cat",
        "<|START_THINKING|>1. a cat", "<|channel>thought\n1. a cat",
        "1. a cat\n2. a bird\n</think>", "<think>1. a cat</think>\n",
    ],
)  # fmt: skip
def test_thoughts_alone_are_no_reply(thoughts: str) -> None:
    assert replies_of(thoughts) == []


@pytest.mark.parametrize(
    ("answer", "rest"),
    [
        ("1. a dog\n2. a dog at du", "1. a dog"),
        ("1. a dog\n2. a dog at du\n", "1. a dog"),
        ("a dog at du", ""),
        ("", ""),
        ('["a dog", "a dog at du', '["a dog", "a dog at du'),
        ('```json\n["a dog", "a', '```json\n["a dog", "a'),
        ('<think>x</think>["a", ', '<think>x</think>["a", '),
    ],
)
def test_an_unfinished_line_is_dropped(answer: str, rest: str) -> None:
    assert without_cut_end(answer) == rest


@pytest.mark.parametrize(
    "unit",
    ["[", '{"a":', '"', "<think>", "</a>\n", "\n", "**a", "1.\n", "<|channel|>a", "(light ", "a: ",
     '"\\', "final answer\n", "<a:", "①", "the ", "| a |\n", "|", "<td>", "<table>", "\\n1. ",
     "1. ", "first: ", "~~a~~ ", '["', "\\item ", '1,"a"\n', "check:\n", "1. a\nnotes\n", "<i>",
     "&quot;", "\\begin{a}\n", "1. change: a\n", "## light\n", "**light**\n", '{"a": {"b": ',
     "a | "],
)  # fmt: skip
def test_no_answer_is_slow_to_read(unit: str) -> None:
    start = time.process_time()
    replies_of(unit * (1_000_000 // len(unit)))
    without_cut_end(unit * (1_000_000 // len(unit)))
    assert time.process_time() - start < 2
