"""A language model behind an OpenAI-compatible server: vLLM, llama.cpp, Ollama, a hosted one.

A request to a busy or failing server is repeated, with growing waits; a refusal that no retry
will change ends the run with the reason.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any

from gendataagent.config import PromptingConfig
from gendataagent.core.errors import GenerationError, ModelError
from gendataagent.core.secrets import shown, without
from gendataagent.generation.language.conversation import Conversation, ask_for_rewrites
from gendataagent.generation.language.messages import Answer, answer_in
from gendataagent.generation.language.parsing import replies_of
from gendataagent.generation.language.request_form import RequestForm
from gendataagent.generation.language.transport import (
    EXAMPLE_URLS,
    UnansweredError,
    check_address,
    exchange,
    key_of,
    no_completion,
    open_client,
    refusal,
)

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 120.0
_REFUSED = frozenset({400, 413, 415, 422, 501})
_ERROR = re.compile(rb'\s*\{\s*"error"')  # with status 200
_FILTERED = re.compile(
    rb"content[_ -]?(?:filter|policy|moderation|management policy)|responsibleai|moderation"
    rb"|data_inspection_failed|safety_(?:settings|violation|check)|prohibited_content"
    rb"|(?:block|reject)\w* (?:due to|for|by) (?:safety|risk)|flagged for|content exists risk"
    rb"|considered high risk|input was flagged", re.I
)  # fmt: skip
_FORBIDDEN = 403  # for a key, or for what some servers' filters refuse
_FLAGGED = re.compile(rb"flagged|content[_ -]?(?:filter|policy)", re.I)
_TRIAL_CAPTION, _TRIAL_CLASS, _TRIAL_WORDS = "a red bus on a wet street", "bus", 30


class EndpointChat:
    """Asks the server, several requests at once; answers come in the order of the conversations.

    Seeds are passed on; whether the same seed gives the same answer is up to the server.

    All methods raise `ModelError` for an address, key or model that does not work, and
    `GenerationError` for a rejected request or after too many failures.

    Args:
        settings: its `endpoint_*` and sampling settings.
        first_wait_s: wait before the first retry; doubled each time, with jitter of up to half.

    Raises:
        ConfigError: the address or the model name cannot work.
    """

    revision = ""  # a server does not report it

    def __init__(self, settings: PromptingConfig, *, first_wait_s: float = FIRST_WAIT_S) -> None:
        check_address(settings)
        self._settings = settings
        self._server = f"the server {settings.endpoint_url}"
        self._first_wait_s = first_wait_s
        self._open_client: Any = None
        self.form = RequestForm(settings)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about the server, one sentence each."""
        return tuple(self.form.notes)

    @property
    def name(self) -> str:
        """The server's name of the model."""
        return self._settings.endpoint_model

    def check(self) -> None:
        """Ask the server whether it is there, accepts the key, has the model and answers.

        GET /models, where the server has it, then one real question, as a run asks it: what the
        server refuses shows here, not in the first round.
        """
        try:
            names = self._model_names()
        except UnansweredError as error:
            raise ModelError(
                f"prompting.endpoint_url: {error.reason}. Start the server, or name another "
                f"address, such as {EXAMPLE_URLS}"
            ) from error
        if names is not None and not any(_is_same_model(self.name, name) for name in names):
            more = f" and {len(names) - 10} more" if len(names) > 10 else ""
            raise ModelError(
                f"prompting.endpoint_model: {self._server} has no model {self.name!r}; it has "
                f"{shown(', '.join(names[:10]))}{more}"
            )
        question = ask_for_rewrites(
            _TRIAL_CAPTION, _TRIAL_CLASS, seeds=[0], words_at_most=_TRIAL_WORDS
        )
        answer = self._ask_until_answered(Event(), question, 0)
        if not any(replies_of(answer)):
            self.form.notes.append(f"{self._server} answered a trial question with no caption.")

    def complete(self, conversations: Sequence[Conversation], seeds: Sequence[int]) -> list[str]:
        """Return one answer per conversation, in order; "" where a content filter refused."""
        if not conversations:
            return []
        self._client()  # before there are threads
        failed = Event()
        ask = functools.partial(self._ask_until_answered, failed)
        workers = min(self._settings.endpoint_concurrency, len(conversations))
        waiting = SimpleQueue[tuple[int, Conversation, int]]()
        for number, one in enumerate(zip(conversations, seeds, strict=True)):
            waiting.put((number, *one))
        ended = SimpleQueue[tuple[int, str | BaseException]]()
        arguments = (ask, waiting, ended, failed)
        answers = [""] * len(conversations)
        try:
            for _ in range(workers):
                # a daemon, since an interrupt must not wait for a server that never answers
                Thread(target=_ask_each, args=arguments, daemon=True).start()
            for _ in conversations:
                number, answer = ended.get()
                if isinstance(answer, BaseException):
                    raise answer
                answers[number] = answer
        finally:  # after a failure or an interrupt no further request may be sent
            failed.set()
        return answers

    def release(self) -> None:
        """Close the connections; they are opened again when needed."""
        if self._open_client is not None:
            self._open_client.close()
        self._open_client = None

    def _client(self) -> Any:
        if self._open_client is None:
            self._open_client = open_client(self._settings)
        return self._open_client

    def _ask_until_answered(self, failed: Event, conversation: Conversation, seed: int) -> str:
        """Return the answer, after up to `retries` repetitions; none once another has `failed`."""
        tries = self._settings.endpoint_retries + 1
        for number in range(tries):
            try:
                return self._ask(conversation, seed)
            except UnansweredError as error:
                last = error
            if number + 1 < tries and failed.wait(self._wait_s(number, last)):
                break
        raise GenerationError(
            f"{last.reason}; asked {tries} times. Look at the server's log; finished work is kept: "
            "run again once the server works, or raise prompting.endpoint_retries or "
            "prompting.endpoint_timeout_s"
        ) from last

    def _wait_s(self, number: int, error: UnansweredError) -> float:
        if error.wait_s is None:
            longest_s = min(LONGEST_WAIT_S, self._first_wait_s * 2.0**number)
            # jitter, so that requests that failed together are not repeated together
            return longest_s * (0.5 + 0.5 * random.random())
        if error.wait_s > LONGEST_WAIT_S:
            raise GenerationError(
                f"{error.reason} and sent Retry-After: {error.wait_s:.0f} s. Finished work is "
                "kept: run again later, or lower prompting.endpoint_concurrency"
            ) from error
        return error.wait_s

    def _ask(self, conversation: Conversation, seed: int) -> str:
        """Return the text of an answer; "" where it has none (a tool call, a content filter).

        A parameter that the server refuses is left out and the question asked again; so it is with
        more room where the answer ended in its thoughts.
        """
        while True:
            request = self.form.request(conversation, seed)
            answer = self._answer_to(request)
            if answer is None:  # refused, and the form has learned from it
                continue
            if not (answer.cut_while_thinking and self.form.make_room(request)):
                # a server may repeat the key, and what it answers is written into the run
                return without(answer.text, key_of(self._settings))

    def _answer_to(self, request: dict[str, Any]) -> Answer | None:
        """Return the answer, None if the request is to be asked again in its new form."""
        try:
            response = self._send(request)
        except UnansweredError as error:
            if self.form.learn(request, error.body):
                return None
            raise
        if response.status_code in _REFUSED:
            if _FILTERED.search(response.content):
                return Answer("")  # this caption alone is refused; the rewriter counts it
            if self.form.learn(request, response.content):
                return None
            bare = self.form.bare(request)
            if bare is not None and self._send(bare).status_code == 200:
                self.form.settle_on_bare(request)
                return None
        if response.status_code == _FORBIDDEN and _FLAGGED.search(response.content):
            return Answer("")
        if response.status_code != 200:
            raise refusal(self._settings, response)
        try:
            return answer_in(response.content)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            if _FILTERED.search(response.content):  # an error, or no choice, with status 200
                return Answer("")
            if _ERROR.match(response.content) and self.form.learn(request, response.content):
                return None
            raise no_completion(self._settings, response) from error

    def _send(self, request: dict[str, Any]) -> Any:
        create = self._client().chat.completions.with_raw_response.create
        return exchange(self._settings, lambda: create(**request))

    def _model_names(self) -> list[str] | None:
        """Return the models the server lists, None where it lists none."""
        response = exchange(self._settings, self._client().models.with_raw_response.list)
        if response.status_code in {401, 403} or 300 <= response.status_code < 400:
            raise refusal(self._settings, response)
        try:
            listed = response.json()
            if isinstance(listed, dict):
                if listed.get("has_more") or listed.get("nextPageToken"):
                    return None
                listed = listed.get("data") or listed["models"]
            return [str(entry.get("id") or entry["name"]) for entry in listed] or None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None


def _ask_each(
    ask: Callable[[Conversation, int], str],
    waiting: SimpleQueue[tuple[int, Conversation, int]],
    ended: SimpleQueue[tuple[int, str | BaseException]],
    failed: Event,
) -> None:
    """Put the answer to each conversation that waits, or why there is none, until one failed."""
    while not failed.is_set():
        try:
            number, conversation, seed = waiting.get_nowait()
        except Empty:
            return
        try:
            ended.put((number, ask(conversation, seed)))
        except BaseException as error:
            ended.put((number, error))


def _is_same_model(wanted: str, listed: str) -> bool:
    """Return whether a listed name may be the wanted one, so that the question decides.

    Servers list aliases: models/tiny, openrouter/tiny, tiny:latest, /models/tiny.gguf, openai/*.
    """
    whole, known = wanted.casefold(), listed.casefold()
    parts = (known, known.rpartition("/")[2], known.partition(":")[0], PurePosixPath(known).stem)
    return "*" in known or whole.removesuffix(":latest") in parts
