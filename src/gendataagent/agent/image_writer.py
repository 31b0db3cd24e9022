"""Writes rendered images in a thread of its own, while the next ones are made."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from gendataagent.agent.pool import Pool
from gendataagent.core.records import RenderedCandidate

_WAITING = 4  # batches that are rendered and not yet being written
_TOGETHER = 16

_Batch = tuple[Sequence[RenderedCandidate], float]


class ImageWriter:
    """The one writer of a round's images: `with ImageWriter(...) as writer: writer.add(...)`.

    Batches that wait are written together, so that a slow disk is asked less often. At the end of
    the block all are written, also if it ends with an error.
    """

    def __init__(self, pool: Pool, number: int) -> None:
        self._pool, self._number = pool, number
        self._waiting: queue.Queue[_Batch | None] = queue.Queue(_WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._write, name="image-writer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._waiting.put(None)
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    def add(self, batch: Sequence[RenderedCandidate], seconds: float) -> None:
        """Hand over a batch; waits while too many wait.

        Raises:
            StorageError: an earlier batch could not be written.
        """
        if self._error is not None:
            raise self._error
        self._waiting.put((batch, seconds))

    def _write(self) -> None:
        over = False
        while not over:
            together = [self._waiting.get()]
            while len(together) < _TOGETHER and not self._waiting.empty():
                together.append(self._waiting.get())
            over = None in together
            batches = [batch for batch in together if batch is not None]
            if self._error is not None or not batches:
                continue
            try:
                self._pool.add_batches(self._number, batches)
            except BaseException as error:
                self._error = error
