"""Captions rewritten by a language model, validated, with a template to fall back on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gendataagent.core.protocols import PromptRewriter, Rewrite, RewriteRequest
from gendataagent.core.records import ModelDescription, derive_seed
from gendataagent.core.text import normalize_whitespace
from gendataagent.generation.language.conversation import ChatModel, ask_for_rewrites
from gendataagent.generation.language.parsing import replies_of
from gendataagent.generation.language.validator import RewriteValidator

MISSING = "missing"
# Each further try asks only for what is missing; then the template ends it, at no cost.
TRIES = 3


@dataclass(slots=True)
class _Progress:
    """The state of a request: the rewrite taken for each of its seeds, and what was refused."""

    request: RewriteRequest
    taken: list[str | None] = field(init=False)
    refusals: list[list[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.taken = [None] * len(self.request.seeds)
        self.refusals = [[] for _ in self.request.seeds]

    @property
    def missing(self) -> list[int]:
        """Positions of the seeds that have no rewrite yet."""
        return [position for position, text in enumerate(self.taken) if text is None]


class LanguageModelRewriter:
    """Asks a chat model for all rewrites of a caption at once and takes those that are valid.

    What is refused or missing is asked for again, up to `tries` times in all, each time with seeds
    of its own; then the template rewriter takes over. A request's outcome depends on the request
    alone (as far as the chat model's answers depend on conversation and seed alone).

    Args:
        template: writes what the model could not; `Rewrite.by` has its name.
    """

    def __init__(
        self,
        chat: ChatModel,
        validator: RewriteValidator,
        *,
        template: PromptRewriter,
        tries: int = TRIES,
    ) -> None:
        self.chat = chat
        self._validator = validator
        self._template = template
        self._tries = tries

    @property
    def description(self) -> ModelDescription:
        """Which language model writes."""
        return ModelDescription(name=self.chat.name, revision=self.chat.revision)

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know about the chat model's server."""
        return self.chat.notes

    def check(self) -> None:
        """Raise `ModelError` for what can be known to be wrong before anything is asked."""
        self.chat.check()

    def release(self) -> None:
        """Release the loaded model; it is loaded again when needed."""
        self.chat.release()
        self._template.release()

    def rewrite(self, requests: Sequence[RewriteRequest]) -> list[tuple[Rewrite, ...]]:
        """Return, per request, one changed caption per seed in `request.seeds`."""
        in_progress = [_Progress(request) for request in requests]
        for attempt in range(self._tries):
            asked = [one for one in in_progress if one.missing]
            if not asked:
                break
            self._ask(asked, attempt)
        return self._with_template(in_progress)

    def _ask(self, asked: Sequence[_Progress], attempt: int) -> None:
        conversations, seeds = [], []
        for one in asked:
            request = one.request
            own = [derive_seed(request.seeds[i], "attempt", attempt) for i in one.missing]
            conversations.append(
                ask_for_rewrites(
                    request.caption,
                    request.class_name,
                    seeds=own,
                    words_at_most=self._validator.words_at_most,
                )
            )
            seeds.append(derive_seed(own[0], "answer"))
        for one, answer in zip(asked, self.chat.complete(conversations, seeds), strict=True):
            self._take(one, replies_of(answer))

    def _take(self, one: _Progress, replies: Sequence[str]) -> None:
        """Give each reply to the next seed without a rewrite; a refused one adds its reason there.

        Replies beyond those asked for fill seeds that are still open; refused, they do not count.
        """
        waiting = one.missing
        asked_for = len(waiting)
        for number, reply in enumerate(replies):
            if not waiting:
                break
            reason = self._validator.refusal(
                reply,
                caption=one.request.caption,
                class_name=one.request.class_name,
                class_names=one.request.class_names,
                taken=[text for text in one.taken if text is not None],
            )
            if reason is None:
                one.taken[waiting.pop(0)] = _tidy(reply)
            elif number < asked_for:
                # the seed stays open for a spare reply, behind those that had none yet
                one.refusals[waiting[0]].append(reason)
                waiting.append(waiting.pop(0))
        for position in waiting[: max(0, asked_for - len(replies))]:
            one.refusals[position].append(MISSING)

    def _with_template(self, in_progress: Sequence[_Progress]) -> list[tuple[Rewrite, ...]]:
        """Return the rewrites, those still missing written by the template rewriter."""
        short = [one for one in in_progress if one.missing]
        by = self._template.description.name
        requests = [
            replace(one.request, seeds=tuple(one.request.seeds[i] for i in one.missing))
            for one in short
        ]
        written: dict[tuple[int, int], Rewrite] = {}
        if requests:
            for one, answers in zip(short, self._template.rewrite(requests), strict=True):
                for position, answer in zip(one.missing, answers, strict=True):
                    written[id(one), position] = replace(answer, by=answer.by or by)
        return [
            tuple(
                Rewrite(text=text, refusals=tuple(refusals))
                if text is not None
                else replace(written[id(one), position], refusals=tuple(refusals))
                for position, (text, refusals) in enumerate(
                    zip(one.taken, one.refusals, strict=True)
                )
            )
            for one in in_progress
        ]


def _tidy(reply: str) -> str:
    return normalize_whitespace(reply).rstrip(". ")
