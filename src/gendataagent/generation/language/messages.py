"""The text of a chat completion, wherever a server puts it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gendataagent.generation.language.parsing import without_cut_end
from gendataagent.generation.language.reasoning import without_reasoning

_CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_length", "token_limit"})
_TEXT_KEYS = ("text", "content", "output_text", "value")
_THOUGHT_KEYS = ("reasoning_content", "reasoning", "thinking", "reasoning_details", "thoughts")
_THOUGHT_PARTS = frozenset({"thinking", "reasoning", "thought", "redacted_thinking", "summary"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Args:
        text: without an unfinished last line; "" where there is none (a refusal).
        cut_while_thinking: the token limit ended it before the answer began.
    """

    text: str
    cut_while_thinking: bool = False


def answer_in(body: bytes) -> Answer:
    """Return the answer in the body of a chat completion, streamed ones included.

    Raises:
        ValueError, LookupError, TypeError, AttributeError, RecursionError: it is none.
    """
    choice = _choice(body)
    message = choice.get("message")
    if message is None:
        message = {"content": choice["text"]}  # as the older completions have it
    cut = str(choice.get("finish_reason") or "").casefold() in _CUT
    text = text_of(message.get("content"))
    thoughts = next((t for key in _THOUGHT_KEYS if (t := text_of(message.get(key))).strip()), "")
    said = without_reasoning(text).strip()
    if not said and "</think" in thoughts:  # a server that takes all of it for thoughts
        text, said = thoughts, without_reasoning(thoughts).strip()
    if not said and message.get("tool_calls"):
        text = text_of(message["tool_calls"][0]["function"]["arguments"])
        said = text.strip()
    if not said:  # a stop text may end thoughts too
        return Answer("", cut_while_thinking=cut or bool(thoughts or text.strip()))
    return Answer(without_cut_end(text) if cut else text)


def text_of(content: Any) -> str:
    """Return the text of a message's content: a string, a part, or a list of them; thoughts in
    parts of their own are left out.
    """
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        if str(content.get("type", "")).casefold() in _THOUGHT_PARTS and "text" not in content:
            return ""
        return next((text_of(content[key]) for key in _TEXT_KEYS if content.get(key)), "")
    if isinstance(content, list):
        return _joined(
            text_of(part)
            for part in content
            if not (isinstance(part, dict) and _is_thought(part) and len(content) > 1)
        )
    return ""


def _is_thought(part: dict[str, Any]) -> bool:
    return str(part.get("type", "")).casefold() in _THOUGHT_PARTS


def _joined(parts: Iterable[str]) -> str:
    """Return parts as one text: where neither has white space at the seam, a line break."""
    text = ""
    for part in filter(None, parts):
        seam = "\n" if text and not text[-1].isspace() and not part[0].isspace() else ""
        text += seam + part
    return text


def _choice(body: bytes) -> dict[str, Any]:
    text = body.decode("utf-8-sig", errors="replace")
    if text.lstrip().startswith(("data:", "event:", ": ")):
        return _streamed(text)
    value = json.loads(text)
    value = value[0] if isinstance(value, list) else value
    choices = value.get("choices", [value])  # the form of Ollama itself has none
    if not isinstance(choices[0], dict):
        raise TypeError("a choice that is no object")
    texts = (text_of((choice.get("message") or {}).get("content")) for choice in choices)
    return next((c for c, said in zip(choices, texts, strict=True) if said.strip()), choices[0])


def _streamed(text: str) -> dict[str, Any]:
    """Return the choice of an answer that was streamed although that was not asked for."""
    content, reason = "", None
    for line in re.split(r"[\r\n]+", text):  # a string in JSON may hold other line breaks
        data = line.removeprefix("data:").strip()
        if line.startswith("data:") and data.startswith("{"):
            for choice in json.loads(data)["choices"][:1]:
                content += text_of(
                    (choice.get("delta") or choice.get("message") or {}).get("content")
                )
                reason = choice.get("finish_reason") or reason
    if not content and reason is None:
        raise ValueError("a stream without a choice")
    return {"message": {"content": content}, "finish_reason": reason}
