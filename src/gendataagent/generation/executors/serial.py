"""Render tasks in this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gendataagent.core.devices import free_memory
from gendataagent.generation.executors.worker import Factory, Item, Model, Result, checked


class SerialExecutor:
    """Renders in this process; builds the generator at the first task and keeps it."""

    width = 1
    on_other_devices = False

    def __init__(self) -> None:
        self._built: tuple[Factory[Any, Any], Model[Any, Any]] | None = None

    def map(
        self, factory: Factory[Item, Result], tasks: Iterable[Sequence[Item]]
    ) -> Iterator[list[Result]]:
        """Yield the result of each task, in task order."""
        for task in tasks:
            if self._built is None or self._built[0] != factory:
                self.release()  # first: two generators may not fit into memory
                self._built = (factory, factory())
            yield checked(self._built[1].render(task), task)

    def release(self) -> None:
        """Drop the generator and free its memory; this has no effect while others refer to it."""
        if self._built is not None:
            self._built = None
            free_memory()
