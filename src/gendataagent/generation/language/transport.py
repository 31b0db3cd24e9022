"""Questions to an OpenAI-compatible server over HTTP: one at a time, each with a clear outcome.

The key is read from the environment when a question is sent; it is kept nowhere and taken out of
every message.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from gendataagent.core.errors import ConfigError, GenerationError, ModelError

FIRST_WAIT_S = 0.5
ANSWER_BYTES_AT_MOST = 4 << 20
_CHUNK_BYTES = 1 << 16
# Busy, or failing for a moment: worth asking again.
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
USUAL_PLACES = "http://localhost:8000/v1 (vLLM), :8080/v1 (llama.cpp), :11434/v1 (Ollama)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the server is and how it is spoken to.

    Args:
        url: base address, up to and with /v1.
        key_variable: name of the environment variable with the key; it may be unset.
        timeout_s: longest wait for one answer, from question to last byte.
        concurrency: questions under way at once.
        retries: times a failed question is asked again.
        first_wait_s: before the first of them; doubled each time, and varied by half.

    Raises:
        ConfigError: for an address or a model name that cannot work.
    """

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    timeout_s: float = 60.0
    concurrency: int = 4
    retries: int = 4
    first_wait_s: float = FIRST_WAIT_S

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        problems = []
        if parts.username or parts.password or parts.query or parts.fragment:
            problems.append(
                "prompting.endpoint_url must hold no user, password, query or fragment; put the "
                f"key into the environment variable {self.key_variable or 'OPENAI_API_KEY'}"
            )
        elif parts.scheme not in {"http", "https"} or not parts.hostname:
            problems.append(
                "prompting.endpoint_url must be the base address of an OpenAI-compatible server, "
                f"such as {USUAL_PLACES}, got {self.url!r}"
            )
        if not self.model:
            problems.append("prompting.endpoint_model must name the model to ask the server for")
        if problems:
            raise ConfigError(problems)

    @property
    def key(self) -> str:
        """The server's key, "" where the variable is unset."""
        return os.environ.get(self.key_variable, "").strip() if self.key_variable else ""


class UnansweredError(Exception):
    """A question failed in a way that may pass; `wait_s` is what the server asked for, if any."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        self.reason = reason
        self.wait_s = wait_s
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server sent back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON values; raises `ValueError`."""
        return json.loads(self.body)


class _Key(AuthBase):
    """Sends the key, or none: without this, requests would look for one in a .netrc file."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def send(
    endpoint: Endpoint,
    session: requests.Session,
    path: str,
    question: Mapping[str, Any] | None = None,
) -> Answer:
    """Return the server's answer to POST `question`, or to GET where there is none.

    Raises:
        UnansweredError: no answer came, or a status that may pass.
    """
    over = time.monotonic() + endpoint.timeout_s
    where = f"the server {endpoint.url}"
    try:
        with session.request(
            "GET" if question is None else "POST",
            endpoint.url.rstrip("/") + path,
            json=None if question is None else dict(question),
            auth=_Key(endpoint.key),
            timeout=endpoint.timeout_s,
            allow_redirects=False,  # one would turn the question into a GET
            stream=True,
        ) as response:
            answer = Answer(response.status_code, response.headers, _body(response, over))
    except (requests.Timeout, TimeoutError) as error:
        raise UnansweredError(
            f"{where} gave no whole answer within {endpoint.timeout_s:g} s"
        ) from error
    except requests.ConnectionError as error:
        raise UnansweredError(_why_unreachable(where, error)) from error
    except (requests.RequestException, OSError, ValueError) as error:
        # the connection broke off inside the answer, or the answer cannot be decoded
        raise UnansweredError(f"{where} broke off its answer ({type(error).__name__})") from error
    if answer.status in _PASSING:
        said = _message_of(answer, endpoint)
        raise UnansweredError(
            f"{where} answered with status {answer.status}" + (f" ({said})" if said else ""),
            wait_asked_for(answer.headers.get("Retry-After", "")),
        )
    return answer


def _body(response: requests.Response, over: float) -> bytes:
    """Return the whole body; raises `TimeoutError` after `over`, `ValueError` if it is too long."""
    body = bytearray()
    while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
        body += chunk
        if time.monotonic() > over:
            raise TimeoutError
        if len(body) > ANSWER_BYTES_AT_MOST:
            raise ValueError("too long")
    return bytes(body)


def _why_unreachable(where: str, error: Exception) -> str:
    text = str(error)
    if "refused" in text:
        return f"{where} cannot be reached: nothing listens there (connection refused)"
    if "resolve" in text or "Name or service" in text or "getaddrinfo" in text:
        return f"{where} cannot be reached: its name is not known"
    if "SSL" in text or "certificate" in text:
        return f"{where} cannot be reached: its certificate is not accepted"
    return f"{where} cannot be reached, or hung up without an answer"


def wait_asked_for(retry_after: str) -> float | None:
    """Return the seconds a Retry-After header asks for (a number, or a date), None if neither."""
    text = retry_after.strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if seconds < float("inf") else None  # NaN is neither


def refusal(endpoint: Endpoint, answer: Answer) -> Exception:
    """Return the error for a status that does not pass by itself."""
    said = _message_of(answer, endpoint)
    reason = f"the server {endpoint.url} answered with status {answer.status}" + (
        f" ({said})" if said else ""
    )
    if answer.status in {401, 403}:
        state = "the key in it is not accepted" if endpoint.key else "it is not set"
        return ModelError(
            f"prompting.endpoint_key_variable names {endpoint.key_variable!r}, and {state}: "
            f"{reason}. Set it to a key of this server: export {endpoint.key_variable}=..."
        )
    if answer.status == 404:
        return ModelError(
            f"prompting.endpoint_url, prompting.endpoint_model: {reason}. It has no model "
            f"{endpoint.model!r}, or speaks the protocol at another address (most end in /v1)"
        )
    if 300 <= answer.status < 400:
        return ModelError(
            f"prompting.endpoint_url: the server {endpoint.url} sends on to "
            f"{answer.headers.get('Location', 'elsewhere')!r}; name that address"
        )
    return GenerationError(
        f"{reason}: it does not take the question. Look at its log; lower prompting.rewrites or "
        "prompting.rewrite_words if it speaks of length"
    )


def _message_of(answer: Answer, endpoint: Endpoint) -> str:
    """Return what an error answer says, one short line without the key; "" if it says nothing."""
    try:
        said = answer.json()
    except (ValueError, RecursionError):
        return ""
    for name in ("error", "message", "detail"):
        if isinstance(said, dict) and name in said:
            said = said[name]
    if not isinstance(said, str):
        return ""
    line = "".join(letter for letter in " ".join(said.split()) if letter.isprintable())
    if endpoint.key:
        line = line.replace(endpoint.key, "***")
    return line[:200].rstrip(". ")
