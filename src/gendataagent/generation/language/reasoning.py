"""What a model thought before it answered, cut off.

Servers mark thoughts in many ways: tags of every name, with or without their opening, and channels.
"""

from __future__ import annotations

import re

from gendataagent.generation.english import word_set

_NAMES = (
    r"(?:\w+[:_-])?(?:think\w*|thought\w*|reason\w*|reflect\w*|analy[sz]\w*|scratch_?pad|cot|"
    r"chain_of_thought|inner_monologue|monologue|deliberat\w*|rationale|internal|plan|planning|draft)"
)
_BRACKETED = r"(?:think|thinking|thoughts?|reasoning)"
# <think>, [THINK], <|START_THINKING|>, <|begin_of_thought|>, ◁think▷ and their ends.
_OPENING = (
    rf"(?:<\|?\s*(?:begin_of_|start_)?{_NAMES}\s*\|?>|\[\s*{_BRACKETED}\s*\]|◁\s*{_NAMES}\s*▷"
    r"|<\|channel>\s*thought\b|<unused94>(?:thought\b)?|<\|inner_prefix\|>)"
)
_CLOSING = (
    rf"(?:<(?:/|\|/|\|(?:end_of_|end_))\s*{_NAMES}\s*\|?>|\[/\s*{_BRACKETED}\s*\]|◁/\s*{_NAMES}\s*▷"
    r"|<channel\|>|<unused95>|<\|inner_suffix\|>)"
)
_UP_TO_THE_LAST_CLOSING = re.compile(rf"\A.*{_CLOSING}", re.S | re.I)
_OPENED = re.compile(_OPENING, re.I)
_NEVER_CLOSED = re.compile(rf"{_OPENING}.*\Z", re.S | re.I)
# Harmony (gpt-oss): the text of the last channel "final"; some servers drop the marks around it.
_CHANNEL = re.compile(
    r"<\|channel\|>\s{0,4}(\w{1,20})[^<]{0,80}<\|message\|>"
    r"(.*?)(?=<\|(?:end|return|call|start)\|>|\Z)",
    re.S,
)
_BARE_CHANNEL = re.compile(
    r"\A\s*(?:assistant)?\s*(?:analysis|commentary).*?assistant\s*final[:\s]*", re.S
)
_BARE_THOUGHT = re.compile(r"\A\s*(?:assistant)?analysis(?=[A-Z\s])", re.S)
# An element of another name whose end has a line of its own: not an answer, but talk before it.
_OTHER_END = re.compile(r"\A.*</(?P<name>[a-z][\w:-]{0,40})>[ \t]{0,8}\n(?=\s*\S)", re.S | re.I)
_HAS_NUMBERS = re.compile(r"^[^\w\n]{0,8}\d{1,3}[^\w\s]", re.M)
_ANSWER_NAMES = (
    r"(?:final[_ -]?)?(?:answers?|responses?|solutions?|outputs?|results?|captions?|rewrites?"
    r"|final)"
)
_ANSWER = re.compile(
    rf"(?:<(?P<name>{_ANSWER_NAMES})>|<\|(?:START_RESPONSE|begin_of_(?:solution|answer|box))\|>)"
    r"(?P<inside>.*?)"
    r"(?:(?(name)</(?P=name)>|<\|(?:END_RESPONSE|end_of_(?:solution|answer|box))\|>)|\Z)",
    re.S | re.I,
)
_LIST_NAMES = word_set(
    "ol ul li p br item caption rewrite line b i em strong u span s div section article table tr "
    "td th thead tbody dl dt dd html body code pre text option variant"
)
_GRANITE = re.compile(
    r"\A\s*here(?: is|'s) my (?:thought process|reasoning)\b"
    r".*?here(?: is|'s) my (?:response|answer)\s*:",
    re.S | re.I,
)
_HEADING = re.compile(
    r"^[^\w\n]{0,8}(?:(?:my |the )?final (?:answers?|captions?|response|list|output|rewrites?)"
    r"|(?:here (?:are|is) )?(?:my |the )?(?:final|rewritten|numbered|new) (?:captions?|list)"
    r"|answer)[^\n\w]{0,12}$(?=\s*\S)|^final(?: answer)?:(?=\s*\S)",
    re.M | re.I,
)
_START_OF_TURN = re.compile(
    r"\A\s*(?:<\|im_start\|>\s*assistant\b|<role>\w{1,20}</role>|assistant\s?:(?=\s))\s*"
)
# Where a turn ends in the chat formats of Llama, Qwen, Gemma, Mistral, Phi and others.
_END_OF_TURN = re.compile(
    r"<\|(?:im_end|eot_id|eom_id|endoftext|end|return|end_of_text|eos|user|end_of_turn)\|>"
    r"|</s>|<end_of_turn>|<eos>|<turn\|>|<｜end▁of▁sentence｜>"
)


def without_reasoning(answer: str) -> str:
    """Return an answer without thoughts, channels, wrappers and end tokens; "" where a thought
    never ends.

    Everything up to the last closing tag of a thought is cut, whether it was opened or not.
    """
    text = _final_channel(answer)
    text = _START_OF_TURN.sub("", text)
    text = _without_thoughts_before(text)
    text = _NEVER_CLOSED.sub("", text)
    text = _GRANITE.sub("", text)
    text = _last_answer(text)
    text = _without_other_elements(text)
    text = _END_OF_TURN.split(text, maxsplit=1)[0]
    return _after_the_last_heading(text)


def _without_thoughts_before(text: str) -> str:
    """Return what follows the last closing tag; if nothing does, what precedes the thought."""
    after = _UP_TO_THE_LAST_CLOSING.sub("", text)
    opened = _OPENED.search(text) if not after.strip() else None
    if opened and _HAS_NUMBERS.search(text, 0, opened.start()):  # it thinks once more
        return text[: opened.start()]
    return after


def _final_channel(text: str) -> str:
    channels = [(m[1].casefold(), m[2]) for m in _CHANNEL.finditer(text)]
    if channels:
        finals = [words for name, words in channels if name == "final"]
        return finals[-1] if finals else ""
    if _BARE_CHANNEL.match(text):
        return _BARE_CHANNEL.sub("", text, count=1)
    return "" if _BARE_THOUGHT.match(text) and "final" not in text else text


def _last_answer(text: str) -> str:
    """Return the inside of the last element that holds several lines or stands alone."""
    found = [m for m in _ANSWER.finditer(text) if m["inside"].strip()]
    if len(found) > 1 and all("\n" not in m["inside"].strip() for m in found):
        return "\n".join(m["inside"].strip() for m in found)  # one element each
    whole = [m for m in found if "\n" in m["inside"].strip() or len(found) == 1]
    return whole[-1]["inside"] if whole else text


def _without_other_elements(text: str) -> str:
    """Return what follows an element of an unknown name, unless the answer is inside of it."""
    match = _OTHER_END.match(text)
    if match is None or re.sub(r"[_-]?\d+$", "", match["name"].casefold()) in _LIST_NAMES:
        return text
    inside, after = text[: match.end()], text[match.end() :]
    return inside if _HAS_NUMBERS.search(inside) and not _HAS_NUMBERS.search(after) else after


def _after_the_last_heading(text: str) -> str:
    headings = list(_HEADING.finditer(text))
    return text[headings[-1].end() :] if headings else text
