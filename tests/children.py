"""The processes that a test started itself; those of earlier tests in the same worker stay out."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from multiprocessing.process import BaseProcess

import pytest

_earlier: set[BaseProcess] = set()


@pytest.fixture(autouse=True)
def earlier_children() -> Iterator[None]:
    """Remember the processes of earlier tests; a test file uses this by importing it."""
    _earlier.update(multiprocessing.active_children())
    yield
    _earlier.clear()


def own_children() -> list[BaseProcess]:
    """Return the running processes that this test has started."""
    return [child for child in multiprocessing.active_children() if child not in _earlier]
