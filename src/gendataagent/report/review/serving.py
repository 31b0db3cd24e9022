"""The local server of a review: loopback only, a random token in every address.

Only who has the address that `review` prints can see or decide anything. A page of another site
that the same browser has open cannot: it does not know the token, a name that it points at this
machine is refused by its Host header, and a decision must come with the token in a header too.
"""

from __future__ import annotations

import contextlib
import functools
import hmac
import io
import os
import secrets
import sys
import threading
import urllib.parse
import webbrowser
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any, NamedTuple

from gendataagent.agent.by_hand.decisions import hold_decisions
from gendataagent.core import files
from gendataagent.core.errors import ConfigError, GenDataAgentError
from gendataagent.core.inside import refuse_ways_out
from gendataagent.core.run_folder import RunFolder
from gendataagent.core.text import reason_of, whole_number
from gendataagent.report.html_document import own_file
from gendataagent.report.review.candidates import Candidates
from gendataagent.report.review.page import page
from gendataagent.report.review.query import Query, RequestError
from gendataagent.report.thumbnails import thumbnail

LOOPBACK = "127.0.0.1"
TOKEN_HEADER = "X-Review-Token"
_NAMES = frozenset({LOOPBACK, "localhost", "::1"})  # of this machine, in a Host header
_BODY_BYTES = 1 << 16
_THUMBNAIL_PX = 320  # twice what is shown, for sharp screens
_THUMBNAILS = 2_000  # kept in memory
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Answer(NamedTuple):
    """The body of a response and its type; `cached` if it never changes."""

    content: bytes
    kind: str
    cached: bool = False
    status: HTTPStatus = HTTPStatus.OK


