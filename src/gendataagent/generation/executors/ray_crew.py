"""The workers on a Ray cluster: as many as there is room for, each replaced when it ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gendataagent.core.environment import environment
from gendataagent.core.errors import GenerationError
from gendataagent.generation.executors.ray_worker import Outcome, RayWorker

TASKS_AT_ONCE = 2  # of a worker: one is rendered while the other is encoded or on its way
_LOOK_EVERY_S = 1.0
_FAILED_STARTS = 3  # in a row, with none that succeeded


@dataclass(frozen=True, slots=True, kw_only=True)
class CrewSettings:
    """How many workers of which kind.

    Args:
        workers: 0 = as many as the cluster has room for, now and later.
        gpus: of one worker, at most 1; 0 = it needs none.
        threads: CPU threads of one worker.
        device: of the generator; "" = the workers' environments are not compared with this one.
        wait_s: how long a round waits while there is no worker at all.
    """

    workers: int
    gpus: float
    threads: int
    device: str
    wait_s: float


@dataclass(slots=True, eq=False)
class Member:
    """One worker: its actor, and what it was sent.

    Args:
        placing, building: references to its two first calls; None = they have returned.
        tasks: reference -> task.
    """

    actor: Any
    placing: Any
    building: Any
    place: str = ""
    tasks: dict[Any, Any] = field(default_factory=dict)

    @property
    def references(self) -> list[Any]:
        """Everything that is waited for."""
        first = [call for call in (self.placing, self.building) if call is not None]
        return [*first, *self.tasks]


@dataclass(frozen=True, slots=True)
class Lost:
    """Tasks of a worker that ended, and why, in a few words."""

    tasks: list[Any]
    reason: str


class Crew:
    """The actors that share one generator factory.

    Args:
        ray: Ray's module, connected.
        factory: pickled `Factory`.

    Attributes:
        ray: as given.
        notes: sentences for the user.
    """

    def __init__(self, ray: Any, factory: bytes, settings: CrewSettings) -> None:
        self.ray, self._settings = ray, settings
        self._factory = ray.put(factory)
        self._members: list[Member] = []
        self._looked_s = float("-inf")
        self._empty_since_s = time.monotonic()
        self._failed_starts = 0
        self._wanted = 1
        self._here: Mapping[str, str] = {}
        self.notes: list[str] = []

    @property
    def size(self) -> int:
        """Number of workers wanted, at least 1."""
        return self._wanted

    def fill(self) -> None:
        """Start workers where there is room, also on machines that joined the cluster since.

        Raises:
            GenerationError: for too long there was no worker.
        """
        now = time.monotonic()
        if any(member.placing is None for member in self._members):
            self._empty_since_s = now
        if now - self._looked_s < _LOOK_EVERY_S:
            return
        self._looked_s = now
        if now - self._empty_since_s > self._settings.wait_s:
            raise GenerationError(self._no_room())
        self._wanted = self._settings.workers or max(1, self._room())
        waiting = [member for member in self._members if member.placing is not None]
        for member in waiting[: max(0, len(self._members) - self._wanted)]:
            self._dismiss(member)
        while len(self._members) < self._wanted:
            self._members.append(self._start())

    def free(self) -> Member | None:
        """Return a worker that can take a task: the one with the fewest."""
        able = [m for m in self._members if m.building is None and len(m.tasks) < TASKS_AT_ONCE]
        return min(able, key=lambda member: len(member.tasks), default=None)

    def send(self, member: Member, task: Any, *arguments: Any) -> None:
        """Give a worker a task."""
        member.tasks[member.actor.render.remote(*arguments)] = task

    def collect(self, timeout_s: float) -> Iterator[tuple[Any, Outcome] | Lost]:
        """Yield what has come back: finished tasks, and those of workers that ended.

        Raises:
            GenerationError: no worker can be started. Errors of building the generator as raised.
        """
        of = {ref: member for member in self._members for ref in member.references}
        if not of:
            time.sleep(timeout_s)
            return
        ready, _ = self.ray.wait(list(of), num_returns=1, timeout=timeout_s)
        if ready:
            ready, _ = self.ray.wait(list(of), num_returns=len(of), timeout=0)
        lost: dict[Member, Exception] = {}
        for reference in ready:
            member = of[reference]
            try:
                value = self.ray.get(reference)
            except self.ray.exceptions.RayTaskError as error:  # it did not reach the worker's code
                value = Outcome(error=error.cause if error.cause is not None else error)
            except self.ray.exceptions.RayError as error:
                lost[member] = error
                continue
            if reference in member.tasks:
                yield member.tasks.pop(reference), value
            else:
                self._started(member, reference, value)
        for member, reason in lost.items():  # last: what they finished before is kept
            yield self._lost(member, reason)

    def end(self) -> None:
        """End all workers now, whatever they do."""
        for member in list(self._members):
            self._dismiss(member)

    def _start(self) -> Member:
        settings = self._settings
        options: dict[str, Any] = {"num_gpus": settings.gpus, "num_cpus": 0}
        if not settings.gpus:
            options["num_cpus"] = min(settings.threads, self._largest("CPU")) or 1
        actor = (
            self.ray.remote(RayWorker)
            .options(
                **options,
                max_concurrency=TASKS_AT_ONCE + 1,
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy="SPREAD",
            )
            .remote(self._factory, settings.threads, settings.device)
        )
        return Member(actor, actor.place.remote(), actor.build.remote())

    def _started(self, member: Member, reference: Any, value: Any) -> None:
        if isinstance(value, Outcome) and value.error is not None:
            raise value.error
        if reference == member.placing:
            member.placing, member.place = None, value
            return
        member.building, self._failed_starts = None, 0
        if value.value:
            self._compare(member, value.value)

    def _compare(self, member: Member, there: Mapping[str, str]) -> None:
        here = self._here = self._here or environment(self._settings.device)
        found = [f"{key} {there[key]} instead of {here[key]}" for key in here
                 if key in there and there[key] != here[key]]  # fmt: skip
        if found:
            self._note(
                f"The generation workers on {member.place.partition(',')[0]} have "
                f"{'; '.join(found)}: their images may differ in some bits from those made here."
            )

    def _lost(self, member: Member, error: Exception) -> Lost:
        reason = _reason(error)
        if member.building is not None:
            self._failed_starts += 1
            if self._failed_starts >= _FAILED_STARTS:
                raise GenerationError(
                    f"{self._failed_starts} generation workers in a row ended while they started "
                    f"on the Ray cluster, the last one because: {reason}. Every machine needs the "
                    "same versions of Python, ray and gendataagent, and room for the model"
                ) from error
        tasks = list(member.tasks.values())
        self._note(
            f"A generation worker ({member.place or 'not yet started'}) ended and was replaced: "
            f"{reason.rstrip('.')}."
        )
        self._dismiss(member)
        self._looked_s = float("-inf")
        return Lost(tasks, reason)

    def _dismiss(self, member: Member) -> None:
        self._members.remove(member)
        with contextlib.suppress(Exception):  # it has ended, or the cluster has
            self.ray.kill(member.actor)

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def _nodes(self) -> list[Mapping[str, float]]:
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    def _largest(self, resource: str) -> float:
        return max((node.get(resource, 0) for node in self._nodes()), default=0)

    def _room(self) -> int:
        """Return how many workers the machines of the cluster can hold."""
        settings = self._settings
        if settings.gpus:
            return sum(int(node.get("GPU", 0) / settings.gpus + 1e-6) for node in self._nodes())
        cpus = min(settings.threads, self._largest("CPU")) or 1
        return sum(int(node.get("CPU", 0) // cpus) for node in self._nodes())

    def _no_room(self) -> str:
        wants = f"{self._settings.gpus:g} GPUs" if self._settings.gpus else "CPUs"
        has = "; ".join(
            f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in self._nodes()
        )
        return (
            f"for {self._settings.wait_s:g} s no machine of the Ray cluster had {wants} free for a "
            f"generation worker; its machines have: {has or 'nothing'}. Add machines, or change "
            "generation.gpus_per_worker or device, then continue with --resume"
        )


def _reason(error: Exception) -> str:
    """Return the sentence of Ray's error that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in lines:
        if line.startswith("The actor is dead because") or line.startswith(
            "The actor died because"
        ):
            return line.partition("Worker exit detail")[0].strip()[:300]
    return (lines[-1] if lines else type(error).__name__)[:300]
