"""The endpoint backend against a real HTTP server: requests, answers and failures."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from threading import Event
from typing import Any

import pytest

from gendataagent.config import PromptingConfig
from gendataagent.core.errors import ConfigError, GenerationError, ModelError
from gendataagent.generation.language.conversation import Conversation, Message
from gendataagent.generation.language.endpoint import EndpointChat
from gendataagent.generation.language.transport import wait_asked_for
from tests.chat_server import ChatServer, Question, Reply, error, models, serving

KEY = "sk-secret-0123456789"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def chat(url: str, *, first_wait_s: float = 0.01, **changes: Any) -> EndpointChat:
    settings = {"url": url, "model": "tiny", "timeout_s": 5.0, "concurrency": 2, "retries": 2}
    named = {f"endpoint_{name}": value for name, value in {**settings, **changes}.items()}
    return EndpointChat(PromptingConfig(**named), first_wait_s=first_wait_s)


def conversation(text: str) -> Conversation:
    return Conversation(
        messages=(Message("system", "Be brief."), Message("user", text)),
        tokens_at_most=20,
        stop=("\n3.",),
    )


def echo(question: Question, _: int) -> Reply:
    return Reply(f"{question['messages'][-1]['content']} {question['seed']}")


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serving(echo) as running:
        yield running


def test_answers_keep_the_order_of_the_conversations() -> None:
    def slow_first(question: Question, _: int) -> Reply:
        text = question["messages"][-1]["content"]
        return Reply(text, wait_s=0.2 if text == "0" else 0.0)

    with serving(slow_first) as running:
        one = chat(running.url, concurrency=4)
        answers = one.complete([conversation(str(n)) for n in range(6)], list(range(6)))
        one.release()
    assert answers == ["0", "1", "2", "3", "4", "5"]


def test_a_request_holds_model_messages_and_sampling_settings(server: ChatServer) -> None:
    seed = 2**62 + 5
    assert chat(server.url).complete([conversation("hello")], [seed]) == ["hello 5"]
    assert server.questions == [
        {
            "model": "tiny",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "hello"},
            ],
            "max_tokens": 20,
            "temperature": 0.7,
            "top_p": 0.9,
            "seed": 5,
            "stop": ["\n3."],
            "stream": False,
        }
    ]
    assert server.keys == [""]


def test_no_conversation_sends_no_request(server: ChatServer) -> None:
    assert chat(server.url).complete([], []) == []
    assert server.questions == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_an_interrupt_does_not_wait_for_a_server_that_does_not_answer() -> None:
    interrupted, answered = Event(), list[bool]()

    def slow(question: Question, _: int) -> Reply:
        os.kill(os.getpid(), signal.SIGINT)
        answered.append(interrupted.wait(5))
        return Reply("x")

    with serving(slow) as running:
        one = chat(running.url, concurrency=1, timeout_s=60)
        with pytest.raises(KeyboardInterrupt):
            one.complete([conversation("0"), conversation("1")], [0, 1])
        assert answered == []
        interrupted.set()
    assert len(running.questions) == 1


def test_a_key_that_the_server_repeats_is_not_in_an_answer(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    text = f"1. a bearer of {KEY} and {KEY.upper()}\n2. a fox"
    (answer,) = chat(server.url).complete([conversation(text)], [3])
    assert answer == "1. a bearer of *** and ***\n2. a fox 3"
    assert server.keys == [f"Bearer {KEY}"]


def test_concurrency_is_limited() -> None:
    with serving(lambda question, _: Reply("x", wait_s=0.05)) as running:
        chat(running.url, concurrency=3).complete([conversation(str(n)) for n in range(9)], [0] * 9)
        assert running.max_in_progress == 3


@pytest.mark.parametrize(
    "failure",
    [
        error(500, "out of luck"),
        error(503, "loading"),
        error(429, "slow down", Retry_After="0.01"),
        Reply(body=b"<html>gateway</html>"),
        Reply(body=b'{"choices": []}'),
        Reply(body=b'{"choices": [{"message": "hello"}]}'),
        Reply(body=b"[" * 100_000),
        Reply(hang_up=True),
        Reply("half", truncate=True),
    ],
    ids=lambda reply: f"{reply.status} {(reply.body or b'')[:20]!r}",
)
def test_transient_failures_are_retried_then_reported(failure: Reply) -> None:
    passes_at = 2

    def fails(question: Question, before: int) -> Reply:
        return failure if before < passes_at else Reply("at last")

    with serving(fails) as running:
        assert chat(running.url, retries=2).complete([conversation("x")], [1]) == ["at last"]
        assert len(running.questions) == 3
        passes_at = 99
        with pytest.raises(GenerationError, match=r"asked 2 times.*run again") as caught:
            chat(running.url, retries=1).complete([conversation("y")], [1])
    assert running.url in str(caught.value)
    if failure.status != 200:
        assert str(failure.status) in str(caught.value)


def test_waits_double_and_retry_after_is_honoured() -> None:
    def busy(question: Question, before: int) -> Reply:
        if question["messages"][-1]["content"] == "named":
            return error(429, "x", Retry_After="0.3") if before == 0 else Reply("ok")
        return error(503, "x") if before < 3 else Reply("ok")

    with serving(busy) as running:
        assert chat(running.url).complete([conversation("named")], [0]) == ["ok"]
        assert running.times_s[1] - running.times_s[0] >= 0.3
        running.times_s.clear()
        assert chat(running.url, retries=3, first_wait_s=0.1).complete(
            [conversation("not named")], [0]
        ) == ["ok"]
        first, second, third = (
            b - a for a, b in zip(running.times_s, running.times_s[1:], strict=False)
        )
    assert first >= 0.05
    assert second >= 0.1
    assert third >= 0.2


def test_a_retry_after_of_hours_ends_the_run() -> None:
    with (
        serving(lambda question, _: error(429, "quota used up", Retry_After="7200")) as running,
        pytest.raises(GenerationError, match=r"quota used up.*Retry-After: 7200 s"),
    ):
        chat(running.url, retries=9).complete([conversation("x")], [0])
    assert len(running.questions) == 1


def test_one_rejected_request_ends_the_others_at_once() -> None:
    def fails(question: Question, _: int) -> Reply:
        bad = question["messages"][-1]["content"] == "0"
        return error(422, "no such user") if bad else error(503, "busy")

    with serving(fails) as running:
        start = time.monotonic()
        with pytest.raises(GenerationError, match="no such user"):
            chat(running.url, retries=9, first_wait_s=20).complete(
                [conversation(str(n)) for n in range(40)], [0] * 40
            )
        assert time.monotonic() - start < 3
        assert len(running.questions) <= 4


@pytest.mark.parametrize("slow", [Reply("x", wait_s=1.0), Reply("x", drip_s=0.05)])
def test_slow_answers_time_out(slow: Reply) -> None:
    with serving(lambda question, _: slow) as running:
        start = time.monotonic()
        with pytest.raises(GenerationError, match=r"no complete answer within 0\.3 s"):
            chat(running.url, timeout_s=0.3, retries=0).complete([conversation("x")], [0])
        assert time.monotonic() - start < 0.9


def test_the_size_of_an_answer_is_limited() -> None:
    with (
        serving(lambda question, _: Reply("x" * (5 << 20))) as running,
        pytest.raises(GenerationError, match="more than 4 MiB"),
    ):
        chat(running.url, retries=0).complete([conversation("x")], [0])


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("GZIP", gzip.compress), ("deflate", zlib.compress),
     ("deflate", lambda body: zlib.compress(body)[2:-4]), ("identity", bytes)],
)  # fmt: skip
def test_a_compressed_answer_is_unpacked(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    """By a proxy, though it was asked not to."""
    packed = Reply(body=pack(Reply("x").to_bytes()), headers={"Content-Encoding": encoding})
    with serving(lambda question, _: packed) as running:
        assert chat(running.url, retries=0).complete([conversation("x")], [0]) == ["x"]


@pytest.mark.parametrize(
    ("encoding", "body", "words"),
    [
        ("gzip", gzip.compress(b" " * (64 << 20), mtime=0), "more than 4 MiB"),
        ("gzip", b"not packed", "cannot be unpacked"),
        ("br", b"x", "cannot be unpacked .Content-Encoding: br"),
    ],
    ids=["too much", "not packed", "another encoding"],
)
def test_an_answer_that_unpacks_to_too_much_or_not_at_all_is_refused(
    encoding: str, body: bytes, words: str
) -> None:
    packed = Reply(body=body, headers={"Content-Encoding": encoding})
    with (
        serving(lambda question, _: packed) as running,
        pytest.raises(GenerationError, match=words),
    ):
        chat(running.url, retries=0).complete([conversation("x")], [0])


def test_an_answer_without_text_is_empty() -> None:
    filtered = Reply(status=400, body=b'{"error": {"code": "content_filter", "message": "no"}}')
    with serving(lambda question, before: Reply(None) if before else filtered) as running:
        one = chat(running.url)
        assert one.complete([conversation("x")], [0]) == [""]
        assert one.complete([conversation("x")], [0]) == [""]


def test_the_key_goes_to_the_server_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(echo, key=KEY) as running:
        with pytest.raises(ModelError, match=r"'OPENAI_API_KEY', and it is not set.*export"):
            chat(running.url).check()
        monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-key-of-mine")
        for ask in (
            lambda: chat(running.url).check(),
            lambda: chat(running.url).complete([conversation("x")], [0]),
        ):
            with pytest.raises(ModelError, match=r"the server rejects the key in it") as caught:
                ask()
            chain: BaseException | None = caught.value
            while chain is not None:
                assert "sk-wrong" not in f"{chain!s} {chain!r}"
                chain = chain.__cause__
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        one = chat(running.url)
        one.check()
        assert one.complete([conversation("x")], [7]) == ["x 7"]
        assert KEY not in repr(vars(one))


@pytest.mark.parametrize("status", [401, 500])
def test_a_long_error_of_any_kind_is_limited_too(status: int) -> None:
    body = b'{"error": "' + b"x" * (5 << 20) + b'"}'
    with (
        serving(lambda question, _: Reply(status=status, body=body)) as running,
        pytest.raises(GenerationError, match="more than 4 MiB"),
    ):
        chat(running.url, retries=0).complete([conversation("x")], [0])


def test_a_damaged_key_is_reported_without_repeating_it(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("sk-torn\nsecret", "sk-torn…secret"):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with pytest.raises(ModelError, match=r"OPENAI_API_KEY .*copy the key again") as caught:
            chat(server.url).complete([conversation("x")], [0])
        assert "torn" not in f"{caught.value} {caught.value.__context__}"
    assert server.headers == []


def test_only_our_own_headers_are_sent(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-another-server")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-another-server")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer x\nApi-Key: y")
    chat(server.url).complete([conversation("x")], [0])
    (sent,) = server.headers
    assert sent.keys() - {"connection", "x-stainless-raw-response"} == {
        "host", "user-agent", "accept-encoding", "content-type", "content-length",
    }  # fmt: skip


def test_proxies_come_from_the_environment_and_must_be_usable(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    chat(server.url).check()  # NO_PROXY names this machine
    monkeypatch.setenv("NO_PROXY", "elsewhere")
    with pytest.raises(ModelError, match=r"cannot be reached.*Start the server"):
        chat(server.url).check()
    monkeypatch.setenv("HTTP_PROXY", "nonsense://me:sesame@127.0.0.1:9")
    with pytest.raises(ModelError, match=r"check this address, and the proxies") as caught:
        chat(server.url).check()
    assert "sesame" not in f"{caught.value} {caught.value.__context__}"


def test_netrc_is_not_read(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password sesame\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    chat(server.url).complete([conversation("x")], [0])
    assert server.keys == [""]


def test_a_check_finds_the_model_and_asks_one_real_question(server: ChatServer) -> None:
    server.models = models("llama3:latest", "tiny", "models/gemini")
    chat(server.url).check()
    chat(server.url, model="llama3").check()
    chat(server.url, model="gemini").check()
    assert [question["model"] for question in server.questions] == ["tiny", "llama3", "gemini"]
    assert all("Photo of" in q["messages"][-1]["content"] for q in server.questions)
    for listed in ("*", "openai/*", "publishers/google/models/tiny", "Tiny", "tiny:fireworks-ai",
                   "/models/tiny.gguf"):  # fmt: skip
        server.models = models("other", listed)
        chat(server.url).check()
    body = {"data": [{"id": "other"}], "has_more": True}
    server.models = Reply(body=json.dumps(body).encode())
    chat(server.url).check()
    server.models = models("llama3:latest", "tiny", "models/gemini")
    with pytest.raises(ModelError, match=r"no model 'big'; it has llama3:latest, tiny"):
        chat(server.url, model="big").check()


@pytest.mark.parametrize(
    "listing", [error(404, "no"), Reply(body=b"not json"), Reply(body=b"{}"), models()]
)
def test_without_a_list_of_models_the_question_decides(listing: Reply) -> None:
    with serving(echo, models_reply=listing) as running:
        chat(running.url).check()
        assert len(running.questions) == 1
        running.answer = lambda question, _: error(404, "The model `tiny` does not exist")
        with pytest.raises(ModelError, match=r"status 404 \(The model `tiny` does not exist\)"):
            chat(running.url).check()


def test_a_refused_connection_is_reported() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(ModelError, match=r"Connection refused.*Start the server.*localhost:8000"):
        chat(url).check()
    with pytest.raises(GenerationError, match=r"Connection refused.*asked 3 times"):
        chat(url).complete([conversation("x")], [0])


def test_redirects_are_not_followed() -> None:
    moved = Reply(status=308, body=b"", headers={"Location": "http://127.0.0.1:1/v1"})
    with serving(echo, models_reply=moved) as running:
        with pytest.raises(ModelError, match=r"redirects to 'http://127\.0\.0\.1:1/v1'"):
            chat(running.url).check()
        running.answer = lambda question, _: moved
        with pytest.raises(ModelError, match="redirects to"):
            chat(running.url).complete([conversation("x")], [0])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"url": ""}, "base address"),
        ({"url": "localhost:8000/v1"}, "base address"),
        ({"url": "ftp://host/v1"}, "base address"),
        ({"url": "http://host:port/v1"}, "base address"),
        ({"url": "http://[::1/v1"}, "base address"),
        ({"url": "http://me:sesame@host/v1"}, "no user, password"),
        ({"url": "http://host/v1?key=sesame"}, "no user, password"),
        ({"model": ""}, "must name one of the server"),
    ],
)
def test_an_unusable_address_is_refused_without_repeating_secrets(
    changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        chat(changes.pop("url", "http://host/v1"), **changes)
    assert "sesame" not in str(caught.value)


def test_retry_after_is_read_as_seconds_or_date() -> None:
    assert wait_asked_for("3") == 3.0
    assert wait_asked_for("-3") == 0.0
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 27 <= (wait_asked_for(soon) or 0) <= 30
    for nonsense in ("", "soon", "nan", "inf", "Mon"):
        assert wait_asked_for(nonsense) is None
