"""Captioner and language model on the workers that make the images.

A model that is not loaded yet is sent to each worker, which loads it at its first task. Everything
around it stays in the main process: the cache of captions, the validation of rewrites.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TypeVar

from gendataagent.core.protocols import CaptionRequest
from gendataagent.core.records import ModelDescription
from gendataagent.generation.caption_cache import CacheableCaptioner
from gendataagent.generation.executors.worker import SharedExecutor
from gendataagent.generation.language.conversation import ChatModel, Conversation

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, eq=False)
class _Captioning:
    """Factory and model in one: what is unpickled in a worker loads there."""

    captioner: CacheableCaptioner

    def __call__(self) -> _Captioning:
        return self

    def render(self, requests: Sequence[CaptionRequest]) -> list[str]:
        return self.captioner.caption(requests)


@dataclass(frozen=True, slots=True, eq=False)
class _Chatting:
    """The same for conversations with their seeds."""

    chat: ChatModel

    def __call__(self) -> _Chatting:
        return self

    def render(self, asked: Sequence[tuple[Conversation, int]]) -> list[str]:
        return self.chat.complete([one for one, _ in asked], [seed for _, seed in asked])


class PooledCaptioner:
    """Captions on the workers of an executor, `batch_size` images a task.

    Args:
        inner: not loaded; it never is in this process.
    """

    def __init__(
        self, inner: CacheableCaptioner, executor: SharedExecutor, *, batch_size: int
    ) -> None:
        self._inner, self._executor, self._batch_size = inner, executor, batch_size
        self._on_worker = _Captioning(inner)
        self.cache_settings: Mapping[str, str | int] = inner.cache_settings

    @property
    def description(self) -> ModelDescription:
        """Which model it is; the revision of a hub model that is not here yet stays unknown."""
        return self._inner.description

    def check(self) -> None:
        """Raise `ModelError` for faults that show without loading weights."""
        self._inner.check()

    def caption(self, requests: Sequence[CaptionRequest]) -> list[str]:
        """Return one caption per image."""
        found = dict(chain.from_iterable(b.items() for b in self.caption_batches(requests)))
        return [found[position] for position in range(len(requests))]

    def caption_batches(self, requests: Sequence[CaptionRequest]) -> Iterator[Mapping[int, str]]:
        """Yield position -> caption of the requests, batch by batch."""
        start = 0
        for texts in self._executor.map(self._on_worker, _batches(requests, self._batch_size)):
            yield dict(enumerate(texts, start))
            start += len(texts)

    def release(self) -> None:
        """Release the workers."""
        self._executor.release()


class PooledChat:
    """Answers conversations on the workers of an executor, `batch_size` a task.

    Args:
        inner: not loaded; it never is in this process.
    """

    def __init__(self, inner: ChatModel, executor: SharedExecutor, *, batch_size: int) -> None:
        self._inner, self._executor, self._batch_size = inner, executor, batch_size
        self._on_worker = _Chatting(inner)

    @property
    def name(self) -> str:
        """Its name in records."""
        return self._inner.name

    @property
    def revision(self) -> str:
        """Commit or hash of its weights; "" if unknown."""
        return self._inner.revision

    @property
    def notes(self) -> Sequence[str]:
        """Sentences for the user."""
        return self._inner.notes

    def check(self) -> None:
        """Raise `ModelError` for faults that show without loading weights."""
        self._inner.check()

    def complete(self, conversations: Sequence[Conversation], seeds: Sequence[int]) -> list[str]:
        """Return one answer per conversation, in order."""
        asked = list(zip(conversations, seeds, strict=True))
        tasks = _batches(asked, self._batch_size)
        return list(chain.from_iterable(self._executor.map(self._on_worker, tasks)))

    def release(self) -> None:
        """Release the workers."""
        self._executor.release()


def _batches(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
