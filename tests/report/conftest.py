"""The server of a review, for the module's own `run`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gendataagent.report.review.serving import ReviewServer, open_review


@pytest.fixture
def server(run: Path) -> Iterator[ReviewServer]:
    with open_review(run) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
