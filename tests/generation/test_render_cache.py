"""Images shared between runs: rendered once, then read unchanged and in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image

from gendataagent.core.errors import GenerationError
from gendataagent.core.protocols import Executor, Rendered, RenderRequest
from gendataagent.core.records import ModelDescription
from gendataagent.generation.executors import ProcessExecutor, SerialExecutor
from gendataagent.generation.render_cache import CachingExecutor


class Painter:
    """Paints an image of the request's seed; rejects every fifth, one of them without an image."""

    description = ModelDescription(name="painter")

    def render(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        return [self._paint(request.seed) for request in requests]

    def _paint(self, seed: int) -> Rendered:
        if seed == 5:
            return Rendered(image=None, rejected_by="no-image")
        image = Image.new("RGB", (4, 4), (seed, 255 - seed, 0))
        return Rendered(image=image, rejected_by="flagged" if seed % 5 == 0 else None)


@dataclass(frozen=True)
class PainterFactory:
    def __call__(self) -> Painter:
        return Painter()


class Forbidden:
    """An executor that must not be used."""

    def map(self, factory: object, tasks: object) -> Iterator[list[Rendered]]:
        for _ in tasks:  # type: ignore[attr-defined]
            raise GenerationError("used")
        yield from ()

    def release(self) -> None:
        raise GenerationError("released")


def request(seed: int) -> RenderRequest:
    return RenderRequest(
        source=Image.new("RGB", (3, 3), (seed, 0, 0)), prompt="a", negative_prompt="b",
        seed=seed, strength=0.5, guidance_scale=2.0, num_inference_steps=4,
    )  # fmt: skip


def seen(rendered: Rendered) -> tuple[bytes, str | None]:
    return (rendered.image.tobytes() if rendered.image else b"", rendered.rejected_by)


def tasks_of(*seeds: Sequence[int]) -> list[list[RenderRequest]]:
    return [[request(seed) for seed in task] for task in seeds]


def plain(results: Iterator[list[Rendered]]) -> list[list[tuple[bytes | None, str | None]]]:
    return [
        [(r.image.tobytes() if r.image else None, r.rejected_by) for r in task] for task in results
    ]


TASKS = tasks_of([1, 2, 3], [4, 5, 6], [], [7], [8, 9, 10])
EXPECTED = plain(SerialExecutor().map(PainterFactory(), TASKS))


@pytest.mark.parametrize("inner", [SerialExecutor(), ProcessExecutor(1)])
def test_images_are_rendered_once_then_read_in_order(inner: Executor, tmp_path: Path) -> None:
    first = CachingExecutor(inner, tmp_path, stamp="x")
    assert plain(first.map(PainterFactory(), TASKS)) == EXPECTED
    assert (first.hits, first.misses) == (0, 10)
    second = CachingExecutor(Forbidden(), tmp_path, stamp="x")
    assert plain(second.map(PainterFactory(), TASKS)) == EXPECTED
    assert (second.hits, second.misses) == (10, 0)


@pytest.mark.parametrize("inner", [SerialExecutor(), ProcessExecutor(2)])
def test_only_missing_images_are_rendered_at_any_position(inner: Executor, tmp_path: Path) -> None:
    known = tasks_of([2], [4, 5, 6], [8, 10])
    list(CachingExecutor(inner, tmp_path, stamp="x").map(PainterFactory(), known))
    executor = CachingExecutor(inner, tmp_path, stamp="x")
    assert plain(executor.map(PainterFactory(), TASKS)) == EXPECTED
    assert (executor.hits, executor.misses) == (6, 4)


def test_everything_that_changes_an_image_changes_its_key(tmp_path: Path) -> None:
    list(CachingExecutor(SerialExecutor(), tmp_path, stamp="x").map(PainterFactory(), TASKS))
    base = request(1)
    others = [
        replace(base, prompt="c"), replace(base, negative_prompt="c"), replace(base, seed=99),
        replace(base, strength=0.6), replace(base, guidance_scale=3.0),
        replace(base, num_inference_steps=5), replace(base, source=Image.new("RGB", (3, 3))),
        replace(base, source=Image.new("RGB", (9, 1), (1, 0, 0))),
        replace(base, from_text=True),
    ]  # fmt: skip
    for other in others:
        executor = CachingExecutor(SerialExecutor(), tmp_path, stamp="x")
        list(executor.map(PainterFactory(), [[other]]))
        assert executor.misses == 1
    executor = CachingExecutor(SerialExecutor(), tmp_path, stamp="y")
    list(executor.map(PainterFactory(), [[base]]))
    assert executor.misses == 1


@pytest.mark.parametrize(("reads_class", "misses"), [(False, 1), (True, 2)])
def test_the_class_counts_where_it_has_weights_of_its_own(
    reads_class: bool, misses: int, tmp_path: Path
) -> None:
    executor = CachingExecutor(SerialExecutor(), tmp_path, stamp="x", reads_class=reads_class)
    for name in ("cat", "ship", "cat"):
        list(executor.map(PainterFactory(), [[replace(request(1), class_name=name)]]))
    assert executor.misses == misses


def test_an_image_without_its_record_is_rendered_again(tmp_path: Path) -> None:
    list(CachingExecutor(SerialExecutor(), tmp_path, stamp="x").map(PainterFactory(), TASKS))
    next(iter(sorted(tmp_path.rglob("*.json")))).unlink()
    executor = CachingExecutor(SerialExecutor(), tmp_path, stamp="x")
    assert plain(executor.map(PainterFactory(), TASKS)) == EXPECTED
    assert executor.misses == 1


@pytest.mark.parametrize("suffix", [".json", ".png"])
@pytest.mark.parametrize("how", ["flipped", "cut", "deleted"])
def test_what_has_changed_is_rendered_again(how: str, suffix: str, tmp_path: Path) -> None:
    """One bit of a stored image would be another image in every later run."""
    tasks = tasks_of([1, 2])
    first = CachingExecutor(SerialExecutor(), tmp_path, stamp="painter")
    before = [list(map(seen, results)) for results in first.map(PainterFactory(), tasks)]
    for path in tmp_path.rglob(f"*{suffix}"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content if how == "flipped" else content[:-20])
        if how == "deleted":
            path.unlink()
    again = CachingExecutor(SerialExecutor(), tmp_path, stamp="painter")
    assert [list(map(seen, found)) for found in again.map(PainterFactory(), tasks)] == before
    assert (again.hits, again.misses) == (0, 2)
