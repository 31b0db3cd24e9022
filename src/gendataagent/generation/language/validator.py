"""Which replies of a language model may become a prompt.

Whatever a model answers, and for whatever reason, only text that passes here is used. Each check
gives a short reason, which is counted in the round's record.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from gendataagent.core.text import normalize_whitespace
from gendataagent.generation.class_mentions import (
    folded_name,
    is_ordinary_name,
    names_another_class,
)
from gendataagent.generation.english import word_forms, word_set
from gendataagent.generation.language.wording import (
    content_words,
    other_language,
    same_words,
    scripts_of,
    subject_of,
    words_of,
)
from gendataagent.generation.prompts import compose_prompt

# Captions of BLIP models have some ten words. Thirty leave room for a change and fit CLIP's 77
# tokens with most class names; the tokens are counted too where the tokenizer is known.
WORDS_AT_MOST = 30
# Small changes that keep the subject [R]; how small is open. [?]
KEPT_SHARE = 0.5  # of the caption's content words
ADDED_WORDS_AT_MOST = 8  # content words the caption does not have
OTHER_SCRIPT_SHARE = 0.1  # of the letters

_REPLACEMENTS = "\ufffc\ufffd"  # what stands for bytes that are no text
_MARKUP = re.compile(
    r"[<>{}\[\]|\\`#~^=]|\*\*|__|&\w+;|https?:|www\.|\b[\w-]+\.(?:com|org|net|io)\b", re.I
)
# Openings that talk about the task or about the model.
_META_START = re.compile(
    r"^(?:sure|certainly|of course|okay|ok|here(?:'s| is| are)|yes|note|sorry|rewrit\w*|version|"
    r"option|answer|output|caption|example|assistant|user|system|as an? ai|please|i|i'm|let me)\b",
    re.I,
)
_META_WORDS = word_set(
    "caption rewrite rewritten rewriting rephrase sentence phrase prompt instruction instructions "
    "assistant ai llm chatbot json subject original version example task output"
)
# Phrases of the request that no caption has.
_ECHO = re.compile(
    r"\b(?:change the|photo of:|you rewrite|quoted data|asked for|numbered|nothing else|ignore "
    r"(?:all|any|the|previous)|system prompt)\b|photo of:", re.I
)  # fmt: skip
_NEGATION = (
    r"\b(?:no|not an?|not the|isn't an?|is not an?|without an?|without the|without any|without|"
    r"never an?|instead of|instead of an?|rather than|replaced by|turned into|missing)\s+"
    r"(?:\w+\s+){0,2}?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RewriteValidator:
    """What a rewrite must be.

    Args:
        words_at_most: longest rewrite, in words.
        count_tokens: tokens of a complete prompt for the generator's text encoder, start and end
            included; None = not checked.
        token_limit: what that encoder reads (77 for CLIP); 0 = not checked.
    """

    words_at_most: int = WORDS_AT_MOST
    count_tokens: Callable[[str], int] | None = None
    token_limit: int = 0

    def refusal(
        self,
        reply: str,
        *,
        caption: str,
        class_name: str,
        class_names: Collection[str] = (),
        taken: Collection[str] = (),
    ) -> str | None:
        """Return why a reply cannot be used, or None.

        White space is normalised first: a reply is judged as it would stand in a prompt.

        Args:
            caption: what was to be rewritten; "" = the class name alone.
            taken: rewrites of the same caption that are in use.
        """
        reply, caption = normalize_whitespace(reply), normalize_whitespace(caption)
        for reason in self._refusals(reply, caption, class_name, class_names, taken):
            return reason
        return None

    def _refusals(
        self,
        reply: str,
        caption: str,
        class_name: str,
        class_names: Collection[str],
        taken: Collection[str],
    ) -> Iterator[str]:
        """Yield reasons, cheapest check first."""
        before = caption or class_name
        if not words_of(reply):
            yield "empty"
        if any(unicodedata.category(c)[0] == "C" or c in _REPLACEMENTS for c in reply):
            yield "control characters"
        if _MARKUP.search(reply):
            yield "markup"
        starts = _META_START.search(reply) and not _META_START.search(before)
        if starts or _META_WORDS & (set(words_of(reply)) - set(words_of(before))):
            yield "talk about the task"
        if _ECHO.search(reply):
            yield "repeats the instructions"
        if len(words_of(reply)) > self.words_at_most:
            yield "too long"
        if _has_other_script(reply, f"{before} {class_name}"):
            yield "other script"
        if other_language(reply, f"{before} {class_name}"):
            yield "other language"
        if names_another_class(reply, class_name, tuple(class_names)):
            yield "another class"
        if _negates(reply, before, class_name):
            yield "negates the subject"
        if same_words(reply) == same_words(before):
            yield "same as the caption"
        if any(same_words(reply) == same_words(other) for other in taken):
            yield "same as another rewrite"
        yield from _strayed(reply, caption, class_name)
        if self._is_cut_off(compose_prompt(class_name, reply)):
            yield "too many tokens"

    def _is_cut_off(self, prompt: str) -> bool:
        if self.count_tokens is None or not self.token_limit:
            return False
        return self.count_tokens(prompt) > self.token_limit


def _has_other_script(reply: str, before: str) -> bool:
    known, said = scripts_of(before), scripts_of(reply)
    foreign = sum(count for script, count in said.items() if script not in known)
    return foreign > OTHER_SCRIPT_SHARE * said.total()


def _negates(reply: str, before: str, class_name: str) -> bool:
    """Return whether a reply, unlike its caption, says that the subject is absent."""
    subject = subject_of(before)
    own = "" if is_ordinary_name(class_name) else folded_name(class_name)
    names = [form for name in (own, subject) if name for form in word_forms(name)]
    if not names:
        return False
    pattern = _NEGATION + rf"(?:{'|'.join(map(re.escape, names))})(?!\w)"
    return bool(re.search(pattern, reply.casefold()) and not re.search(pattern, before.casefold()))


def _strayed(reply: str, caption: str, class_name: str) -> Iterator[str]:
    """Yield why a reply is no small change of the caption."""
    kept, said, own = content_words(caption), content_words(reply), content_words(class_name)
    subject = subject_of(caption)
    if subject is not None and subject not in said and not own & said and subject not in own:
        yield "lost the subject"
    if len(kept & said) < KEPT_SHARE * len(kept - own):
        yield "too far from the caption"
    if len(said - kept - own) > ADDED_WORDS_AT_MOST:
        yield "adds too much"
