"""A real Ray cluster of two nodes on this machine: what ends, leaves or joins changes no image."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gendataagent.core.errors import GenerationError, ModelError
from gendataagent.core.protocols import Feedback, Rendered, RenderRequest
from gendataagent.generation.executors.ray_executor import RayExecutor
from gendataagent.generation.pooled import PooledChat
from tests.generation.test_executors import DIE, FAIL, Painter, Seeing, pixels, request
from tests.generation.test_language_local import chat, conversation
from tests.tiny_language import save_tiny_llama

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.integration, pytest.mark.slow]

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 << 20}


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two nodes with one CPU each."""
    from ray.cluster_utils import Cluster

    ray.shutdown()
    made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    made.add_node(**NODE)
    yield made
    ray.shutdown()
    made.shutdown()


@dataclass(frozen=True)
class Noting:
    """A factory of painters that take their time and note each task in a folder.

    A file's name: process, node, seed of the task's first request.
    """

    folder: Path
    seconds: float = 0.3

    def __call__(self) -> NotingPainter:
        return NotingPainter(self.folder, self.seconds)

    def notes(self) -> list[tuple[int, str, int]]:
        """Return what was noted so far, in the order of time."""
        parts = [path.name.split("-") for path in self.folder.iterdir()]
        parts.sort(key=lambda part: int(part[3]))
        return [(int(process), node, int(seed)) for process, node, seed, _ in parts]


