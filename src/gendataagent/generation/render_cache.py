"""An executor around another that stores images on disk and shares them between runs.

An image depends only on its request and the generator (see `core.protocols`), so its key is a hash
of both. Runs that differ only in their filter, for example, share every image.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gendataagent.core import files
from gendataagent.core.errors import StorageError
from gendataagent.core.png import png_bytes
from gendataagent.core.protocols import Executor, ImageGenerator, Rendered, RenderRequest


@dataclass(slots=True)
class _PendingTask:
    """A task not yet yielded: the keys of its requests, and the indices of those to render."""

    keys: list[str]
    missing: list[int]


class CachingExecutor:
    """Passes a request to `inner` only if its image is not in `folder`, and stores the result.

    Args:
        stamp: text that identifies the generator: name, revision, and every setting that changes
            its images.
        reads_source: whether an image made from text alone depends on its source all the same,
            as by a ControlNet.
        reads_class: whether an image depends on the name of its class beside the prompt.

    Attributes:
        inner: as given.
        hits: requests found in the folder.
        misses: requests rendered by `inner`.
    """

    def __init__(
        self, inner: Executor, folder: Path, *, stamp: str, reads_source: bool = False,
        reads_class: bool = False,
    ) -> None:  # fmt: skip
        self.inner, self._folder, self._stamp = inner, folder, stamp
        self._reads_source, self._reads_class = reads_source, reads_class
        self.hits = self.misses = 0

    def map(
        self,
        factory: Callable[[], ImageGenerator],
        tasks: Iterable[Sequence[RenderRequest]],
    ) -> Iterator[list[Rendered]]:
        """Yield the result of each task, in task order."""
        pending: deque[_PendingTask] = deque()

        def to_render() -> Iterator[list[RenderRequest]]:
            for task in tasks:
                keys = [self._key(request) for request in task]
                missing = [i for i, key in enumerate(keys) if self._facts(key) is None]
                pending.append(_PendingTask(keys, missing))
                if missing:
                    yield [task[i] for i in missing]

        for results in self.inner.map(factory, to_render()):
            while not pending[0].missing:
                yield self._read(pending.popleft())
            done = pending.popleft()
            for index, rendered in zip(done.missing, results, strict=True):
                self._store(done.keys[index], rendered)
            yield self._read(done)
        while pending:
            yield self._read(pending.popleft())

    @property
    def width(self) -> int:
        """About how many tasks are done at once."""
        return getattr(self.inner, "width", 1)

    @property
    def notes(self) -> Sequence[str]:
        """What the inner executor has to say, if it has."""
        return getattr(self.inner, "notes", ())

    def release(self) -> None:
        """Release the inner executor."""
        self.inner.release()

    def _key(self, request: RenderRequest) -> str:
        digest = hashlib.blake2b(digest_size=16)
        is_read = self._reads_source or not request.from_text
        source = request.source.convert("RGB") if is_read else None
        for part in (
            self._stamp, source.size if source else None, request.prompt,
            request.negative_prompt, request.seed, request.strength, request.guidance_scale,
            request.num_inference_steps,
            request.feedback.identity if request.feedback else None,
            *(["from text"] if source and request.from_text else []),
            *([request.class_name] if self._reads_class else []),
        ):  # fmt: skip
            digest.update(repr(part).encode() + b"\0")
        if source is not None:
            digest.update(source.tobytes())
        return digest.hexdigest()

    def _record(self, key: str) -> Path:
        """Return the path of a result's JSON record; it is written last and marks completion."""
        return self._folder / key[:2] / f"{key}.json"

    def _store(self, key: str, rendered: Rendered) -> None:
        record, digest = self._record(key), None
        if rendered.image is not None:
            content = rendered.png or png_bytes(rendered.image)
            files.write_bytes(record.with_suffix(".png"), content)
            digest = hashlib.sha256(content).hexdigest()
        facts = {"sha256": digest, "rejected_by": rendered.rejected_by}
        files.write_cached(record, files.json_bytes(facts))

    def _facts(self, key: str) -> dict[str, Any] | None:
        """Return the record of a stored result; None if there is none, or it or its image has
        changed.
        """
        record = self._record(key)
        content = files.read_cached(record)
        if content is None:
            return None
        facts: dict[str, Any] = files.parse_json(content)
        image = record.with_suffix(".png")
        if facts["sha256"] is None:
            return facts
        return facts if image.is_file() and files.file_sha256(image) == facts["sha256"] else None

    def _read(self, task: _PendingTask) -> list[Rendered]:
        self.misses += len(task.missing)
        self.hits += len(task.keys) - len(task.missing)
        return [self._read_one(key) for key in task.keys]

    def _read_one(self, key: str) -> Rendered:
        facts = self._facts(key)
        if facts is None:
            raise StorageError(
                f"{self._record(key)} has changed while it was in use; run the command again, "
                "which renders its image again"
            )
        if facts["sha256"] is None:
            return Rendered(image=None, rejected_by=facts["rejected_by"])
        png = files.read_bytes(self._record(key).with_suffix(".png"))
        return Rendered.of_png(png, facts["rejected_by"])
