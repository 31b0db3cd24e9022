"""Serial and process executors: the same images in the same order, and clean shutdown."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gendataagent.core.devices import cpu_threads
from gendataagent.core.errors import GenerationError, ModelError
from gendataagent.core.png import png_bytes
from gendataagent.core.protocols import Executor, ImageGenerator, Rendered, RenderRequest
from gendataagent.core.records import Candidate, ModelDescription, RenderedCandidate
from gendataagent.generation.executors import ProcessExecutor, SerialExecutor
from gendataagent.generation.executors.ray_executor import RayExecutor

pytestmark = pytest.mark.integration

DIE, FAIL, FORGET = "die", "fail", "forget"
CANDIDATE = Candidate(
    id="c", round=0, source_id="s", label=0, class_name="a", variant=0, seed=0, strength=0.5,
    guidance_scale=2.0, num_inference_steps=2, negative_prompt="", marginal_score=0.0,
)  # fmt: skip


def request(seed: int, prompt: str = "") -> RenderRequest:
    return RenderRequest(
        source=Image.new("RGB", (4, 4), (seed, 1, 2)), prompt=prompt, negative_prompt="",
        seed=seed, strength=0.5, guidance_scale=2.0, num_inference_steps=2,
    )  # fmt: skip


class Painter:
    """Adds noise of the request's seed to its source; some prompts are commands."""

    description = ModelDescription(name="painter")

    def render(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        commands = {request.prompt for request in requests}
        if DIE in commands:
            time.sleep(0.5)  # the tasks before this one finish meanwhile
            os.kill(os.getpid(), signal.SIGKILL)
        if FAIL in commands:
            raise ModelError("the model does not fit; do this")
        images = [self._paint(request) for request in requests]
        return images[1:] if FORGET in commands else images

    def _paint(self, request: RenderRequest) -> Rendered:
        noise = np.random.default_rng(request.seed).integers(0, 100, (4, 4, 3))
        pixels = np.asarray(request.source) + noise
        return Rendered(image=Image.fromarray(pixels.astype(np.uint8)))


def broken_factory() -> ImageGenerator:
    raise ModelError("there is no such model; do this")


@dataclass(frozen=True)
class Counted:
    """A factory that records its calls as files in a folder."""

    folder: Path

    def __call__(self) -> Painter:
        (self.folder / f"{os.getpid()}-{time.monotonic_ns()}").touch()
        return Painter()


EXECUTORS: dict[str, Callable[[], Executor]] = {
    "serial": SerialExecutor,
    "process": functools.partial(ProcessExecutor, 2),
    "ray": functools.partial(RayExecutor, workers=2),
}


@pytest.fixture(scope="module", autouse=True)
def own_cluster() -> Iterator[None]:
    """End the Ray cluster that a test of this file has started."""
    yield
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param == "ray":
        pytest.importorskip("ray")
    made = EXECUTORS[request.param]()
    yield made
    made.release()


def pixels(results: Iterator[list[Rendered]]) -> list[list[bytes]]:
    return [[r.image.tobytes() for r in task if r.image is not None] for task in results]


def test_results_are_in_task_order_and_equal_those_of_a_plain_loop(executor: Executor) -> None:
    tasks = [[request(0), request(1)], [request(2)], [], [request(3), request(4), request(5)]]
    expected = pixels(iter([Painter().render(task) for task in tasks]))
    assert pixels(executor.map(Painter, tasks)) == expected
    executor.release()
    assert pixels(executor.map(Painter, tasks[::-1])) == expected[::-1]


def test_a_wrong_number_of_results_is_refused(executor: Executor) -> None:
    tasks = [[request(0)], [request(1), request(2, FORGET)]]
    results = executor.map(Painter, tasks)
    assert len(next(results)) == 1
    with pytest.raises(GenerationError, match="returned 1 results for 2 requests"):
        next(results)


def test_an_error_of_the_generator_is_raised_unchanged(executor: Executor) -> None:
    results = executor.map(Painter, [[request(0)], [request(1, FAIL)]])
    assert len(next(results)) == 1
    with pytest.raises(ModelError, match=r"^the model does not fit; do this$"):
        next(results)


def test_a_loading_error_is_raised_instead_of_a_dead_worker(executor: Executor) -> None:
    with pytest.raises(ModelError, match=r"^there is no such model; do this$"):
        list(executor.map(broken_factory, [[request(0)], [request(1)]]))


def test_without_tasks_nothing_is_loaded(executor: Executor, tmp_path: Path) -> None:
    assert list(executor.map(Counted(tmp_path), [])) == []
    assert list(tmp_path.iterdir()) == []


def test_serial_builds_once_until_released_or_given_another_factory(
    tmp_path: Path,
) -> None:
    executor, factory = SerialExecutor(), Counted(tmp_path)
    for _ in range(2):
        list(executor.map(factory, [[request(0)], [request(1)]]))
    assert len(list(tmp_path.iterdir())) == 1
    executor.release()
    list(executor.map(factory, [[request(0)]]))
    assert len(list(tmp_path.iterdir())) == 2
    list(executor.map(Painter, [[request(0)]]))
    list(executor.map(Counted(tmp_path), [[request(0)]]))
    assert len(list(tmp_path.iterdir())) == 3


class Seeing:
    """Images of the GPU that the process sees, by its name."""

    description = ModelDescription(name="seeing")

    def render(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        time.sleep(0.2)  # the other worker starts meanwhile
        gpu = int(os.environ["CUDA_VISIBLE_DEVICES"])
        return [Rendered(image=Image.new("L", (1, 1), gpu)) for _ in requests]


@pytest.mark.parametrize(
    ("gpus", "seen"), [(("4", "7"), {4, 7}), (("5",), {5}), (("1", "2", "3"), {1, 2})]
)
def test_worker_processes_see_one_gpu_each(gpus: Sequence[str], seen: set[int]) -> None:
    executor = ProcessExecutor(2, gpus)
    found = pixels(executor.map(Seeing, [[request(i)] for i in range(10)]))
    executor.release()
    assert {task[0][0] for task in found} == seen


def test_images_come_back_encoded_and_equal(executor: Executor) -> None:
    (result,) = next(executor.map(Painter, [[request(3)]]))
    assert result.image is not None
    made = Painter().render([request(3)])[0].image
    assert made is not None
    assert RenderedCandidate(CANDIDATE, result.image, result.png).to_png() == png_bytes(made)
    assert (result.png is None) == isinstance(executor, SerialExecutor)


def test_an_image_that_png_cannot_hold_is_refused(executor: Executor) -> None:
    if isinstance(executor, SerialExecutor):  # written by the pool
        with pytest.raises(GenerationError, match="mode F cannot be written as PNG"):
            png_bytes(Image.new("F", (1, 1)))
        return
    with pytest.raises(GenerationError, match="mode F cannot be written as PNG"):
        list(executor.map(Floating, [[request(0)]]))


class Floating:
    """Images of numbers that are no pixels."""

    description = ModelDescription(name="floating")

    def render(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        return [Rendered(image=Image.new("F", (1, 1))) for _ in requests]


def test_workers_stay_for_the_next_call_until_released_or_an_error(tmp_path: Path) -> None:
    executor, factory = ProcessExecutor(1), Counted(tmp_path)
    for _ in range(2):
        list(executor.map(factory, [[request(0)]]))
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(ModelError):
        list(executor.map(factory, [[request(1, FAIL)]]))
    assert len(list(executor.map(factory, [[request(2)]]))) == 1
    assert len(list(tmp_path.iterdir())) == 2
    executor.release()
    list(executor.map(factory, [[request(0)]]))
    assert len(list(tmp_path.iterdir())) == 3
    executor.release()


def test_a_dead_worker_raises_and_loses_no_finished_task() -> None:
    tasks = [[request(i)] for i in range(3)] + [[request(3, DIE)]] + [[request(9)]] * 8
    done: list[list[Rendered]] = []
    with pytest.raises(GenerationError, match=r"worker died.*generation\.chunk_size"):
        done.extend(ProcessExecutor(2).map(Painter, tasks))
    assert len(done) >= 3
    assert pixels(iter(done)) == pixels(iter([Painter().render(t) for t in tasks[: len(done)]]))


def test_a_slow_reader_still_gets_tasks_finished_before_a_worker_died() -> None:
    tasks = [[request(0)], [request(1)], [request(2)], [request(3, DIE)], [request(4)]]
    results = ProcessExecutor(2).map(Painter, tasks)
    done = [next(results)]
    time.sleep(1.5)  # the worker dies meanwhile; the results of 1 and 2 wait
    with pytest.raises(GenerationError, match="worker died"):
        done.extend(results)
    assert pixels(iter(done)) == pixels(iter([Painter().render(t) for t in tasks[:3]]))


def test_tasks_are_fetched_when_the_queue_has_room() -> None:
    fetched: list[int] = []

    def tasks() -> Iterator[list[RenderRequest]]:
        for i in range(20):
            fetched.append(i)
            yield [request(i)]

    results = ProcessExecutor(1).map(Painter, tasks())
    next(results)
    assert len(fetched) == 2
    assert isinstance(results, Iterator)
    results.close()  # type: ignore[attr-defined]


class Adder:
    """Images of the bits of a long sum, which the number of threads changes."""

    description = ModelDescription(name="adder")

    def render(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        return [Rendered(image=self._sum(request.seed)) for request in requests]

    def _sum(self, seed: int) -> Image.Image:
        import torch  # not above: workers of the other tests need none

        numbers = torch.rand(3_000_017, generator=torch.Generator().manual_seed(seed))
        return Image.frombytes("L", (2, 2), numbers.sum().numpy().tobytes())


def test_workers_use_as_many_threads_as_this_process() -> None:
    tasks = [[request(seed)] for seed in range(4)]
    serial, workers = SerialExecutor(), ProcessExecutor(1)
    found = {}
    for threads in (1, 2):
        with cpu_threads(threads):
            found[threads] = pixels(serial.map(Adder, tasks))
            assert pixels(workers.map(Adder, tasks)) == found[threads]
    workers.release()
    assert found[1] != found[2]


def test_workers_are_at_least_one() -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        ProcessExecutor(0)


PARENT = """
import sys
from tests.generation.test_executors import Counted, request
from gendataagent.generation.executors import ProcessExecutor
from pathlib import Path

if __name__ == "__main__":
    tasks = [[request(i)] for i in range(4)]
    results = ProcessExecutor(1).map(Counted(Path(sys.argv[1])), tasks)
    next(results)
    print("rendering", flush=True)
    input()
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks processes up in /proc")
def test_workers_end_when_the_main_process_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT, encoding="utf-8")
    noted = tmp_path / "noted"
    noted.mkdir()
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    with subprocess.Popen(
        [sys.executable, str(script), str(noted)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path},
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"rendering\n"
        worker = int(next(noted.iterdir()).name.split("-")[0])
        assert _is_running(worker)
        parent.kill()
    for _ in range(100):
        if not _is_running(worker):
            break
        time.sleep(0.1)
    assert not _is_running(worker)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
