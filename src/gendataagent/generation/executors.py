"""Run render tasks in this process or in worker processes.

Both yield results in task order and give the same images, because each request has its own seed.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from gendataagent.core.devices import free_memory
from gendataagent.core.errors import GenerationError
from gendataagent.core.processes import end_workers, start_worker
from gendataagent.core.protocols import ImageGenerator, Rendered, RenderRequest

BuildGenerator = Callable[[], ImageGenerator]
RenderTask = Sequence[RenderRequest]


class SerialExecutor:
    """Renders in this process; builds the generator at the first task and keeps it."""

    def __init__(self) -> None:
        self._built: tuple[BuildGenerator, ImageGenerator] | None = None

    def map(self, factory: BuildGenerator, tasks: Iterable[RenderTask]) -> Iterator[list[Rendered]]:
        """Yield the result of each task, in task order."""
        for task in tasks:
            if self._built is None or self._built[0] != factory:
                self.release()  # first: two generators may not fit into memory
                self._built = (factory, factory())
            yield _checked(self._built[1].render(task), task)

    def release(self) -> None:
        """Drop the generator and free its memory; this has no effect while others refer to it."""
        if self._built is not None:
            self._built = None
            free_memory()


class ProcessExecutor:
    """Renders in `workers` processes, each with a generator of its own.

    Each uses as many CPU threads of torch as this process does: with another number, the images
    would differ in some bits.

    Args:
        workers: number of processes, at least 1.
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        self._workers = workers
        self._started: tuple[tuple[BuildGenerator, int], ProcessPoolExecutor] | None = None

    def map(self, factory: BuildGenerator, tasks: Iterable[RenderTask]) -> Iterator[list[Rendered]]:
        """Yield the result of each task, in task order; at most two tasks per worker are queued.

        The workers stay for the next call with the same factory, so each builds its generator once.

        Raises:
            GenerationError: a worker died (killed, out of memory). All results before it were
                yielded.
        """
        waiting: deque[tuple[Future[list[Rendered]], RenderTask]] = deque()
        finished = False
        try:
            for task in tasks:
                waiting.append((_submit(self._pool(factory), task), task))
                if len(waiting) >= 2 * self._workers:
                    future, sent = waiting.popleft()
                    yield _checked(future.result(), sent)
            while waiting:
                future, sent = waiting.popleft()
                yield _checked(future.result(), sent)
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

    def _pool(self, factory: BuildGenerator) -> ProcessPoolExecutor:
        import torch

        wanted = (factory, torch.get_num_threads())
        if self._started is None or self._started[0] != wanted:
            self.release()
            context = multiprocessing.get_context("spawn")  # fork after torch has threads can hang
            pool = ProcessPoolExecutor(
                self._workers, context, initializer=_start_worker, initargs=wanted
            )
            self._started = (wanted, pool)
        return self._started[1]


def _submit(pool: ProcessPoolExecutor, task: RenderTask) -> Future[list[Rendered]]:
    """Return the task's future; if the pool is broken, one that raises when its turn comes."""
    try:
        return pool.submit(_render_in_worker, list(task))
    except BrokenProcessPool as error:
        failed: Future[list[Rendered]] = Future()
        failed.set_exception(error)
        return failed


def _checked(results: list[Rendered], task: RenderTask) -> list[Rendered]:
    if len(results) != len(task):
        raise GenerationError(
            f"the generator returned {len(results)} results for {len(task)} requests; it must "
            "return one per request, in order"
        )
    return results


_worker_factory: BuildGenerator | None = None
_worker_generator: ImageGenerator | None = None
_worker_threads = 1


def _start_worker(factory: BuildGenerator, threads: int) -> None:
    global _worker_factory, _worker_threads
    start_worker()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # torch reads them when it is imported
        os.environ[name] = str(threads)
    _worker_factory, _worker_threads = factory, threads
    _limit_threads()


def _limit_threads() -> None:
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(_worker_threads)


def _render_in_worker(task: list[RenderRequest]) -> list[Rendered]:
    # Built here and not at the worker's start, where an error would only show as a dead worker.
    global _worker_generator
    if _worker_generator is None:
        if _worker_factory is None:
            raise GenerationError("the worker was started without a generator factory")
        _worker_generator = _worker_factory()
        _limit_threads()  # building it may have imported torch
    return _worker_generator.render(task)
