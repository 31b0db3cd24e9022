"""Images made once and used by every run that asks for the very same: an executor around another.

An image depends on nothing but its request and the generator (see `protocols`), so the key is a
hash of both. Runs that differ only in their filter, say, then share every image.
"""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from gendataagent.core import files
from gendataagent.core.protocols import Executor, ImageGenerator, Rendered, RenderRequest


@dataclass(slots=True)
class _Waiting:
    """A task whose results are not handed on yet, and the places of those that must be made."""

    keys: list[str]
    missing: list[int]


class CachingExecutor:
    """Hands requests to `inner` only if their image is not in `folder`; keeps what comes back.

    Args:
        stamp: text that tells the generator from others: name, revision, and every setting that
            changes its images.

    Attributes:
        found: images that were there; made: images that had to be made.
    """

    def __init__(self, inner: Executor, folder: Path, *, stamp: str) -> None:
        self._inner, self._folder, self._stamp = inner, folder, stamp
        self.found = 0
        self.made = 0

    def map(
        self,
        factory: Callable[[], ImageGenerator],
        tasks: Iterable[Sequence[RenderRequest]],
    ) -> Iterator[list[Rendered]]:
        """Yield the result of each task, in task order."""
        waiting: deque[_Waiting] = deque()

        def to_make() -> Iterator[list[RenderRequest]]:
            for task in tasks:
                keys = [self._key(request) for request in task]
                missing = [i for i, key in enumerate(keys) if not self._record(key).exists()]
                waiting.append(_Waiting(keys, missing))
                if missing:
                    yield [task[i] for i in missing]

        for results in self._inner.map(factory, to_make()):
            while not waiting[0].missing:
                yield self._read(waiting.popleft())
            done = waiting.popleft()
            for place, rendered in zip(done.missing, results, strict=True):
                self._keep(done.keys[place], rendered)
            yield self._read(done)
        while waiting:
            yield self._read(waiting.popleft())

    def release(self) -> None:
        """Let go of what the executor inside keeps."""
        self._inner.release()

    def _key(self, request: RenderRequest) -> str:
        digest = hashlib.blake2b(digest_size=16)
        source = request.source.convert("RGB")
        for part in (
            self._stamp, source.size, request.prompt, request.negative_prompt, request.seed,
            request.strength, request.guidance_scale, request.num_inference_steps,
        ):  # fmt: skip
            digest.update(repr(part).encode() + b"\0")
        digest.update(source.tobytes())
        return digest.hexdigest()

    def _record(self, key: str) -> Path:
        """The file that is written last, and says whether there is an image beside it."""
        return self._folder / key[:2] / f"{key}.json"

    def _keep(self, key: str, rendered: Rendered) -> None:
        record = self._record(key)
        if rendered.image is not None:
            buffer = io.BytesIO()
            rendered.image.save(buffer, "PNG")
            files.write_bytes(record.with_suffix(".png"), buffer.getvalue())
        facts = {"image": rendered.image is not None, "rejected_by": rendered.rejected_by}
        files.write_json(record, facts)

    def _read(self, task: _Waiting) -> list[Rendered]:
        self.made += len(task.missing)
        self.found += len(task.keys) - len(task.missing)
        return [self._read_one(key) for key in task.keys]

    def _read_one(self, key: str) -> Rendered:
        record = self._record(key)
        facts = files.read_json(record)
        if not facts["image"]:
            return Rendered(image=None, rejected_by=facts["rejected_by"])
        with Image.open(record.with_suffix(".png")) as image:
            return Rendered(image=image.convert("RGB"), rejected_by=facts["rejected_by"])
