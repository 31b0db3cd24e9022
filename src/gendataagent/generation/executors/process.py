"""Render tasks in worker processes of this machine, each with a GPU of its own if there are many.

A worker that dies ends the call; what was rendered before is kept.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from gendataagent.core.errors import GenerationError
from gendataagent.core.processes import end_workers, interrupts_blocked, start_worker
from gendataagent.generation.executors.worker import (
    Factory,
    Item,
    Result,
    Worker,
    checked,
    packed,
    unpacked,
)


class ProcessExecutor:
    """Renders in `workers` processes, each with a generator of its own.

    Each uses as many CPU threads of torch as this process does: with another number, the images
    would differ in some bits.

    Args:
        workers: number of processes, at least 1.
        gpus: each worker sees one of these GPUs alone, in turn, as `CUDA_VISIBLE_DEVICES` names
            them; none = all that this process sees.

    Attributes:
        elsewhere: images are made in other processes, and `map` may be used in a thread.
    """

    elsewhere = True

    def __init__(self, workers: int, gpus: Sequence[str] = ()) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        self.workers, self.gpus = workers, tuple(gpus)
        self._started: tuple[tuple[Factory[Any, Any], int], ProcessPoolExecutor] | None = None

    @property
    def width(self) -> int:
        """How many tasks are done at once."""
        return self.workers

    @property
    def on_other_devices(self) -> bool:
        """Whether there are several GPUs; on a CPU, more copies of a model only take memory."""
        return len(self.gpus) > 1

    def map(
        self, factory: Factory[Item, Result], tasks: Iterable[Sequence[Item]]
    ) -> Iterator[list[Result]]:
        """Yield the result of each task, in task order; at most two tasks per worker are queued.

        The workers stay for the next call with the same factory, so each builds its generator once.

        Raises:
            GenerationError: a worker died (killed, out of memory). All results before it were
                yielded.
        """
        waiting: deque[tuple[Future[list[Result]], Sequence[Item]]] = deque()
        finished = False
        try:
            for task in tasks:
                waiting.append((_submit(self._pool(factory), task), task))
                if len(waiting) >= 2 * self.workers:
                    future, sent = waiting.popleft()
                    yield checked(unpacked(future.result()), sent)
            while waiting:
                future, sent = waiting.popleft()
                yield checked(unpacked(future.result()), sent)
            finished = True
        except BrokenProcessPool as error:
            raise GenerationError(
                "a generation worker died, most often because memory ran out; lower "
                "generation.workers or generation.chunk_size, then continue with --resume"
            ) from error
        finally:
            if not finished and self._started is not None:  # an error, or no more is wanted
                end_workers(self._started[1])
                self._started = None

    def release(self) -> None:
        """End the workers and free their memory."""
        if self._started is not None:
            self._started[1].shutdown(wait=True, cancel_futures=True)
            self._started = None

    def end(self) -> None:
        """End the workers now; `map`, in another thread, raises. What they were making is lost."""
        if self._started is not None:
            end_workers(self._started[1])

    def _pool(self, factory: Factory[Any, Any]) -> ProcessPoolExecutor:
        import torch

        wanted = (factory, torch.get_num_threads())
        if self._started is None or self._started[0] != wanted:
            self.release()
            context = multiprocessing.get_context("spawn")  # fork after torch has threads can hang
            started = context.Value("i", 0)
            pool = ProcessPoolExecutor(
                self.workers,
                context,
                initializer=_start_worker,
                initargs=(*wanted, self.gpus, started),
            )
            self._started = (wanted, pool)
        return self._started[1]


def _submit(pool: ProcessPoolExecutor, task: Sequence[Any]) -> Future[list[Any]]:
    """Return the task's future; if the pool is broken, one that raises when its turn comes."""
    try:
        with interrupts_blocked():  # the first task starts the workers
            return pool.submit(_render_in_worker, list(task))
    except BrokenProcessPool as error:
        failed: Future[list[Any]] = Future()
        failed.set_exception(error)
        return failed


_worker: Worker[Any, Any] | None = None


def _start_worker(
    factory: Factory[Any, Any], threads: int, gpus: Sequence[str], started: Any
) -> None:
    """Set up this worker process.

    Args:
        started: shared integer: how many workers were started before.
    """
    global _worker
    start_worker()
    if gpus:
        with started.get_lock():
            number, started.value = started.value, started.value + 1
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]  # CUDA has not begun yet
    _worker = Worker(factory, threads)


def _render_in_worker(task: Sequence[Any]) -> list[Any]:
    # Built here and not at the worker's start, where an error would only show as a dead worker.
    if _worker is None:
        raise GenerationError("the worker was started without a generator factory")
    return packed(_worker.render(task))
