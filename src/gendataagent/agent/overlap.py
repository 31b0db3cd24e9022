"""Images made while training goes on: a thread feeds the workers, which do the work.

The images of a round enter training at a fixed epoch, see `Schedule`, so results do not depend on
who was faster, and an executor that renders in this process gives the same ones: it is used when
the images are due.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from gendataagent.config import RunConfig
from gendataagent.core.processes import PATIENCE_S
from gendataagent.core.protocols import Executor

Result = TypeVar("Result")
Check = Callable[[], None]
"""Raises `Stopped` if the work is no longer wanted."""


class Stopped(Exception):  # noqa: N818
    """The work is no longer wanted."""


def is_wanted() -> None:
    """Do nothing: the `Check` of work that is always wanted."""


def renders_elsewhere(executor: Executor) -> bool:
    """Return whether an executor renders in other processes and may be used from a thread."""
    return bool(getattr(_inner(executor), "elsewhere", False))


def _inner(executor: Executor) -> object:
    """Return the executor inside a cache."""
    return getattr(executor, "inner", executor)


def what_is_gained(
    config: RunConfig, *, elsewhere: bool, on_other_devices: bool, gpus: int, cores: int
) -> str:
    """Return a sentence where `agent.overlap` gains nothing or little; "" where it gains.

    Args:
        elsewhere: whether images are made in other processes at all.
        on_other_devices: whether those have devices of their own: other GPUs or machines.
        gpus: of this machine, 0 if the run uses none.
    """
    if not elsewhere:
        return (
            "agent.overlap: the images are made in the process that trains, so training waits for "
            "them and nothing is gained; set generation.workers and give them a device of their own"
        )
    if on_other_devices:
        return ""
    if gpus == 1:
        return (
            "agent.overlap: the workers share the only GPU with training, so little is gained: "
            "both become slower"
        )
    wanted = max(1, config.threads) * (max(1, config.generation.workers) + 1)
    if gpus == 0 and cores < wanted:
        return (
            f"agent.overlap: training and {config.generation.workers} workers want {wanted} cores, "
            f"and there are {cores}, so little is gained; lower threads"
        )
    return ""


def gain_here(config: RunConfig, executor: Executor, device: str) -> str:
    """Return `what_is_gained` on this machine."""
    import torch

    return what_is_gained(
        config,
        elsewhere=renders_elsewhere(executor),
        on_other_devices=bool(getattr(_inner(executor), "on_other_devices", False)),
        gpus=torch.cuda.device_count() if device.startswith("cuda") else 0,
        cores=os.cpu_count() or 1,
    )


class InFlight(Generic[Result]):
    """Work that runs in a thread, or when its result is waited for.

    Args:
        work: gets a `Check` to call now and then.
        executor: what it renders with.
        beside: start now, in a thread; the executor must render elsewhere.
    """

    def __init__(
        self, work: Callable[[Check], Result], executor: Executor, *, beside: bool
    ) -> None:
        self._work, self._executor = work, executor
        self._unwanted = threading.Event()
        self._result: list[Result] = []
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        if beside:
            self._thread = threading.Thread(target=self._run, name="images", daemon=True)
            self._thread.start()

    @property
    def is_beside(self) -> bool:
        """Whether it runs in a thread."""
        return self._thread is not None

    def check(self) -> None:
        """Raise the error of the work if it has failed."""
        if self._error is not None:
            raise self._error

    def wait(self) -> Result:
        """Return the result, or raise the error of the work."""
        if self._thread is None:
            return self._work(is_wanted)
        while self._thread.is_alive():  # in steps, so that Ctrl-C is seen on every system
            self._thread.join(1.0)
        self.check()
        return self._result[0]

    def stop(self) -> None:
        """End the work and the workers; what they have finished is on disk."""
        self._unwanted.set()
        if self._thread is None or not self._thread.is_alive():
            return
        end = getattr(_inner(self._executor), "end", None)
        if end is not None:
            end()
        self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        try:
            self._result.append(self._work(self._check_wanted))
        except BaseException as error:
            if not self._unwanted.is_set():
                self._error = error

    def _check_wanted(self) -> None:
        if self._unwanted.is_set():
            raise Stopped