class ReviewServer(ThreadingHTTPServer):
    """Serves the review of one run; `address` opens it.

    Args:
        port: 0 = a free one.

    Raises:
        ConfigError: the port cannot be used.
    """

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # on Windows it would share a port with another server

    def __init__(self, candidates: Candidates, folder: Path, port: int = 0) -> None:
        self.candidates, self.folder = candidates, folder
        self.ended = False
        self.token = secrets.token_urlsafe(24)
        self.thumbnail = functools.lru_cache(_THUMBNAILS)(self._thumbnail)
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"--port {port}: {getattr(error, 'strerror', None) or error}; choose another one, "
                "or leave it out for a free one"
            ) from error

    @property
    def address(self) -> str:
        """The address of the page, with the token."""
        return f"http://{LOOPBACK}:{self.server_port}/{self.token}/"

    def server_bind(self) -> None:
        """Bind as `HTTPServer` does, without its slow look-up of this machine's name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]

    def server_close(self) -> None:
        """Answer no connection any more, an open one neither: decisions are no longer held."""
        self.ended = True
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a browser that closes a connection is no error."""

    def _thumbnail(self, what: str, id_: str) -> Answer:
        read = self.candidates.image if what == "thumbnail" else self.candidates.source_image
        found = thumbnail(io.BytesIO(read(id_)), _THUMBNAIL_PX)
        if found is None:
            raise RequestError("the image cannot be decoded")
        return Answer(found.content, found.kind, cached=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "gendataagent", ""
    timeout = 30.0  # seconds that a connection may be silent
    server: ReviewServer

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, respond: Callable[[str, dict[str, str]], Answer]) -> None:
        """Check who asks, then answer; whatever goes wrong is one sentence."""
        if self.server.ended:
            self.close_connection = True
            return
        answer = self._refusal()
        if answer is None:
            address = urllib.parse.urlsplit(self.path)
            what = address.path.removeprefix(f"/{self.server.token}").removeprefix("/")
            values = dict(urllib.parse.parse_qsl(address.query, keep_blank_values=True))
            try:
                answer = respond(what, values)
            except RequestError as error:
                answer = _json({"error": str(error)}, HTTPStatus.CONFLICT)
            except GenDataAgentError as error:
                answer = _json({"error": str(error)}, HTTPStatus.INTERNAL_SERVER_ERROR)
            except Exception as error:
                answer = _json({"error": reason_of(error)}, HTTPStatus.INTERNAL_SERVER_ERROR)
        self._send(answer)

    def _refusal(self) -> Answer | None:
        """Return why a request is not answered; None if it is."""
        if _host(self.headers.get("Host", "")) not in _NAMES:
            return _forbidden("the Host header does not name this machine")
        path = self.path.partition("?")[0]
        given = path.split("/")[1] if path.startswith("/") else ""
        if not hmac.compare_digest(given.encode(), self.server.token.encode()):
            return _forbidden("open the whole address that `gendataagent review` has printed")
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{self.headers['Host']}":
            return _forbidden("the request comes from another page")
        return None

    def _get(self, what: str, values: dict[str, str]) -> Answer:
        candidates = self.server.candidates
        kind, _, id_ = what.partition("/")
        if what == "":
            candidates.refresh()
            html = page(candidates, self.server.folder, self.server.token)
            return Answer(html.encode(), "text/html; charset=utf-8")
        if what == "review.js":
            script = own_file("review/review.js").encode()
            return Answer(script, "text/javascript; charset=utf-8")
        if what == "candidates":
            where = {name: values.get(name, "") for name in ("first", "after", "before")}
            return _json(candidates.page(Query.of(values), **where))
        if kind in ("thumbnail", "source") and id_:
            return self.server.thumbnail(kind, urllib.parse.unquote(id_))
        if kind == "image" and id_:
            content = candidates.image(urllib.parse.unquote(id_))
            return Answer(content, "image/png", cached=True)
        return _json({"error": "there is no such page"}, HTTPStatus.NOT_FOUND)

    def _post(self, what: str, values: dict[str, str]) -> Answer:
        given = self.headers.get(TOKEN_HEADER, "")
        if not hmac.compare_digest(given.encode(), self.server.token.encode()):
            return _forbidden(f"a decision needs the token in {TOKEN_HEADER} too")
        candidates, body = self.server.candidates, self._body()
        if what == "decide":
            id_ = _text(body, "id")
            candidates.decide(id_, _text(body, "decision"))
            return _json({"item": candidates.shown(id_), "counts": candidates.counts()})
        if what == "drop":
            matching, expected = body.get("query"), body.get("expected")
            if not isinstance(matching, dict) or not isinstance(expected, int):
                raise RequestError("a query and the expected number are needed")
            query = Query.of({str(key): str(value) for key, value in matching.items()})
            return _json({"dropped": candidates.drop_matching(query, expected)})
        if what == "undo":
            return _json({"undone": candidates.undo()})
        return _json({"error": "there is no such page"}, HTTPStatus.NOT_FOUND)

    def _body(self) -> dict[str, Any]:
        length = whole_number(self.headers.get("Content-Length", ""))
        if length is None or length > _BODY_BYTES:
            self.close_connection = True
            raise RequestError("a request has at most 65,536 bytes, and says how many")
        try:
            body = files.parse_json(self.rfile.read(length))
        except ValueError as error:
            raise RequestError(f"the request is not JSON: {reason_of(error)}") from error
        if not isinstance(body, dict):
            raise RequestError("the request is not a JSON object")
        return body

    def _send(self, answer: Answer) -> None:
        if answer.status is not HTTPStatus.OK:
            self.close_connection = True  # the body of the request may be unread
        cache = "private, max-age=86400, immutable" if answer.cached else "no-store"
        headers = {
            **_HEADERS,
            "Content-Type": answer.kind,
            "Content-Length": str(len(answer.content)),
            "Cache-Control": cache,
            **({"Connection": "close"} if self.close_connection else {}),
        }
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: addresses have the token in them."""


def _host(header: str) -> str:
    """Return the name in a Host header, without the port."""
    name, bracket, _ = header.strip().removeprefix("[").partition("]")
    return name if bracket else header.strip().rpartition(":")[0] or header.strip()


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise RequestError(f"{name} is missing")
    return value


def _json(value: Any, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(files.json_bytes(value), "application/json; charset=utf-8", status=status)


def _forbidden(why: str) -> Answer:
    return Answer(f"{why}\n".encode(), "text/plain; charset=utf-8", status=HTTPStatus.FORBIDDEN)


@contextlib.contextmanager
def open_review(run_folder: str | Path, *, port: int = 0) -> Iterator[ReviewServer]:
    """Yield the server of a review, which holds the decisions of the run until the block ends.

    Raises:
        RunFolderError: not a run folder, there is nothing to review, or another review is open.
        ConfigError: the port cannot be used.
    """
    refuse_ways_out(run_folder)
    folder = RunFolder.open(run_folder)
    Candidates(folder)  # before anything is written
    with hold_decisions(folder), ReviewServer(Candidates(folder), folder.path, port) as server:
        yield server


def review(
    run_folder: str | Path,
    *,
    port: int = 0,
    browser: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Serve a page to look through the candidates of a run, until Ctrl-C.

    Decisions are saved at once in `RUN/review/decisions.jsonl`. A run honours them from its next
    epoch on, every export always.

    Args:
        port: of this machine; 0 = a free one.
        browser: whether the page is opened in the browser.
        say: gets the address, then a line at the end.

    Raises:
        RunFolderError: not a run folder, there is nothing to review, or another review is open.
        ConfigError: the port cannot be used.
    """
    with open_review(run_folder, port=port) as server:
        for problem in server.candidates.problems:
            say(problem)
        say(f"open {server.address}")
        say("end with Ctrl-C; decisions are saved at once")
        if browser and _has_screen():
            threading.Thread(target=_open, args=(server.address,), daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
        counts = server.candidates.counts()
    say(f"by hand: {counts['dropped']:,} dropped, {counts['kept']:,} kept")


def _has_screen() -> bool:
    """Return whether a browser with windows can be opened here, not one in the terminal."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open(address: str) -> None:
    with contextlib.suppress(webbrowser.Error, OSError):
        webbrowser.open(address)
