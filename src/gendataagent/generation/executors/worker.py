"""What every worker does, however it was started: build the generator once, render, encode.

Images travel between processes as PNG files. The process that makes an image encodes it, which
takes longer than anything the main process does with it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar, cast

from gendataagent.core.errors import GenerationError
from gendataagent.core.png import png_bytes
from gendataagent.core.protocols import Rendered

Item = TypeVar("Item")
Result = TypeVar("Result")
ItemIn = TypeVar("ItemIn", contravariant=True)


class Model(Protocol[ItemIn, Result]):
    """What a worker holds: an `ImageGenerator`, or another model with one result per item."""

    def render(self, items: Sequence[ItemIn], /) -> list[Result]:
        """Return one result per item, in order."""
        ...


Factory = Callable[[], Model[Item, Result]]
"""Builds the model; picklable."""


class SharedExecutor(Protocol):
    """An executor of this package, which runs other models than image generators too."""

    @property
    def width(self) -> int:
        """About how many tasks are done at once."""
        ...

    @property
    def on_other_devices(self) -> bool:
        """Whether its workers have devices of their own, so that every model belongs there."""
        ...

    def map(
        self, factory: Factory[Item, Result], tasks: Iterable[Sequence[Item]]
    ) -> Iterator[list[Result]]:
        """Yield the result of each task, in task order, as soon as it is finished."""
        ...

    def release(self) -> None:
        """Free what is kept between calls."""
        ...


def limit_threads(threads: int) -> None:
    """Let torch use `threads` CPU threads, whether it is imported already or later."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # torch reads them when it is imported
        os.environ[name] = str(threads)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)


class Worker(Generic[Item, Result]):
    """A model that is built when it is first needed.

    Args:
        threads: CPU threads of torch: with another number, images would differ in some bits.
    """

    def __init__(self, factory: Factory[Item, Result], threads: int) -> None:
        self._factory, self._threads = factory, threads
        self._model: Model[Item, Result] | None = None
        limit_threads(threads)

    def build(self) -> Model[Item, Result]:
        """Return the model, built at the first call."""
        if self._model is None:
            self._model = self._factory()
            limit_threads(self._threads)  # building it may have imported torch
        return self._model

    def render(self, task: Sequence[Item]) -> list[Result]:
        """Return one result per item."""
        return self.build().render(task)


def packed(results: Sequence[Result]) -> list[Result]:
    """Return results for the way to another process: their images as PNG files alone."""
    return [cast(Result, _packed(r)) if isinstance(r, Rendered) else r for r in results]


def _packed(result: Rendered) -> Rendered:
    if result.image is None:
        return result
    png = result.png or png_bytes(result.image)
    return Rendered(image=None, rejected_by=result.rejected_by, png=png)


def unpacked(results: Sequence[Result]) -> list[Result]:
    """Return the results of `packed` with their images, which are decoded when they are used."""
    return [cast(Result, _unpacked(r)) if isinstance(r, Rendered) else r for r in results]


def _unpacked(result: Rendered) -> Rendered:
    if result.png is None:
        return result
    return Rendered.of_png(result.png, result.rejected_by)


def checked(results: list[Result], task: Sequence[Any]) -> list[Result]:
    """Return the results of a task; raise `GenerationError` unless there is one per item."""
    if len(results) != len(task):
        raise GenerationError(
            f"the generator returned {len(results)} results for {len(task)} requests; it must "
            "return one per request, in order"
        )
    return results
