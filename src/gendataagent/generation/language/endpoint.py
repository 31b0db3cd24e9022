"""A language model behind an OpenAI-compatible server: vLLM, llama.cpp, Ollama, a hosted one.

A request to a busy or failing server is repeated, with growing waits; a refusal that no retry
will change ends the run with the reason.
"""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gendataagent.config import PromptingConfig
from gendataagent.core.errors import GenerationError, ModelError
from gendataagent.generation.language.conversation import Conversation, Message
from gendataagent.generation.language.transport import (
    EXAMPLE_URLS,
    UnansweredError,
    check_address,
    exchange,
    open_client,
    refusal,
)

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 120.0
_SEED_BITS = 31  # what every server accepts: llama.cpp reads 32 bits, unsigned


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

    @property
    def name(self) -> str:
        """The server's name of the model."""
        return self._settings.endpoint_model

    def check(self) -> None:
        """Ask the server once whether it is there, accepts the key and has the model.

        GET /models costs nothing; a server without it is asked for an answer of one token.
        """
        try:
            names = self._model_names()
            if names is None:
                self._ask(Conversation(messages=(Message("user", "Hi"),), tokens_at_most=1), 0)
            elif not {self.name, f"{self.name}:latest"} & set(names):  # as Ollama names them
                more = f" and {len(names) - 10} more" if len(names) > 10 else ""
                raise ModelError(
                    f"prompting.endpoint_model: {self._server} has no model {self.name!r}; it has "
                    f"{', '.join(names[:10])}{more}"
                )
        except UnansweredError as error:
            raise ModelError(
                f"prompting.endpoint_url: {error.reason}. Start the server, or name another "
                f"address, such as {EXAMPLE_URLS}"
            ) from error

    def complete(self, conversations: Sequence[Conversation], seeds: Sequence[int]) -> list[str]:
        """Return one answer per conversation, in order; "" where a content filter refused."""
        if not conversations:
            return []
        self._client()  # before there are threads
        failed = threading.Event()
        ask = functools.partial(self._ask_until_answered, failed)
        workers = min(self._settings.endpoint_concurrency, len(conversations))
        with ThreadPoolExecutor(workers, thread_name_prefix="endpoint") as pool:
            futures = [pool.submit(ask, *one) for one in zip(conversations, seeds, strict=True)]
            try:
                return [future.result() for future in futures]
            except BaseException:  # an interrupt too: no further request may be sent
                failed.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def release(self) -> None:
        """Close the connections; they are opened again when needed."""
        if self._open_client is not None:
            self._open_client.close()
        self._open_client = None

    def _client(self) -> Any:
        if self._open_client is None:
            self._open_client = open_client(self._settings)
        return self._open_client

    def _ask_until_answered(
        self, failed: threading.Event, conversation: Conversation, seed: int
    ) -> str:
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
        """Return the text of an answer; "" where it has none (a tool call, a content filter)."""
        request: dict[str, Any] = {
            "model": self._settings.endpoint_model,
            "messages": [{"role": m.role, "content": m.content} for m in conversation.messages],
            "max_tokens": conversation.tokens_at_most,
            "temperature": self._settings.rewrite_temperature,
            "top_p": self._settings.rewrite_top_p,
            "seed": seed & ((1 << _SEED_BITS) - 1),
            "stream": False,
        }
        if conversation.stop:
            request["stop"] = list(conversation.stop)
        create = self._client().chat.completions.with_raw_response.create
        response = exchange(self._settings, lambda: create(**request))
        if response.status_code == 400 and b"content_filter" in response.content:
            return ""  # this caption alone is refused; the rewriter counts it
        if response.status_code != 200:
            raise refusal(self._settings, response)
        try:
            text = response.json()["choices"][0]["message"].get("content")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise UnansweredError(
                f"{self._server} sent an answer that is no chat completion: "
                f"{response.content[:80].decode(errors='replace')!r}"
            ) from error
        return text if isinstance(text, str) else ""

    def _model_names(self) -> list[str] | None:
        """Return the models the server lists, None where it lists none."""
        response = exchange(self._settings, self._client().models.with_raw_response.list)
        if response.status_code in {401, 403} or 300 <= response.status_code < 400:
            raise refusal(self._settings, response)
        try:
            return [str(entry["id"]) for entry in response.json()["data"]] or None
        except (ValueError, LookupError, TypeError, RecursionError):
            return None
