"""Work beside training: in a thread or when it is due, stopped, failed; what is gained where."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from gendataagent.agent.overlap import Check, InFlight, renders_elsewhere, what_is_gained
from gendataagent.agent.schedule import Schedule, guard_epochs
from gendataagent.config import RunConfig
from gendataagent.core.errors import ConfigError
from gendataagent.generation.executors import ProcessExecutor, SerialExecutor
from gendataagent.generation.render_cache import CachingExecutor


def config_of(epochs: int = 12, **agent: object) -> RunConfig:
    settings = {"rounds": 2, "first_round_epoch": 0, "overlap": True, **agent}
    tree = {"training": {"epochs": epochs}, "agent": settings, "threads": 1}
    return RunConfig.from_dict({**tree, "generation": {"workers": 1}})


def test_images_enter_training_when_the_next_round_begins() -> None:
    schedule = Schedule.from_config(config_of())
    assert (schedule.round_epochs, schedule.enter_epochs) == ((0, 4), (4, 8))
    assert [schedule.rounds_until(epoch) for epoch in (0, 4, 8)] == [[], [0], [0, 1]]
    assert [schedule.begun_until(epoch) for epoch in (0, 4, 8)] == [[0], [0, 1], [0, 1]]
    by_default = Schedule.from_config(config_of(first_round_epoch=-1))
    assert (by_default.round_epochs, by_default.enter_epochs) == ((3, 6), (6, 9))
    early = Schedule.from_config(config_of(rounds_within=0.5))
    assert (early.round_epochs, early.enter_epochs) == ((0, 2), (2, 4))
    assert guard_epochs(config_of(guard=True)) == (8,)
    plain = Schedule.from_config(config_of(overlap=False))
    assert plain.round_epochs == plain.enter_epochs == (0, 6)


def test_the_last_images_need_an_epoch_too() -> None:
    assert Schedule.from_config(config_of(epochs=3)).enter_epochs == (1, 2)
    with pytest.raises(ConfigError, match=r"With agent\.overlap the last images need one more"):
        config_of(epochs=2)


def test_who_renders_elsewhere(tmp_path: Path) -> None:
    assert not renders_elsewhere(SerialExecutor())
    assert renders_elsewhere(ProcessExecutor(1))
    assert renders_elsewhere(CachingExecutor(ProcessExecutor(1), tmp_path, stamp=""))
    assert not renders_elsewhere(CachingExecutor(SerialExecutor(), tmp_path, stamp=""))


def gained(*, elsewhere: bool = True, other: bool = False, gpus: int = 0, cores: int = 64) -> str:
    return what_is_gained(
        config_of(), elsewhere=elsewhere, on_other_devices=other, gpus=gpus, cores=cores
    )


def test_where_nothing_or_little_is_gained_it_is_said() -> None:
    assert "nothing is gained" in gained(elsewhere=False)
    assert "the only GPU" in gained(gpus=1)
    assert "want 2 cores, and there are 1" in gained(cores=1)
    assert gained(cores=2) == gained(gpus=2, cores=1) == gained(other=True, gpus=1, cores=1) == ""


def test_the_work_runs_in_a_thread_or_when_it_is_due() -> None:
    def work(check: Check) -> str:
        check()
        return threading.current_thread().name

    beside = InFlight(work, ProcessExecutor(1), beside=True)
    later = InFlight(work, SerialExecutor(), beside=False)
    assert (beside.wait(), beside.is_beside) == ("images", True)
    assert (later.wait(), later.is_beside) == (threading.current_thread().name, False)
    later.stop()


def test_an_error_of_the_thread_is_raised_here() -> None:
    def fail(check: Check) -> None:
        raise ValueError("the model does not fit")

    images = InFlight(fail, ProcessExecutor(1), beside=True)
    with pytest.raises(ValueError, match="does not fit"):
        images.wait()
    with pytest.raises(ValueError, match="does not fit"):
        images.check()


def test_work_that_is_stopped_ends_and_is_no_error() -> None:
    ended = []

    def work(check: Check) -> None:
        try:
            while True:
                check()
                time.sleep(0.01)
        finally:
            ended.append(True)

    images = InFlight(work, ProcessExecutor(1), beside=True)
    images.check()
    images.stop()
    assert ended == [True]
    images.check()


def test_a_thread_uses_as_many_threads_of_torch_as_were_set() -> None:
    import torch

    from gendataagent.core.devices import cpu_threads

    with cpu_threads(3):
        images = InFlight(lambda _: torch.get_num_threads(), ProcessExecutor(1), beside=True)
        assert images.wait() == 3
