"""What depends on the machine is decided when a run or an agent's folder is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gendataagent.agent import decisions
from gendataagent.agent.agent import Agent
from gendataagent.agent.decisions import with_machine_decided, with_processes_decided
from gendataagent.config import RunConfig
from gendataagent.config.run_config_file import read_run_config
from gendataagent.core import devices
from gendataagent.core.devices import cpu_threads
from gendataagent.core.errors import ConfigError
from gendataagent.core.run_folder import RunFolder


def config_of(share: float, rewrites: int, **generation: object) -> RunConfig:
    return RunConfig.from_dict(
        {
            "selection": {"share": share},
            "prompting": {"rewrites": rewrites},
            "generation": {"generator": "tiny-sd", **generation},
        }
    )


@pytest.mark.parametrize(
    ("images", "batch"), [(None, 32), (5000, 32), (40, 16), (20, 8), (8, 4), (1, 2), (0, 1)]
)
def test_a_batch_is_no_larger_than_a_round_fills(images: int | None, batch: int) -> None:
    decided = with_machine_decided(config_of(0.2, 2), "cpu", images=images)
    assert decided.generation.batch_size == batch
    assert decided.generation.task_size % batch == 0


def test_a_batch_that_is_given_stays_and_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "with_batch_tried", lambda *_: pytest.fail("tried"))
    given = config_of(0.2, 2, batch_size=7)
    assert with_machine_decided(given, "cuda", images=4, try_batch=True).generation.batch_size == 7
    assert with_machine_decided(given, "cuda").generation.task_size == 21


def test_an_open_batch_is_tried_on_a_gpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []

    def half(config: RunConfig, device: str) -> RunConfig:
        tried.append(config.generation.batch_size)
        return replace(config, generation=replace(config.generation, batch_size=3))

    monkeypatch.setattr(decisions, "with_batch_tried", half)
    config = config_of(0.2, 2)
    assert with_machine_decided(config, "cpu", try_batch=True).generation.batch_size == 32
    assert with_machine_decided(config, "cuda", images=9000).generation.batch_size == 64
    made = with_machine_decided(config, "cuda", images=9000, try_batch=True)
    assert made.generation.batch_size == 3
    assert tried == [64]


def test_an_agent_keeps_what_it_decided(
    small_config: RunConfig, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(small_config, threads=0, agent=replace(small_config.agent, guard=False))
    monkeypatch.setattr(devices, "has_bfloat16_units", lambda: True)
    with cpu_threads(2):
        Agent.open(photo_folder, out=tmp_path / "agent", config=config)
    made = read_run_config(RunFolder.open(tmp_path / "agent"))
    assert (made.threads, made.generation.dtype) == (2, "bfloat16")
    assert isinstance(made.generation.batch_size, int)
    monkeypatch.setattr(devices, "has_bfloat16_units", lambda: False)
    with cpu_threads(1):
        again = Agent.open(photo_folder, out=tmp_path / "agent", config=config)
        assert torch.get_num_threads() == 2
    assert again.config == made


def test_no_more_processes_train_than_a_batch_has_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "processes_of", lambda wanted, device, auto_alone: 8)
    config = RunConfig.from_dict({"training": {"batch_size": 4}})
    assert with_processes_decided(config, "cuda").training.processes == 4
    with pytest.raises(ConfigError, match=r"training\.processes \(8\) must be at most"):
        RunConfig.from_dict({"training": {"batch_size": 4, "processes": 8}})