class NotingPainter(Painter):
    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder, self._seconds = folder, seconds

    def render(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        node = ray.get_runtime_context().get_node_id()
        name = f"{os.getpid()}-{node}-{requests[0].seed}-{time.monotonic_ns()}"
        (self._folder / name).touch()
        time.sleep(self._seconds)
        return super().render(requests)


@pytest.fixture
def noting(tmp_path: Path) -> Noting:
    return Noting(tmp_path)


TASKS = [[request(3 * i), request(3 * i + 1), request(3 * i + 2)] for i in range(16)]
EXPECTED = pixels(iter([Painter().render(task) for task in TASKS]))


def check_each_once(noting: Noting, *, again: int) -> None:
    """Check that no task was made twice but those a lost worker had."""
    seeds = [seed for _, _, seed in noting.notes()]
    assert set(seeds) == {task[0].seed for task in TASKS}
    assert len(TASKS) <= len(seeds) <= len(TASKS) + again


def test_killed_workers_are_replaced_and_nothing_is_lost(cluster: Any, noting: Noting) -> None:
    executor = RayExecutor(cluster.address, workers=2)
    done: list[list[Rendered]] = []
    killed: set[int] = set()
    for result in executor.map(noting, TASKS):
        done.append(result)
        if len(done) in (2, 8):
            alive = [process for process, _, _ in noting.notes() if process not in killed]
            killed.add(alive[-1])
            os.kill(alive[-1], signal.SIGKILL)
    assert pixels(iter(done)) == EXPECTED
    check_each_once(noting, again=2 * len(killed))
    assert len(executor.notes) == len(killed)
    assert all("ended and was replaced" in note for note in executor.notes)


def test_a_node_that_leaves_and_one_that_joins(cluster: Any, noting: Noting) -> None:
    noting = replace(noting, seconds=2.0)  # a worker that joins needs seconds to start
    executor = RayExecutor(cluster.address)
    leaving = next(iter(cluster.worker_nodes))
    done: list[list[Rendered]] = []
    for result in executor.map(noting, TASKS):
        done.append(result)
        if len(done) == 3:
            assert len({node for _, node, _ in noting.notes()}) == 2
            cluster.remove_node(leaving)
        if len(done) == 6:
            cluster.add_node(**NODE)
    assert pixels(iter(done)) == EXPECTED
    check_each_once(noting, again=2)
    assert len({node for _, node, _ in noting.notes()}) == 3


def test_a_task_that_ends_its_workers_is_given_up(cluster: Any) -> None:
    tasks = [[request(0)], [request(1)], [request(2, DIE)], [request(3)]]
    executor = RayExecutor(cluster.address, workers=2)
    done: list[list[Rendered]] = []
    with pytest.raises(GenerationError, match=r"5 generation workers ended.*batch_size"):
        done.extend(executor.map(Painter, tasks))
    assert pixels(iter(done)) == pixels(iter([Painter().render(task) for task in tasks[:2]]))


def test_an_error_of_the_model_is_not_tried_again(cluster: Any, noting: Noting) -> None:
    tasks = [[request(0)], [request(1, FAIL)], [request(2)]]
    executor = RayExecutor(cluster.address, workers=1)
    with pytest.raises(ModelError, match=r"^the model does not fit; do this$"):
        list(executor.map(noting, tasks))
    assert [seed for _, _, seed in noting.notes()].count(1) == 1
    assert executor.notes == []


def ending_factory() -> Painter:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_workers_that_cannot_start_are_given_up(cluster: Any) -> None:
    executor = RayExecutor(cluster.address, workers=1)
    with pytest.raises(GenerationError, match="3 generation workers in a row"):
        list(executor.map(ending_factory, [[request(0)]]))


def test_a_cluster_without_room_is_waited_for_and_then_reported(cluster: Any) -> None:
    executor = RayExecutor(cluster.address, gpus_per_worker=1.0, wait_s=2.0)
    with pytest.raises(GenerationError, match=r"for 2 s no machine.* 1 GPUs free.*1 CPUs, 0 GPUs"):
        list(executor.map(Painter, [[request(0)]]))


def test_each_worker_sees_a_gpu_of_its_own(cluster: Any) -> None:
    """Ray assigns GPUs by number, whether there are any."""
    cluster.add_node(**NODE, num_gpus=2)
    executor = RayExecutor(cluster.address, gpus_per_worker=1.0)
    found = pixels(executor.map(Seeing, [[request(i)] for i in range(12)]))
    assert {task[0][0] for task in found} == {0, 1}


class GuideReader(Painter):
    """Checks the guide's file, then removes it, as if it were on another machine."""

    def render(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        for guided in requests:
            assert guided.feedback is not None
            content = Path(guided.feedback.guide_file).read_bytes()
            assert hashlib.sha256(content).hexdigest() == guided.feedback.guide
            Path(content.decode()).unlink(missing_ok=True)
        return super().render(requests)


def test_a_guide_that_is_not_on_the_workers_machine_is_sent(cluster: Any, tmp_path: Path) -> None:
    file = tmp_path / "guide.safetensors"
    file.write_text(str(file))
    feedback = Feedback(
        criterion="entropy", scale=0.1, label=0, views=1, steps=(0.0, 1.0), decoder="vae",
        guide=hashlib.sha256(file.read_bytes()).hexdigest(), guide_file=str(file),
    )  # fmt: skip
    tasks = [[replace(request(seed), feedback=feedback)] for seed in range(4)]
    executor = RayExecutor(cluster.address, workers=1)
    assert len(list(executor.map(GuideReader, tasks))) == 4
    assert not file.exists()


def test_a_language_model_answers_on_the_cluster(cluster: Any, tmp_path: Path) -> None:
    folder = save_tiny_llama(tmp_path / "model")
    asked = [conversation(f"cat number {number}") for number in range(5)]
    executor = RayExecutor(cluster.address, workers=2)
    pooled = PooledChat(chat(folder), executor, batch_size=4)
    assert pooled.complete(asked, range(5)) == chat(folder).complete(asked, range(5))
    pooled.release()
    assert pixels(executor.map(Painter, TASKS)) == EXPECTED


DRIVER = """
import sys
from pathlib import Path
from tests.generation.test_ray_executor import Noting, TASKS
from gendataagent.generation.executors.ray_executor import RayExecutor

if __name__ == "__main__":
    executor = RayExecutor(sys.argv[1], workers=2)
    for _ in executor.map(Noting(Path(sys.argv[2])), TASKS):
        print("rendering", flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks processes up in /proc")
@pytest.mark.parametrize("own", [True, False])
def test_workers_end_when_the_main_process_is_killed(
    cluster: Any, noting: Noting, tmp_path_factory: pytest.TempPathFactory, own: bool
) -> None:
    """On a cluster that the main process has started, which ends too, and on one that stays."""
    script = tmp_path_factory.mktemp("driver") / "driver.py"
    script.write_text(DRIVER, encoding="utf-8")
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    with subprocess.Popen(
        [sys.executable, str(script), "" if own else cluster.address, str(noting.folder)],
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path},
    ) as driver:  # fmt: skip
        assert driver.stdout is not None
        assert driver.stdout.readline() == b"rendering\n"
        below = _below(driver.pid)
        workers = {process for process, _, _ in noting.notes()}
        driver.kill()
    ended = workers | (below if own else set())
    deadline = time.monotonic() + 90  # Ray is slow on busy cores
    while any(map(_is_running, ended)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert workers
    assert [process for process in ended if _is_running(process)] == []


def _below(parent: int) -> set[int]:
    """Return every process that a process has started, directly or through others."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
            parents[int(path.parent.name)] = int(fields[1])
    found: set[int] = set()
    todo = {parent}
    while todo:
        todo = {process for process, above in parents.items() if above in todo} - found
        found |= todo
    return found


def _is_running(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="ascii")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
