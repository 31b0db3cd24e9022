"""Which executor the settings and the machine lead to."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import pytest
import torch

from gendataagent.config import RunConfig
from gendataagent.core.devices import gpus_of
from gendataagent.core.errors import ConfigError
from gendataagent.generation.executors import ProcessExecutor, SerialExecutor
from gendataagent.generation.executors.choosing import chosen, executor_of
from gendataagent.generation.executors.ray_executor import RayExecutor


def with_machine(
    monkeypatch: pytest.MonkeyPatch,
    *,
    gpus: int = 0,
    visible: str | None = None,
    ray: bool = True,
    address: str = "",
) -> None:
    """Let this machine have so many GPUs, and Ray or not."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    for name, value in (("CUDA_VISIBLE_DEVICES", visible), ("RAY_ADDRESS", address or None)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    has = importlib.util.find_spec
    spec = has("json") if ray else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: spec if n == "ray" else has(n))


@pytest.mark.parametrize(
    ("settings", "device", "machine", "kind"),
    [
        ({}, "cpu", {}, "serial"),
        ({"workers": 2}, "cpu", {}, "process"),
        ({}, "cuda", {"gpus": 1}, "serial"),
        ({}, "cuda", {"gpus": 2}, "ray"),
        ({}, "cuda", {"gpus": 2, "ray": False}, "process"),
        ({}, "cuda:1", {"gpus": 2}, "serial"),
        ({"workers": 1}, "cuda", {"gpus": 4, "ray": False}, "process"),
        ({}, "cpu", {"gpus": 4}, "serial"),
        ({}, "cpu", {"address": "10.0.0.1:6379"}, "ray"),
        ({"ray_address": "auto"}, "cpu", {}, "ray"),
        ({"executor": "serial"}, "cuda", {"gpus": 2, "address": "auto"}, "serial"),
        ({"executor": "process"}, "cpu", {"address": "auto"}, "process"),
        ({"executor": "ray"}, "cpu", {}, "ray"),
    ],
)
def test_what_is_chosen(
    settings: dict[str, object],
    device: str,
    machine: dict[str, object],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_machine(monkeypatch, **machine)  # type: ignore[arg-type]
    generation = RunConfig.from_dict({"generation": settings}).generation
    assert chosen(generation, device) == kind
    classes = {"serial": SerialExecutor, "process": ProcessExecutor, "ray": RayExecutor}
    assert type(executor_of(generation, device)) is classes[kind]


@pytest.mark.parametrize(
    ("settings", "address", "why"),
    [
        ({"executor": "ray"}, "", r"generation\.executor=ray"),
        ({"ray_address": "10.0.0.1:6379"}, "", r"generation\.ray_address"),
        ({}, "10.0.0.1:6379", "RAY_ADDRESS"),
    ],
)
def test_missing_ray_is_reported_with_the_command(
    settings: dict[str, object], address: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_machine(monkeypatch, ray=False, address=address)
    generation = RunConfig.from_dict({"generation": settings}).generation
    with pytest.raises(ConfigError, match=rf"{why}.*pip install 'gendataagent\[ray\]'"):
        executor_of(generation, "cpu")


def test_ray_refuses_a_device_that_names_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with_machine(monkeypatch, gpus=2)
    generation = RunConfig.from_dict({"generation": {"executor": "ray"}}).generation
    with pytest.raises(ConfigError, match="device=cuda:1 names one; set device=cuda"):
        executor_of(generation, "cuda:1")


@pytest.mark.parametrize(
    ("device", "visible", "count", "expected"),
    [
        ("cuda", None, 3, ("0", "1", "2")),
        ("cuda", "2, 5", 2, ("2", "5")),
        ("cuda", "GPU-8932f937,MIG-0c1a", 2, ("GPU-8932f937", "MIG-0c1a")),
        ("cuda", "1,-1,0", 1, ("1",)),
        ("cuda", "", 0, ()),
        ("cuda:0", None, 3, ()),
        ("cpu", None, 3, ()),
    ],
)
def test_gpus_are_named_as_the_environment_does(
    device: str,
    visible: str | None,
    count: int,
    expected: Sequence[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_machine(monkeypatch, gpus=count, visible=visible)
    assert gpus_of(device) == expected


@pytest.mark.parametrize(
    ("settings", "workers"), [({}, 3), ({"gpus_per_worker": 0.3}, 9), ({"workers": 2}, 2)]
)
def test_without_ray_there_is_a_process_per_share_of_a_gpu(
    settings: dict[str, object], workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_machine(monkeypatch, gpus=3, ray=False)
    executor = executor_of(RunConfig.from_dict({"generation": settings}).generation, "cuda")
    assert isinstance(executor, ProcessExecutor)
    assert executor.workers == workers
    assert executor.gpus == ("0", "1", "2")
