"""Where render tasks run: in this process, or in worker processes.

Both yield results in task order and give the same images, since a request carries its own seed.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from gendataagent.core.devices import free_memory
from gendataagent.core.errors import GenerationError
from gendataagent.core.protocols import ImageGenerator, Rendered, RenderRequest

GeneratorFactory = Callable[[], ImageGenerator]
RenderTask = Sequence[RenderRequest]


class SerialExecutor:
    """Renders in this process; the generator is built at the first task and kept."""

    def __init__(self) -> None:
        self._built: tuple[GeneratorFactory, ImageGenerator] | None = None

    def map(
        self, factory: GeneratorFactory, tasks: Iterable[RenderTask]
    ) -> Iterator[list[Rendered]]:
        """Yield the result of each task, in task order."""
        for task in tasks:
            if self._built is None or self._built[0] != factory:
                self.release()  # two at once may be more than the memory holds
                self._built = (factory, factory())
            yield _checked(self._built[1].render(task), task)

    def release(self) -> None:
        """Let go of the generator, to free its memory; nothing else may hold on to it."""
        if self._built is not None:
            self._built = None
            free_memory()


class ProcessExecutor:
    """Renders in `workers` processes, each with a generator of its own.

    Args:
        workers: number of processes, at least 1.
        threads: CPU threads of torch in each worker.
    """

    def __init__(self, workers: int, *, threads: int = 1) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        self._workers, self._threads = workers, threads

    def map(
        self, factory: GeneratorFactory, tasks: Iterable[RenderTask]
    ) -> Iterator[list[Rendered]]:
        """Yield the result of each task, in task order; at most two tasks a worker wait.

        Raises:
            GenerationError: a worker died (killed, out of memory); finished tasks were yielded.
        """
        context = multiprocessing.get_context("spawn")  # fork after torch has threads can hang
        pool = ProcessPoolExecutor(
            self._workers, context, initializer=_start_worker, initargs=(factory, self._threads)
        )
        waiting: deque[tuple[Future[list[Rendered]], RenderTask]] = deque()
        try:
            for task in tasks:
                waiting.append((_submit(pool, task), task))
                if len(waiting) >= 2 * self._workers:
                    future, sent = waiting.popleft()
                    yield _checked(future.result(), sent)
            while waiting:
                future, sent = waiting.popleft()
                yield _checked(future.result(), sent)
        except BrokenProcessPool as error:
            raise GenerationError(
                "a generation worker died, most often for lack of memory; lower "
                "generation.workers or generation.chunk_size, then go on with --resume"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def release(self) -> None:
        """Do nothing: workers end with each map."""


def _submit(pool: ProcessPoolExecutor, task: RenderTask) -> Future[list[Rendered]]:
    """Return the task's future; of a broken pool one that failed, to be met in its turn."""
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


_worker_factory: GeneratorFactory | None = None
_worker_generator: ImageGenerator | None = None


def _start_worker(factory: GeneratorFactory, threads: int) -> None:
    global _worker_factory
    end_with_parent()
    # Torch reads this when it is imported; a factory from a module that uses it has done so.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)
    _worker_factory = factory


def end_with_parent() -> None:
    """Let this worker end when the main process is gone, however it went (kill -9 included)."""
    threading.Thread(target=_wait_for_parent_to_end, daemon=True).start()


def _wait_for_parent_to_end() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _render_in_worker(task: list[RenderRequest]) -> list[Rendered]:
    # Built here, not at the worker's start, where an error would only be seen as a dead worker.
    global _worker_generator
    if _worker_generator is None:
        if _worker_factory is None:
            raise GenerationError("the worker was started without a generator factory")
        _worker_generator = _worker_factory()
    return _worker_generator.render(task)
