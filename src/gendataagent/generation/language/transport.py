"""HTTP requests to an OpenAI-compatible server: the openai client within limits of our own.

The key is read from the environment for each request; it is stored nowhere and removed from every
message.
"""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from collections.abc import Callable
from email.utils import mktime_tz, parsedate_tz
from typing import Any
from urllib.parse import urlsplit

import openai

from gendataagent.config import PromptingConfig
from gendataagent.core.errors import ConfigError, GenerationError, ModelError
from gendataagent.core.secrets import remember_secret, shown
from gendataagent.generation.language.proxies import is_this_machine, proxy_of
from gendataagent.generation.language.server_words import words_of_error

BODY_BYTES_AT_MOST = 4 << 20
EXAMPLE_URLS = "http://localhost:8000/v1 (vLLM), :8080/v1 (llama.cpp), :11434/v1 (Ollama)"
_TRANSIENT_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
# The client would add the machine, OPENAI_ORG_ID and OPENAI_CUSTOM_HEADERS, for any server. By the
# last one here it remembers that it was called `with_raw_response`.
_HEADERS_SENT = frozenset(
    {"host", "connection", "user-agent", "content-type", "content-length"}
    | {"x-stainless-raw-response"}
)
_HEADERS_OF_ENCODING = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class UnansweredError(Exception):
    """A failure worth a retry; `wait_s` is the wait the server asked for, if any, and `body` what
    it sent.
    """

    def __init__(self, reason: str, wait_s: float | None = None, body: bytes = b"") -> None:
        self.reason = reason
        self.body = body
        self.wait_s = wait_s
        super().__init__(reason)


def check_address(settings: PromptingConfig) -> None:
    """Raise `ConfigError` for an address or a model name that cannot work."""
    problems = []
    try:
        parts = urlsplit(settings.endpoint_url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        secret = parts.username or parts.password or parts.query or parts.fragment
    except ValueError:  # a port that is no number, an unclosed bracket
        usable, secret = False, ""
    if secret:
        problems.append(
            "prompting.endpoint_url must hold no user, password, query or fragment; put the key "
            f"into the environment variable {settings.endpoint_key_variable or 'OPENAI_API_KEY'}"
        )
    elif not usable:
        problems.append(
            "prompting.endpoint_url must be the base address of an OpenAI-compatible server, such "
            f"as {EXAMPLE_URLS}, got {settings.endpoint_url!r}"
        )
    if not settings.endpoint_model:
        problems.append("prompting.endpoint_model must name one of the server's models")
    if problems:
        raise ConfigError(problems)


def open_client(settings: PromptingConfig) -> Any:
    """Return an openai client of the server; raises `ModelError`."""
    try:
        return openai.OpenAI(
            api_key="set in _LimitedClient",
            base_url=settings.endpoint_url,
            timeout=settings.endpoint_timeout_s,
            max_retries=0,  # ours stop as soon as another request has failed
            http_client=_LimitedClient(settings),
        )
    except Exception as error:  # a dozen kinds; their texts may hold a proxy's password
        failure = type(error).__name__
    raise ModelError(
        f"prompting.endpoint_url: cannot prepare a connection to {settings.endpoint_url} "
        f"({failure}); check this address, and the proxies in HTTP_PROXY, HTTPS_PROXY, ALL_PROXY"
    )


class _LimitedClient(openai.DefaultHttpxClient):  # type: ignore[misc] # mypy skips openai
    """Reads a body of limited size in limited time, follows no redirect, sends no other key.

    Proxies are those of the environment (HTTPS_PROXY, NO_PROXY, ...); .netrc is not read.
    """

    def __init__(self, settings: PromptingConfig) -> None:
        super().__init__(auth=self._authorize, follow_redirects=False)
        self._settings = settings

    def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        deadline_s = time.monotonic() + self._settings.endpoint_timeout_s
        packed = bytearray()
        with contextlib.closing(super().send(request, stream=True, **options)) as response:
            for chunk in response.iter_raw():
                packed += chunk
                if time.monotonic() > deadline_s:
                    raise _timed_out(self._settings)
                if len(packed) > BODY_BYTES_AT_MOST:
                    raise _too_long(self._settings)
        encoding = response.headers.get("Content-Encoding", "")
        body = _unpacked(bytes(packed), encoding, self._settings)
        headers = [h for h in response.headers.multi_items() if h[0] not in _HEADERS_OF_ENCODING]
        return type(response)(response.status_code, headers=headers, content=body, request=request)

    def _authorize(self, request: Any) -> Any:
        for name in set(request.headers) - _HEADERS_SENT:
            del request.headers[name]
        request.headers["Accept-Encoding"] = "identity"  # a small body may unpack to a huge one
        if key := key_of(self._settings):
            request.headers["Authorization"] = f"Bearer {key}"
        return request


def _unpacked(body: bytes, encoding: str, settings: PromptingConfig) -> bytes:
    """Return a body that a server or proxy compressed although it was asked not to.

    Raises:
        UnansweredError: it is damaged, unpacks to more than `BODY_BYTES_AT_MOST`, or is compressed
            in another way than gzip and deflate.
    """
    if encoding.strip().casefold() in ("", "identity"):
        return body
    try:
        if encoding.strip().casefold() not in ("gzip", "x-gzip", "deflate"):
            raise ValueError(encoding)
        raw = encoding.casefold() == "deflate" and body[:1] != b"\x78"
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS if raw else zlib.MAX_WBITS | 32)
        whole = unpacker.decompress(body, BODY_BYTES_AT_MOST + 1)
    except (ValueError, zlib.error) as error:
        raise UnansweredError(
            f"{_server(settings)} sent an answer that cannot be unpacked (Content-Encoding: "
            f"{shown(encoding)[:40]}), though it was asked to send it as it is"
            + _through_proxy(settings)
        ) from error
    if len(whole) > BODY_BYTES_AT_MOST:
        raise _too_long(settings)
    return whole


