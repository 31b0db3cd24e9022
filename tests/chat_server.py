"""A real OpenAI-compatible HTTP server on this machine, whose answers a test writes."""

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
    """What goes back: a chat completion holding `text`, unless `body` says otherwise.

    Args:
        drip_s: seconds between the bytes of the body; 0 = all at once.
    """

    text: str | None = ""
    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    drip_s: float = 0.0
    hang_up: bool = False

    def to_bytes(self) -> bytes:
        if self.body is not None:
            return self.body
        message = {"role": "assistant", "content": self.text}
        return json.dumps({"choices": [{"index": 0, "message": message}]}).encode()


def error(status: int, message: str, **headers: str) -> Reply:
    """Return an error as OpenAI's servers write them."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps({"error": {"message": message, "type": "x", "code": None}}).encode()
    return Reply(status=status, body=body, headers=named)


@dataclass
class ChatServer:
    """A server under way: what it was asked, and how it answers.

    Args:
        answer: called with each question and how often that very question came before.
        models: what GET /models answers.
        key: asked for where it is not empty.
    """

    answer: Callable[[Question, int], Reply]
    models: Reply
    key: str = ""
    url: str = ""
    questions: list[Question] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reply_to(self, path: str, question: Question | None, authorization: str) -> Reply:
        with self.lock:
            self.keys.append(authorization)
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
    """Return the list of models a server has."""
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
                state.at_once += 1
                state.most_at_once = max(state.most_at_once, state.at_once)
            try:
                self._reply(json.loads(body))
            finally:
                with state.lock:
                    state.at_once -= 1

        def _reply(self, question: Question | None) -> None:
            reply = state.reply_to(self.path, question, self.headers.get("Authorization", ""))
            time.sleep(reply.wait_s)
            if reply.hang_up:
                self.close_connection = True
                return
            body = reply.to_bytes()
            with contextlib.suppress(OSError):  # the other side no longer waits
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if not reply.drip_s:
                    self.wfile.write(body)
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
