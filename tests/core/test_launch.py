"""How many processes train, and what a launcher's variables do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gendataagent.core import launch
from gendataagent.core.errors import ConfigError
from gendataagent.core.launch import (
    check_started_once,
    fewer_than_asked,
    processes_of,
    take_over_launch,
)


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*launch._OF_LAUNCHERS, launch._LAUNCHED):
        monkeypatch.delenv(name, raising=False)


def with_gpus(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    gpus = {"cuda": tuple(map(str, range(number)))}
    monkeypatch.setattr(launch, "gpus_of", lambda device: gpus.get(device, ()))
    monkeypatch.setattr(launch, "_has_backend", lambda name: True)


def torchrun(rank: int, world: int, here: int | None = None) -> dict[str, str]:
    own = {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
    there = {} if here is None else {"LOCAL_WORLD_SIZE": str(here)}
    return {**own, **there, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "HOME": "/root"}


@pytest.mark.parametrize(
    ("wanted", "device", "gpus", "number"),
    [
        ("auto", "cpu", 0, 1),
        ("auto", "mps", 0, 1),
        ("auto", "cuda", 1, 1),
        ("auto", "cuda", 4, 4),
        ("auto", "cuda:1", 4, 1),
        (3, "cpu", 0, 3),
        (2, "cuda", 4, 2),
        (1, "cuda:1", 4, 1),
        (1, "mps", 0, 1),
    ],
)
def test_number_of_processes(
    monkeypatch: pytest.MonkeyPatch, wanted: int | str, device: str, gpus: int, number: int
) -> None:
    with_gpus(monkeypatch, gpus)
    assert processes_of(wanted, device) == number


@pytest.mark.parametrize(
    ("wanted", "device", "says"),
    [
        (5, "cuda", r"training\.processes is 5, but there are 4 GPUs.*training\.processes=4"),
        (2, "cuda:1", "device=cuda:1 is one device"),
        (2, "mps", "device=mps is one device"),
    ],
)
def test_more_than_the_device_allows(
    monkeypatch: pytest.MonkeyPatch, wanted: int, device: str, says: str
) -> None:
    with_gpus(monkeypatch, 4)
    with pytest.raises(ConfigError, match=says):
        processes_of(wanted, device)


def test_a_torch_without_nccl_trains_on_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 4)
    monkeypatch.setattr(launch, "_has_backend", lambda name: name == "gloo")
    assert processes_of("auto", "cuda") == 1
    with pytest.raises(ConfigError, match=r"no nccl.*training\.processes=1"):
        processes_of(2, "cuda")
    assert processes_of(2, "cpu") == 2


def test_overlap_leaves_the_other_gpus_to_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 4)
    assert processes_of("auto", "cuda", auto_alone=True) == 1
    assert processes_of(2, "cuda", auto_alone=True) == 2


def test_the_first_process_of_a_launcher_works_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "end_with_parent", lambda: None)
    first, second = torchrun(0, 2, 2), torchrun(1, 2, 2)
    assert not take_over_launch(second)
    assert take_over_launch(first)
    assert first == {"HOME": "/root", launch._LAUNCHED: "2"}
    monkeypatch.setenv(launch._LAUNCHED, first[launch._LAUNCHED])
    assert processes_of("auto", "cpu") == processes_of(2, "cpu") == 2
    with pytest.raises(ConfigError, match=r"started 2 processes, but training\.processes is 3"):
        processes_of(3, "cpu")


@pytest.mark.parametrize("environment", [{}, {"RANK": "0"}, {"RANK": "a", "WORLD_SIZE": "b"}])
def test_without_a_launcher_nothing_changes(environment: dict[str, str]) -> None:
    assert take_over_launch(before := dict(environment))
    assert before == environment


def test_accelerate_that_starts_fewer_than_asked_is_noticed() -> None:
    launched = {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"}
    assert "training.processes=N" in fewer_than_asked(launched)
    assert not fewer_than_asked({"ACCELERATE_MIXED_PRECISION": "no"})  # --num_processes 1
    assert not fewer_than_asked({"MASTER_ADDR": "127.0.0.1"})


@pytest.mark.parametrize("here", [2, None])
def test_several_machines_are_refused_once(here: int | None) -> None:
    with pytest.raises(ConfigError, match="4 processes on several machines"):
        take_over_launch(torchrun(0, 4, here))
    assert not take_over_launch(torchrun(3, 4, here))


def test_a_script_under_a_launcher_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_started_once()
    monkeypatch.setenv("WORLD_SIZE", "1")
    check_started_once()
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match=r"training\.processes=4"):
        check_started_once()


def test_the_other_processes_of_a_launcher_end_without_a_word() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "gendataagent", "run", "--data", "no/such/folder"],
        env={**os.environ, **torchrun(1, 2, 2)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == ended.stderr == ""
