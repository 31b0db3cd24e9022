"""Servers of every kind, as tables: the shapes of their replies, what they refuse, their errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gendataagent.config import PromptingConfig
from gendataagent.core.errors import GenDataAgentError, GenerationError, ModelError
from gendataagent.core.protocols import RewriteRequest
from gendataagent.generation.language.endpoint import EndpointChat
from gendataagent.generation.language.rewriter import LanguageModelRewriter
from gendataagent.generation.language.validator import RewriteValidator
from gendataagent.generation.tiny.rewriter import AttributeRewriter
from tests.chat_server import ChatServer, Question, Reply, error, models, serving
from tests.reply_shapes import LINES, NUMBERED, SHAPES

KEY = "sk-secret-0123456789"
TEMPLATE = "visible-attributes"
TAKEN = [(line, "") for line in LINES]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def chat(server: ChatServer, **changes: Any) -> EndpointChat:
    settings: dict[str, Any] = {"url": server.url, "model": "tiny", "timeout_s": 5.0, "retries": 0}
    named = {f"endpoint_{name}": value for name, value in {**settings, **changes}.items()}
    return EndpointChat(PromptingConfig(**named), first_wait_s=0.01)


def rewrites(server: ChatServer, one: EndpointChat | None = None) -> list[tuple[str, str]]:
    """Return text and author of three rewrites of "a dog"."""
    rewriter = LanguageModelRewriter(
        one or chat(server), RewriteValidator(), template=AttributeRewriter(), tries=1
    )
    request = RewriteRequest(
        caption="a dog", class_name="dog", seeds=(1, 2, 3), class_names=("dog", "cat")
    )
    (answer,) = rewriter.rewrite([request])
    return [(rewrite.text, rewrite.by) for rewrite in answer]


def completion(message: Any, reason: str | None = "stop") -> Reply:
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return Reply(body=json.dumps({"choices": [choice], "usage": {}}).encode())


# The shapes of a reply


def test_every_shape_of_a_text_becomes_three_rewrites() -> None:
    texts = iter(SHAPES.values())
    with serving(lambda question, _: Reply(next(texts))) as server:
        found = {name: rewrites(server) for name in SHAPES}
    assert {name: got for name, got in found.items() if got != TAKEN} == {}


PARTS = [{"type": "text", "text": f"{n}. {line}"} for n, line in enumerate(LINES, 1)]
MESSAGES: dict[str, dict[str, Any]] = {
    "one part": {"content": [{"type": "text", "text": NUMBERED}]},
    "parts": {"content": PARTS},
    "output_text": {"content": [{"type": "output_text", "text": NUMBERED}]},
    "strings": {"content": NUMBERED.splitlines()},
    "thinking part": {
        "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "1. cat"}]}, *PARTS]
    },
    "reasoning part": {"content": [{"type": "reasoning", "text": "1. a cat"}, *PARTS]},
    "object": {"content": {"type": "text", "text": NUMBERED}},
    "nested": {"content": [{"type": "text", "text": {"value": NUMBERED}}]},
    "beside reasoning": {"content": NUMBERED, "reasoning_content": "1. a cat\n2. a bird"},
    "a call": {
        "content": None,
        "tool_calls": [{"function": {"name": "f", "arguments": json.dumps({"captions": LINES})}}],
    },
    "all taken for thoughts": {"content": None, "reasoning_content": f"Hm.</think>\n{NUMBERED}"},
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_text_is_found_wherever_a_message_has_it(message: dict[str, Any]) -> None:
    with serving(lambda question, _: completion({"role": "assistant", **message})) as server:
        assert rewrites(server) == TAKEN


def test_an_answer_that_is_streamed_or_of_the_older_kind_is_read() -> None:
    pieces = [NUMBERED[:30], NUMBERED[30:]]
    chunks: list[Any] = [{"choices": [{"delta": {"content": piece}}]} for piece in pieces]
    chunks.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    stream = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    older = json.dumps({"choices": [{"text": NUMBERED, "finish_reason": "stop"}]})
    listed = json.dumps([{"choices": [{"message": {"content": NUMBERED}}]}])
    second = [{"message": {"content": ""}}, {"message": {"content": NUMBERED}}]
    native = json.dumps({"message": {"content": NUMBERED}, "done": True})
    separated = stream.replace("grass", "grass \u2028")
    bodies = [stream, separated, older, "\ufeff" + older, listed, native]
    bodies.append(json.dumps({"choices": second}))
    with serving(lambda question, _: Reply(body=bodies.pop().encode())) as server:
        assert [rewrites(server) for _ in list(bodies)] == [TAKEN] * 7


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"code": "content_filter", "message": "no"}}),
        (400, {"error": {"message": "Output blocked by content filtering policy"}}),
        (400, {"error": {"message": "Content Exists Risk"}}),
        (422, {"error": {"message": "Request was blocked due to safety"}}),
        (403, {"error": {"code": 403, "message": "requires moderation; your input was flagged for "
                         "violence", "metadata": {"flagged_input": "a dog"}}}),
        (200, {"error": {"code": "content_filter", "message": "no"}}),
        (200, {"choices": [], "prompt_filter_results": [{"content_filter_results": {}}]}),
        (200, {"choices": [{"message": {"content": None, "refusal": "I can not"},
                            "finish_reason": "content_filter"}]}),
    ],
)  # fmt: skip
def test_a_caption_that_a_filter_refuses_costs_this_caption_alone(status: int, body: Any) -> None:
    filtered = Reply(status=status, body=json.dumps(body).encode())
    with serving(lambda question, _: filtered) as server:
        assert [by for _, by in rewrites(server)] == [TEMPLATE] * 3


def test_a_key_that_is_refused_is_no_filter() -> None:
    with (
        serving(lambda question, _: error(403, "Forbidden: no permission for model")) as server,
        pytest.raises(ModelError, match="endpoint_key_variable"),
    ):
        rewrites(server)


@pytest.mark.parametrize("reason", ["length", "max_tokens", "MAX_TOKENS"])
def test_the_line_that_the_limit_cut_is_dropped(reason: str) -> None:
    cut = "1. a dog on wet grass\n2. a dog at dusk\n3. a dog seen from the"
    with serving(lambda question, _: completion({"content": cut}, reason)) as server:
        assert [by for _, by in rewrites(server)] == ["", "", TEMPLATE]


THINKING: dict[str, dict[str, Any]] = {
    "null beside reasoning": {"content": None, "reasoning_content": "1. Change the light"},
    "empty beside reasoning": {"content": "", "reasoning": "1. Change the light"},
    "never closed": {"content": "<think>1. a dog in thoughts\n2. a dog"},
    "thinking parts": {"content": [{"type": "thinking", "thinking": "1. a dog"}], "thinking": "x"},
}


@pytest.mark.parametrize("message", THINKING.values(), ids=THINKING)
def test_a_model_that_thinks_gets_room_for_it(message: dict[str, Any]) -> None:
    def answer(question: Question, _: int) -> Reply:
        if question["max_tokens"] > 2000:
            return completion({"content": NUMBERED})
        return completion({"role": "assistant", **message}, "length")

    with serving(answer) as server:
        one = chat(server)
        assert rewrites(server, one) == TAKEN
        assert len(server.questions) == 2
        assert "stop" not in server.questions[1]
        assert rewrites(server, one) == TAKEN
        assert len(server.questions) == 3  # remembered
        assert any("thinks before it answers" in note for note in one.notes)


def test_a_model_that_only_thinks_ends() -> None:
    endless = completion({"content": None, "reasoning_content": "Hmm"}, "length")
    with serving(lambda question, _: endless) as server:
        assert [by for _, by in rewrites(server)] == [TEMPLATE] * 3
        assert [q["max_tokens"] for q in server.questions] == [156, 156 + 2048, 156 + 8192]


# What servers refuse


def refusing(names: set[str], refuse: Callable[[str], Reply]) -> Callable[[Question, int], Reply]:
    def answer(question: Question, _: int) -> Reply:
        refused = sorted(names & set(question))
        return refuse(refused[0]) if refused else Reply(NUMBERED)

    return answer


def openai_refusal(name: str) -> Reply:
    said = f"Unsupported parameter: '{name}' is not supported with this model."
    if name == "max_tokens":
        said += " Use 'max_completion_tokens' instead."
    body = {"error": {"message": said, "param": name, "code": "unsupported_parameter"}}
    return Reply(status=400, body=json.dumps(body).encode())


def fastapi_refusal(name: str) -> Reply:
    detail = [{"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs forbidden"}]
    return Reply(status=422, body=json.dumps({"detail": detail}).encode())


REFUSALS: dict[str, Callable[[str], Reply]] = {
    "openai": openai_refusal,
    "fastapi": fastapi_refusal,
    "words": lambda name: error(400, f"Unrecognized request argument supplied: {name}"),
    "text": lambda name: Reply(status=400, body=f"unknown field `{name}`".encode()),
    "page": lambda name: Reply(status=400, body=f"<html><h1>Bad</h1>{name}</html>".encode()),
    "Chinese": lambda name: error(400, f"不支持参数{name}，请删除"),
    "list": lambda name: error(400, f"does not support parameters: ['{name}', 'logit_bias']"),
    "500": lambda name: error(500, f"{name} is not implemented"),
    "200": lambda name: Reply(
        body=json.dumps({"error": {"message": f"Unsupported parameter: '{name}'"}}).encode()
    ),
    "without a name": lambda name: error(400, "Invalid request"),
}


@pytest.mark.parametrize("refuse", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize(
    "names",
    [{"max_tokens"}, {"seed"}, {"temperature"}, {"stop"}, {"top_p"}, {"stream"},
     {"max_tokens", "seed", "temperature", "stop", "top_p"}],
    ids=lambda names: "+".join(sorted(names)),
)  # fmt: skip
def test_what_a_server_refuses_is_left_out_and_said(
    names: set[str], refuse: Callable[[str], Reply]
) -> None:
    with serving(refusing(names, refuse)) as server:
        one = chat(server)
        one.check()
        asked = len(server.questions)
        assert rewrites(server, one) == TAKEN
        assert len(server.questions) == asked + 1  # learned by the check
        assert not names & set(server.questions[-1])
        said = " ".join(one.notes)
        for name in names - {"max_tokens"}:
            assert f"refuses {name}" in said
        if refuse is openai_refusal and "max_tokens" in names:
            assert server.questions[-1]["max_completion_tokens"] == 156


@pytest.mark.parametrize(
    "words",
    [
        "This model only support stream mode, please enable the stream parameter.",
        "parameter stream must be set to true for this model",
        "Non-streaming requests are not supported",
    ],
)
def test_a_server_that_only_streams_is_asked_to(words: str) -> None:
    def answer(question: Question, _: int) -> Reply:
        if not question.get("stream"):
            return error(400, words)
        chunks: list[Any] = [{"choices": [{"delta": {"content": piece}}]}
                             for piece in (NUMBERED[:20], NUMBERED[20:])]  # fmt: skip
        lines = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
        return Reply(body=(lines + "data: [DONE]\n\n").encode())

    with serving(answer) as server:
        one = chat(server)
        one.check()
        assert rewrites(server, one) == TAKEN
        assert any("only streams" in note for note in one.notes)
        assert [question.get("stream") for question in server.questions] == [False, True, True]


@pytest.mark.parametrize(
    "said", ["System role not supported", "Conversation roles must alternate user/assistant/user"]
)
def test_a_chat_format_without_system_messages_gets_none(said: str) -> None:
    def answer(question: Question, _: int) -> Reply:
        system = question["messages"][0]["role"] == "system"
        return error(400, said) if system else Reply(NUMBERED)

    with serving(answer) as server:
        assert rewrites(server) == TAKEN
        first = server.questions[-1]["messages"][0]
    assert first["role"] == "user"
    assert first["content"].startswith("You rewrite captions")
    assert "Photo of" in first["content"]


def test_a_refusal_that_no_form_avoids_is_reported_by_the_check() -> None:
    body = {"detail": [{"loc": ["body", "user"], "msg": "Field required", "type": "missing"}]}
    wanting = Reply(status=422, body=json.dumps(body).encode())
    with (
        serving(lambda question, _: wanting) as server,
        pytest.raises(GenerationError, match=r"status 422 \(body\.user: Field required\)"),
    ):
        chat(server).check()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"detail": "seed is odd"}', "seed is odd"),
        (b'{"message": ["a", {"msg": "b"}]}', "a; b"),
        (b'{"error": "plain"}', "plain"),
        (b'{"errors": [{"detail": "deep"}]}', "deep"),
        (b"<html><head><title>502 Bad</title></head><body>x</body></html>", "502 Bad"),
        (b"<!DOCTYPE html><script>evil()</script><h1>Log <b>in</b></h1>", "Log in"),
        (b"just text\r\n here", "just text here"),
        (b"\x1b[31mred\x07", "red"),
        (b"<title>" * 14_000, "<"),  # would take seconds if all of it were searched
    ],
)
def test_the_reason_is_found_in_every_kind_of_body(body: bytes, words: str) -> None:
    with (
        serving(lambda question, _: Reply(status=418, body=body)) as server,
        pytest.raises(GenerationError) as caught,
    ):
        rewrites(server)
    assert f"status 418 ({words})" in str(caught.value)


ECHOES: dict[str, Reply] = {
    "location": Reply(status=302, body=b"", headers={"Location": f"http://h/?k={KEY}"}),
    "page": Reply(status=403, body=f"<html><title>{KEY}</title></html>".encode()),
    "text": Reply(status=400, body=f"bad key {KEY[:4]}\x1b[0m{KEY[4:]}".encode()),
    "json": Reply(status=422, body=json.dumps({"detail": [{"msg": KEY, "loc": [KEY]}]}).encode()),
    "no completion": Reply(body=f"you sent {KEY} {KEY}".encode()),
    "cut at 80": Reply(body=b"x" * 70 + b" " + KEY.encode()),
    "500": error(500, f"Bearer {KEY}"),
    "percent": Reply(status=404, body=f"/v1?{KEY}".replace("-", "%2D").encode()),
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_no_message_repeats_the_key_or_controls_a_terminal(
    echo: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SERVER", KEY)
    with (
        serving(lambda question, _: echo, models_reply=models()) as server,
        pytest.raises(GenDataAgentError) as caught,
    ):
        chat(server, key_variable="MY_SERVER").check()
    said = f"{caught.value!s} {caught.value!r} {caught.value.__cause__!s}"
    assert "012345" not in said
    assert "\x1b" not in said


@pytest.mark.parametrize("status", [200, 403, 407, 502])
def test_a_proxy_that_answers_for_this_machine_is_named(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Reply(status=status, body=b"<html><title>Blocked</title></html>")
    with serving(lambda question, _: page, models_reply=page) as proxy:
        address = proxy.url.removesuffix("/v1").replace("http://", "http://me:sesame@")
        monkeypatch.setenv("HTTP_PROXY", address)
        monkeypatch.setenv("http_proxy", address)
        monkeypatch.setenv("NO_PROXY", "elsewhere")
        monkeypatch.setenv("no_proxy", "elsewhere")
        settings = PromptingConfig(
            endpoint_url="http://localhost:9/v1", endpoint_model="tiny", endpoint_retries=0
        )
        with pytest.raises((ModelError, GenerationError)) as caught:
            EndpointChat(settings).check()
    said = str(caught.value)
    assert f"through the proxy {address.replace('me:sesame', '***')}" in said
    assert "NO_PROXY=localhost" in said
    assert "sesame" not in said
    assert "the key" not in said