def key_of(settings: PromptingConfig) -> str:
    """Return the server's key, "" where it has none; raises `ModelError` for a damaged one."""
    name = settings.endpoint_key_variable
    key = os.environ.get(name, "").strip() if name else ""
    if not (key.isascii() and key.isprintable()):
        raise ModelError(
            f"the environment variable {name} (prompting.endpoint_key_variable) holds characters "
            "that cannot be part of a key; copy the key again"
        )
    remember_secret(key)
    return key


def exchange(settings: PromptingConfig, send: Callable[[], Any]) -> Any:
    """Return the HTTP response to a request made `with_raw_response`, whatever its status.

    Raises:
        UnansweredError: no answer, or a status worth a retry.
    """
    key_of(settings)  # a damaged one fails here: errors from below would quote it
    failure: UnansweredError | None = None
    try:
        response = send().http_response
    except UnansweredError as error:
        failure = error
    except openai.APITimeoutError:
        failure = _timed_out(settings)
    except openai.APIConnectionError as error:
        reason = f"{_server(settings)} cannot be reached: {shown(str(error.__cause__))}"
        failure = UnansweredError(reason + _through_proxy(settings))
        if isinstance(error.__cause__, UnansweredError):  # openai 1 wraps our own error too
            failure = error.__cause__
    except openai.APIStatusError as error:
        response = error.response
        if response.status_code in _TRANSIENT_STATUS:
            reason = _status_of(settings, response) + _through_proxy(settings)
            failure = UnansweredError(reason, _wait_in(response.headers), response.content)
    if failure is not None:
        raise failure  # not inside `except`: openai's errors hold the whole exchange
    return response


def _wait_in(headers: Any) -> float | None:
    """Return the wait that a response's headers ask for."""
    milliseconds = wait_asked_for(headers.get("Retry-After-Ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    return wait_asked_for(headers.get("Retry-After", ""))


def wait_asked_for(retry_after: str) -> float | None:
    """Return the seconds a Retry-After header asks for (a number or a date), None if neither."""
    try:
        wait_s = float(retry_after)
    except ValueError:
        try:
            date = parsedate_tz(retry_after)
            wait_s = mktime_tz(date) - time.time() if date else float("nan")
        except (ValueError, OverflowError):
            return None
    return max(0.0, wait_s) if wait_s < float("inf") else None  # NaN is neither


def refusal(settings: PromptingConfig, response: Any) -> Exception:
    """Return the error for a status that no retry will change."""
    status, reason = response.status_code, _status_of(settings, response)
    proxy = proxy_of(settings.endpoint_url)
    if proxy and (status == 407 or is_this_machine(settings.endpoint_url)):
        return ModelError(f"prompting.endpoint_url: {reason}{_through_proxy(settings)}")
    if status in {401, 403}:
        name = settings.endpoint_key_variable
        state = "the server rejects the key in it" if key_of(settings) else "it is not set"
        return ModelError(
            f"prompting.endpoint_key_variable names {name!r}, and {state}: {reason}. Set it to a "
            f"key of this server: export {name}=..." + _through_proxy(settings)
        )
    if status == 404:
        return ModelError(
            f"prompting.endpoint_url, prompting.endpoint_model: {reason}. It has no model "
            f"{settings.endpoint_model!r}, or its API is at another address (most end in /v1)"
            + _through_proxy(settings)
        )
    if 300 <= status < 400:
        return ModelError(
            f"prompting.endpoint_url: {_server(settings)} redirects to "
            f"{shown(response.headers.get('Location', 'elsewhere'))!r}; name that address"
        )
    return GenerationError(
        f"{reason}: it rejects the request. Look at its log; lower prompting.rewrites if it "
        "mentions length"
    )


def no_completion(settings: PromptingConfig, response: Any) -> UnansweredError:
    """Return the error for a response with status 200 that holds no answer."""
    return UnansweredError(
        f"{_server(settings)} sent an answer that is no chat completion: "
        f"{words_of_error(response.content)[:80]!r}" + _through_proxy(settings),
        body=response.content,
    )


def _status_of(settings: PromptingConfig, response: Any) -> str:
    """Return status and message of an error as one short line without the key."""
    line = words_of_error(response.content)
    status = f"{_server(settings)} answered with status {response.status_code}"
    return f"{status} ({line})" if line else status


def _through_proxy(settings: PromptingConfig) -> str:
    """Return that a proxy is between this machine and the server, and what to do; "" if none."""
    proxy = proxy_of(settings.endpoint_url)
    if not proxy:
        return ""
    if not is_this_machine(settings.endpoint_url):
        return f" (asked through the proxy {proxy})"
    host = urlsplit(settings.endpoint_url).hostname
    return (
        f" (asked through the proxy {proxy} of HTTP_PROXY, HTTPS_PROXY or ALL_PROXY, which need "
        f"not reach this machine: export NO_PROXY={host})"
    )


def _timed_out(settings: PromptingConfig) -> UnansweredError:
    return UnansweredError(
        f"{_server(settings)} sent no complete answer within {settings.endpoint_timeout_s:g} s"
        + _through_proxy(settings)
    )


def _too_long(settings: PromptingConfig) -> UnansweredError:
    return UnansweredError(f"{_server(settings)} sent more than {BODY_BYTES_AT_MOST >> 20} MiB")


def _server(settings: PromptingConfig) -> str:
    return f"the server {settings.endpoint_url}"
