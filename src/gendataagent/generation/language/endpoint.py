"""A language model behind an OpenAI-compatible server: vLLM, llama.cpp, Ollama, a hosted one.

A server that is busy or fails for a moment is asked again, waiting longer each time; one that
refuses for good ends the run with a sentence that says why.
"""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import requests
from requests.adapters import HTTPAdapter

from gendataagent.core.errors import GenerationError, ModelError
from gendataagent.generation.language.conversation import Conversation, Message
from gendataagent.generation.language.transport import (
    USUAL_PLACES,
    Answer,
    Endpoint,
    UnansweredError,
    refusal,
    send,
)

LONGEST_WAIT_S = 120.0
_SEED_BITS = 31  # what every server takes: llama.cpp reads 32 bits, unsigned


class EndpointChat:
    """Asks the server, several questions at a time; answers come in the order of the questions.

    Seeds are passed on; whether the same seed gives the same answer is up to the server.

    All methods raise `ModelError` where the server refuses for good (address, key, model) and
    `GenerationError` where it failed more often than it may, or does not speak the protocol.
    """

    def __init__(self, endpoint: Endpoint, *, temperature: float, top_p: float) -> None:
        self._endpoint = endpoint
        self._temperature = temperature
        self._top_p = top_p
        self._open_session: requests.Session | None = None

    @property
    def name(self) -> str:
        """Name of the model, as the server knows it."""
        return self._endpoint.model

    @property
    def revision(self) -> str:
        """Empty: a server does not tell."""
        return ""

    def check(self) -> None:
        """Ask the server once whether it is there, takes the key and has the model.

        GET /models costs nothing; a server without it is asked for an answer of one token.
        """
        try:
            names = self._model_names()
            if names is None:
                self._ask(Conversation(messages=(Message("user", "Hi"),), tokens_at_most=1), 0)
            elif not _is_among(self._endpoint.model, names):
                raise ModelError(
                    f"prompting.endpoint_model: the server {self._endpoint.url} has no model "
                    f"{self._endpoint.model!r}; it has {_listed(names)}"
                )
        except UnansweredError as error:
            raise ModelError(
                f"prompting.endpoint_url: {error.reason}. Start the server, or name another "
                f"address, such as {USUAL_PLACES}"
            ) from error

    def complete(self, conversations: Sequence[Conversation], seeds: Sequence[int]) -> list[str]:
        """Return one answer per conversation, in order; "" where a content filter refused."""
        if not conversations:
            return []
        self._session()  # before there are threads
        failed = threading.Event()
        ask = functools.partial(self._ask_until_answered, failed)
        workers = min(self._endpoint.concurrency, len(conversations))
        with ThreadPoolExecutor(workers, thread_name_prefix="endpoint") as pool:
            futures = [pool.submit(ask, *one) for one in zip(conversations, seeds, strict=True)]
            try:
                return [future.result() for future in futures]
            except BaseException:  # an interrupt too: nothing more may be sent
                failed.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def release(self) -> None:
        """Close the connections; they are opened again when needed."""
        if self._open_session is not None:
            self._open_session.close()
        self._open_session = None

    def _session(self) -> requests.Session:
        if self._open_session is None:
            session = requests.Session()
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(pool_maxsize=self._endpoint.concurrency))
            self._open_session = session
        return self._open_session

    def _ask_until_answered(
        self, failed: threading.Event, conversation: Conversation, seed: int
    ) -> str:
        """Return the answer; asked as often as it may be, unless another question has `failed`."""
        tries = self._endpoint.retries + 1
        for number in range(tries):
            try:
                return self._ask(conversation, seed)
            except UnansweredError as error:
                last = error
            if number + 1 < tries and failed.wait(self._wait_s(number, last)):
                break
        raise GenerationError(
            f"{last.reason}; asked {tries} times. Look at the server's log; what is made is kept, "
            "so run again when it is well, or raise prompting.endpoint_retries or "
            "prompting.endpoint_timeout_s"
        ) from last

    def _wait_s(self, number: int, error: UnansweredError) -> float:
        if error.wait_s is None:
            longest_s = min(LONGEST_WAIT_S, self._endpoint.first_wait_s * 2.0**number)
            # varied, so that questions that failed together do not come back together
            return longest_s * (0.5 + 0.5 * random.random())
        if error.wait_s > LONGEST_WAIT_S:
            raise GenerationError(
                f"{error.reason}, and asks to be left alone for {error.wait_s:.0f} s. What is made "
                "is kept: run again later, or lower prompting.endpoint_concurrency"
            ) from error
        return error.wait_s

    def _ask(self, conversation: Conversation, seed: int) -> str:
        question: dict[str, object] = {
            "model": self._endpoint.model,
            "messages": [{"role": m.role, "content": m.content} for m in conversation.messages],
            "max_tokens": conversation.tokens_at_most,
            "temperature": self._temperature,
            "top_p": self._top_p,
            "seed": seed & ((1 << _SEED_BITS) - 1),
            "stream": False,
        }
        if conversation.stop:
            question["stop"] = list(conversation.stop)
        answer = send(self._endpoint, self._session(), "/chat/completions", question)
        if answer.status == 200:
            return self._text_of(answer)
        if answer.status == 400 and b"content_filter" in answer.body:
            return ""  # this caption alone is refused, and the guard counts it
        raise refusal(self._endpoint, answer)

    def _text_of(self, answer: Answer) -> str:
        """Return the words of an answer; "" where it holds none (a tool call, a filter)."""
        try:
            text = answer.json()["choices"][0]["message"].get("content")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise UnansweredError(
                f"the server {self._endpoint.url} sent what is no chat completion: "
                f"{answer.body[:80].decode(errors='replace')!r}"
            ) from error
        return text if isinstance(text, str) else ""

    def _model_names(self) -> list[str] | None:
        """Return the models the server lists, None where it lists none."""
        answer = send(self._endpoint, self._session(), "/models")
        if answer.status in {401, 403} or 300 <= answer.status < 400:
            raise refusal(self._endpoint, answer)
        if answer.status != 200:
            return None
        try:
            return [str(entry["id"]) for entry in answer.json()["data"]] or None
        except (ValueError, LookupError, TypeError, RecursionError):
            return None


def _is_among(model: str, names: Sequence[str]) -> bool:
    """Return whether a server knows a model; Ollama calls "llama3" "llama3:latest"."""
    return any(name in {model, f"{model}:latest"} for name in names)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more
