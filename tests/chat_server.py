"""A real OpenAI-compatible HTTP server on this machine; the test writes its answers."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Question = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """A response: a chat completion with `text`, or any `body`.

    Args:
        wait_s: seconds before the response.
        drip_s: seconds between the bytes of the body; 0 = all at once.
        hang_up: close the connection without a response.
        truncate: close the connection in the middle of the body.
    """

    text: str | None = ""
    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    drip_s: float = 0.0
    hang_up: bool = False
    truncate: bool = False

    def to_bytes(self) -> bytes:
        if self.body is not None:
            return self.body
        message = {"role": "assistant", "content": self.text}
        return json.dumps({"choices": [{"index": 0, "message": message}]}).encode()


def error(status: int, message: str, **headers: str) -> Reply:
    """Return an error response in OpenAI's format."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps({"error": {"message": message, "type": "x", "code": None}}).encode()
    return Reply(status=status, body=body, headers=named)


@dataclass
class ChatServer:
    """A running server: how it answers, and what it has been sent.

    Args:
        answer: called with each request body and the number of earlier requests equal to it.
        models: response to GET /models.
        key: required unless empty.
    """

    answer: Callable[[Question, int], Reply]
    models: Reply
    key: str = ""
    url: str = ""
    questions: list[Question] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    in_progress: int = 0
    max_in_progress: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def keys(self) -> list[str]:
        """Authorization headers received, in order; "" = none."""
        return [headers.get("authorization", "") for headers in self.headers]

    def reply_to(self, path: str, question: Question | None, headers: Mapping[str, str]) -> Reply:
        with self.lock:
            self.headers.append(headers)
        authorization = headers.get("authorization", "")
        if self.key and authorization != f"Bearer {self.key}":
            return error(401, f"Incorrect API key provided: {authorization}")
        if question is None:
            return self.models if path == "/v1/models" else error(404, "no such page")
        if path != "/v1/chat/completions":
            return error(404, "no such page")
        with self.lock:
            before = self.questions.count(question)
            self.questions.append(question)
            self.times_s.append(time.monotonic())
        return self.answer(question, before)


def models(*names: str) -> Reply:
    """Return a response with a list of models."""
    listed = {"object": "list", "data": [{"id": name, "object": "model"} for name in names]}
    return Reply(body=json.dumps(listed).encode())


@contextlib.contextmanager
def serving(
    answer: Callable[[Question, int], Reply], *, models_reply: Reply | None = None, key: str = ""
) -> Iterator[ChatServer]:
    """Serve until the block ends."""
    state = ChatServer(answer=answer, models=models_reply or models("tiny"), key=key)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply(None)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with state.lock:
                state.in_progress += 1
                state.max_in_progress = max(state.max_in_progress, state.in_progress)
            try:
                self._reply(json.loads(body))
            finally:
                with state.lock:
                    state.in_progress -= 1

        def _reply(self, question: Question | None) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = state.reply_to(self.path, question, headers)
            time.sleep(reply.wait_s)
            if reply.hang_up:
                self.close_connection = True
                return
            body = reply.to_bytes()
            self.close_connection = reply.truncate
            with contextlib.suppress(OSError):  # the client no longer waits
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if not reply.drip_s:
                    self.wfile.write(body[: len(body) // 2] if reply.truncate else body)
                    return
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(reply.drip_s)

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
