"""Render tasks on a Ray cluster: on one GPU after the other, on this machine or on many.

Workers may end and machines may leave or join meanwhile. What a lost worker was sent is given to
others; an image depends on its request alone, so it is the same wherever it is made.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gendataagent.core.errors import GenerationError
from gendataagent.core.processes import check_signals
from gendataagent.core.protocols import RenderRequest
from gendataagent.generation.executors.ray_connection import connect
from gendataagent.generation.executors.ray_crew import Crew, CrewSettings, Lost
from gendataagent.generation.executors.ray_worker import Outcome
from gendataagent.generation.executors.worker import Factory, Item, Result, checked, unpacked

_TRIES = 5  # of one task, each on a worker that ended meanwhile
_USUAL_WIDTH = 8  # before the cluster is known
_WINDOW = 4  # tasks per worker that are fetched and not yet yielded


@dataclass(slots=True, eq=False)
class _Task:
    number: int
    requests: Sequence[Any]
    tries: int = 0
    outcome: Outcome | None = None

    def __lt__(self, other: _Task) -> bool:
        return self.number < other.number


class _Tasks:
    """The tasks of one call: fetched when there is room, yielded in order."""

    def __init__(self, tasks: Iterable[Sequence[Any]]) -> None:
        self._source = (_Task(number, task) for number, task in enumerate(tasks))
        self._window: deque[_Task] = deque()  # all that is not yet yielded, in order
        self._again: list[_Task] = []  # heap: what was lost
        self._next = next(self._source, None)

    @property
    def are_over(self) -> bool:
        return not self._window and self._next is None

    @property
    def head_is_done(self) -> bool:
        return bool(self._window) and self._window[0].outcome is not None

    def to_send(self, at_most: int) -> _Task | None:
        """Return a task that was lost, else a new one unless `at_most` are on their way."""
        if self._again:
            return heapq.heappop(self._again)
        task = self._next
        if task is None or len(self._window) >= at_most:
            return None
        self._window.append(task)
        self._next = None
        return task

    def fetch(self) -> None:
        """Fetch the next task, which may read images, unless it is here."""
        if self._next is None:
            self._next = next(self._source, None)

    def lose(self, task: _Task, reason: str) -> None:
        """Note that a task was with a worker that ended."""
        task.tries += 1
        if task.tries < _TRIES:
            heapq.heappush(self._again, task)
        else:
            task.outcome = Outcome(error=_too_often(task, reason))

    def take_head(self) -> list[Any]:
        """Return the results of the first task, or raise its error."""
        task = self._window.popleft()
        assert task.outcome is not None
        if task.outcome.error is not None:
            raise task.outcome.error
        return checked(unpacked(task.outcome.value), task.requests)


class RayExecutor:
    """Renders with actors of a Ray cluster.

    Args:
        address: of the cluster; "" = the environment's, else one is started on this machine.
        workers: number of actors; 0 = as many as the cluster has room for.
        gpus_per_worker: share of a GPU for each, at most 1; 0 = they need none.
        device: of the generator, to report workers on machines of another kind; "" = do not.
        wait_s: how long a round waits while the cluster has no room for a single worker.
    """

    def __init__(
        self,
        address: str = "",
        *,
        workers: int = 0,
        gpus_per_worker: float = 0.0,
        device: str = "",
        wait_s: float = 600.0,
    ) -> None:
        self._address, self._workers, self._gpus = address, workers, gpus_per_worker
        self._device, self._wait_s = device, wait_s
        self._started: tuple[tuple[Factory[Any, Any], int], Crew] | None = None
        self._notes: list[str] = []
        self._guides: dict[str, Any] = {}

    @property
    def notes(self) -> list[str]:
        """What happened to the workers, one sentence each."""
        return [*self._notes, *(self._started[1].notes if self._started else [])]

    on_other_devices = elsewhere = True  # see `ProcessExecutor`

    @property
    def width(self) -> int:
        """About how many tasks are done at once."""
        return self._workers or (self._started[1].size if self._started else _USUAL_WIDTH)

    def map(
        self, factory: Factory[Item, Result], tasks: Iterable[Sequence[Item]]
    ) -> Iterator[list[Result]]:
        """Yield the result of each task, in task order.

        The actors stay for the next call with the same factory. What was sent to one that ends is
        sent to another, at most five times.

        Raises:
            GenerationError: the cluster cannot be used, has no room, or a task ends its workers.
                All results before it were yielded. Errors of the generator are raised unchanged
                and not tried again.
        """
        waiting = _Tasks(tasks)
        if waiting.are_over:
            return
        crew = self._crew(factory)
        finished = False
        try:
            while not waiting.are_over:
                check_signals()
                crew.fill()
                self._send(crew, waiting)
                ready = waiting.head_is_done
                for news in crew.collect(0.0 if ready else 1.0):
                    if isinstance(news, Lost):
                        for task in news.tasks:
                            waiting.lose(task, news.reason)
                    else:
                        task, task.outcome = news
                if ready:
                    yield waiting.take_head()
            finished = True
        finally:
            if not finished:  # an error, or no more is wanted
                self._end()

    def release(self) -> None:
        """End the actors and free their memory; the cluster stays."""
        self._end()

    def _crew(self, factory: Factory[Any, Any]) -> Crew:
        import torch

        threads = torch.get_num_threads()
        if self._started is None or self._started[0] != (factory, threads):
            self._end()
            ray = connect(self._address, cpus=threads * self._workers)
            settings = CrewSettings(
                workers=self._workers,
                gpus=self._gpus,
                threads=threads,
                device=self._device,
                wait_s=self._wait_s,
            )
            crew = Crew(ray, ray.cloudpickle.dumps(factory), settings)
            self._started = ((factory, threads), crew)
        return self._started[1]

    def _end(self) -> None:
        if self._started is not None:
            self._notes += self._started[1].notes
            self._started[1].end()
            self._started = None
            self._guides.clear()

    def _send(self, crew: Crew, waiting: _Tasks) -> None:
        while (member := crew.free()) is not None:
            task = waiting.to_send(_WINDOW * crew.size)
            if task is None:
                return
            requests = list(task.requests)
            crew.send(member, task, requests, self._guides_of(crew, requests))
            waiting.fetch()

    def _guides_of(self, crew: Crew, requests: Sequence[Any]) -> dict[str, list[Any]]:
        """Return SHA-256 -> reference to the weights of each guide, for machines without its file.

        In a list, so that Ray sends them only to a worker that asks.
        """
        wanted = {
            r.feedback.guide: r.feedback.guide_file
            for r in requests
            if isinstance(r, RenderRequest) and r.feedback is not None
        }
        if wanted.keys() - self._guides.keys():
            self._guides.clear()
        for guide, file in wanted.items():
            if guide not in self._guides:
                self._guides[guide] = crew.ray.put(Path(file).read_bytes())
        return {guide: [self._guides[guide]] for guide in wanted}


def _too_often(task: _Task, reason: str) -> GenerationError:
    return GenerationError(
        f"{task.tries} generation workers ended while they rendered the same task of "
        f"{len(task.requests)} images, the last one because: {reason} Most often memory ran out: "
        "lower generation.batch_size or generation.chunk_size, then continue with --resume"
    )
