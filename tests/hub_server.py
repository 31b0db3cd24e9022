"""A small Hub on this machine: what huggingface_hub asks when it makes a repository and uploads.

Every file is taken inside the commit, as the real Hub takes small ones; large files go to a storage
service there, which this does not have.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

_API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(\w+)(?:/(.*))?)?")
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/[^/]+/(.*)")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Repositories by "models/USER/NAME" or "datasets/USER/NAME".

    Args:
        token: what a request must bear.
        fail_commits_after: commits taken before every further one is refused.
    """

    token: str = "hf_token_of_the_test"
    user: str = "somebody"
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    fail_commits_after: int = 1000
    commits: int = 0
    address: str = ""

    def post(self, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        found = _API.fullmatch(path)
        if found is None or found[3] not in ("preupload", "commit"):
            return 404, {"error": f"this Hub does not know {path}"}
        if found[3] == "commit":
            return self.commit(f"{found[1]}/{found[2]}", body)
        names = [file["path"] for file in json.loads(body)["files"]]
        files = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]
        return 200, {"files": files}

    def get(self, path: str) -> tuple[int, Any, dict[str, str]]:
        if found := _API.fullmatch(path):
            key = f"{found[1]}/{found[2]}"
            if key not in self.repositories:
                return 404, {"error": "Repository not found"}, {"X_Error_Code": "RepoNotFound"}
            if found[3] == "tree":
                rows = [
                    {"type": "file", "path": name, "size": len(content), "oid": "0"}
                    for name, content in self.repositories[key].items()
                ]
                return 200, rows, {}
            return 200, {"id": found[2], "sha": COMMIT, "siblings": []}, {}
        if found := _FILE.fullmatch(path):
            key = f"{'datasets' if found[1] else 'models'}/{found[2]}"
            content = self.repositories[key][found[3]]
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            return 200, content, {"ETag": etag, "X_Repo_Commit": COMMIT}
        return 404, {"error": f"this Hub does not know {path}"}, {}

    def create(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        kind = f"{wanted.get('type') or 'model'}s"
        name = f"{wanted.get('organization') or self.user}/{wanted['name']}"
        key = f"{kind}/{name}"
        where = f"{self.address}/{'datasets/' if kind == 'datasets' else ''}{name}"
        if key in self.repositories:
            return 409, {"error": "exists", "url": where}
        self.repositories[key] = {".gitattributes": b"*.png filter=lfs\n"}
        self.private[key] = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        return 200, {"url": where, "name": name}

    def commit(self, key: str, lines: bytes) -> tuple[int, Any]:
        if self.commits >= self.fail_commits_after:
            return 403, {"error": "this token may not write"}
        self.commits += 1
        files = self.repositories[key]
        for line in lines.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "deletedFile":
                del files[value["path"]]
        return 200, {"commitUrl": f"{self.address}/{key}/commit/{COMMIT}", "commitOid": COMMIT}


@contextlib.contextmanager
def serve_hub(hub: Hub) -> Iterator[Hub]:
    """Serve `hub` on a free port; its `address` says where."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Print nothing."""

        def reply(self, status: int, value: Any, **headers: str) -> None:
            content = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for name, text in headers.items():
                self.send_header(name.replace("_", "-"), text)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            allowed = self.headers.get("Authorization") == f"Bearer {hub.token}"
            path = unquote(urlsplit(self.path).path)
            self.reply(*(hub.post(path, body) if allowed else (401, {"error": "who are you?"})))

        def do_GET(self) -> None:
            status, value, headers = hub.get(unquote(urlsplit(self.path).path))
            self.reply(status, value, **headers)

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
