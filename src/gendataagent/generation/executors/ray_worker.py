"""What runs on the machines of a Ray cluster. Ray makes an actor of `RayWorker`."""

from __future__ import annotations

import os
import pickle
import platform
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import IO, Any

from gendataagent.core.errors import GenDataAgentError, GenerationError
from gendataagent.core.protocols import RenderRequest
from gendataagent.generation.executors.worker import Worker, limit_threads, packed


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call returned, or the error that it raised.

    An error of the model travels as a value, so that it cannot be taken for one of the cluster.
    """

    value: Any = None
    error: Exception | None = None


class RayWorker:
    """Renders on one machine of the cluster, in a process of its own.

    Ray calls `render` from several threads. The generator is always used by the same one; while it
    makes the images of one task, those of the task before are encoded.

    Args:
        factory: pickled `Factory`; unpickled after the threads are limited, because that
            may import torch.
        threads: CPU threads of torch.
        device: compared with the main process's by `environment`; "" = not compared.
    """

    def __init__(self, factory: bytes, threads: int, device: str) -> None:
        limit_threads(threads)
        self._pickled, self._threads, self._device = factory, threads, device
        self._worker: Worker[Any, Any] | None = None
        self._only_thread = ThreadPoolExecutor(1)
        self._guide: tuple[str, IO[bytes]] | None = None

    def place(self) -> str:
        """Return the machine and the process, as soon as the worker has started."""
        return f"{platform.node()}, process {os.getpid()}"

    def build(self) -> Outcome:
        """Build the generator; return what its images' bits may depend on here."""
        return _outcome(self._only_thread.submit(self._build).result)

    def render(self, task: Sequence[RenderRequest], guides: Mapping[str, Sequence[Any]]) -> Outcome:
        """Return the task's images, as PNG files.

        Args:
            guides: SHA-256 -> Ray's reference to the content of each guide's weights file.
        """
        return _outcome(
            lambda: packed(self._only_thread.submit(self._render, task, guides).result())
        )

    def _build(self) -> Mapping[str, str]:
        if self._worker is None:
            self._worker = Worker(pickle.loads(self._pickled), self._threads)
        self._worker.build()
        if not self._device:
            return {}
        from gendataagent.core.environment import environment

        return environment(self._device)

    def _render(self, task: Sequence[Any], guides: Mapping[str, Sequence[Any]]) -> list[Any]:
        assert self._worker is not None  # the main process waits for `build`
        return self._worker.render([self._with_guide_here(r, guides) for r in task])

    def _with_guide_here(self, request: Any, guides: Mapping[str, Sequence[Any]]) -> Any:
        """Return a request whose guide's weights are in a file of this machine."""
        feedback = request.feedback if isinstance(request, RenderRequest) else None
        if feedback is None or os.path.exists(feedback.guide_file):
            return request
        if self._guide is None or self._guide[0] != feedback.guide:
            import ray

            # Without a name: it is gone with this process, however that ends.
            stream = tempfile.TemporaryFile()  # noqa: SIM115
            stream.write(ray.get(guides[feedback.guide][0]))
            stream.flush()
            self._guide = (feedback.guide, stream)
        here = f"/proc/self/fd/{self._guide[1].fileno()}"
        return replace(request, feedback=replace(feedback, guide_file=here))


def _outcome(call: Any) -> Outcome:
    try:
        return Outcome(value=call())
    except Exception as error:
        return Outcome(error=_portable(error))


def _portable(error: Exception) -> Exception:
    """Return an error that can be pickled; an unexpected one has its traceback as a note."""
    if not isinstance(error, GenDataAgentError):
        error.add_note(f"on {platform.node()}:\n{''.join(traceback.format_exception(error))}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        text = "".join(traceback.format_exception_only(error)).strip()
        return GenerationError(f"the generator failed: {text}")
    return error
