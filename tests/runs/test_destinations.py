"""Nothing of the user is sent to an address that only a run folder names, or unsaid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gendataagent.config import RunConfig
from gendataagent.config.run_config_file import create_run_folder
from gendataagent.core.errors import ConfigError, GenDataAgentError
from gendataagent.core.progress import SilentProgress
from gendataagent.core.run_folder import RunFolder
from gendataagent.experiments.benchmarks import Task
from gendataagent.experiments.runner import folder_of, run_task
from gendataagent.runs import destinations as module
from gendataagent.runs.destinations import check_destinations, destinations, remember
from gendataagent.runs.run import resume, run
from tests.small_world import settings_for

KEY, VARIABLE = "sk-0123456789abcdef", "A_SECRET_OF_MINE"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GENDATAAGENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(VARIABLE, KEY)


@pytest.fixture
def config(photo_folder: Path, tiny_pipeline_folder: Path) -> RunConfig:
    base = settings_for(photo_folder, tiny_pipeline_folder)
    prompting = replace(
        base.prompting,
        rewriter="endpoint",
        endpoint_url="http://192.0.2.7:9/v1",  # reserved for documentation, RFC 5737
        endpoint_model="tiny",
        endpoint_key_variable=VARIABLE,
        endpoint_retries=0,
        endpoint_timeout_s=0.2,
    )
    return replace(base, prompting=prompting)


def test_a_stranger_s_run_gets_no_key(config: RunConfig, tmp_path: Path) -> None:
    create_run_folder(tmp_path / "run", config)
    with pytest.raises(
        ConfigError, match=rf"{VARIABLE} to http://192.*someone else.*--set"
    ) as told:
        resume(tmp_path / "run")
    assert KEY not in str(told.value)
    with pytest.raises(ConfigError, match="someone else"):
        resume(tmp_path / "run", config=config, named=["generation.ray_address"])


def test_a_stranger_s_run_gets_no_captions_either(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    create_run_folder(tmp_path / "run", config)
    asked = r"send class names and captions of training images to http://192.*--set prompting"
    with pytest.raises(ConfigError, match=asked) as told:
        resume(tmp_path / "run")
    assert "key" not in str(told.value)


@pytest.mark.parametrize("address", ["ray://192.0.2.7:10001", "192.0.2.7:6379", "head:6379"])
@pytest.mark.parametrize("executor", ["auto", "ray"])
def test_a_stranger_s_run_gets_no_images_for_its_cluster(
    address: str, executor: str, config: RunConfig, tmp_path: Path
) -> None:
    """Which could also run code here by what it sends back."""
    config = replace(
        config,
        prompting=replace(config.prompting, rewriter="none"),
        generation=replace(config.generation, ray_address=address, executor=executor),
    )
    create_run_folder(tmp_path / "run", config)
    with pytest.raises(ConfigError, match=rf"training images.*{address}.*generation\.ray_address="):
        resume(tmp_path / "run")
    remember(config, ["prompting.endpoint_url"])
    with pytest.raises(ConfigError, match="ray_address"):
        resume(tmp_path / "run")
    remember(config, ["generation.ray_address"])
    check_destinations(RunFolder(tmp_path / "run"), config)


@pytest.mark.parametrize("address", ["auto", "local", "127.0.0.1:6379", "ray://localhost:10001"])
def test_a_cluster_of_this_machine_is_not_asked_for(address: str, config: RunConfig) -> None:
    prompting = replace(config.prompting, rewriter="none")
    generation = replace(config.generation, ray_address=address)
    assert destinations(replace(config, prompting=prompting, generation=generation)) == []


def test_a_run_says_what_is_sent_where_before_anything_is(
    config: RunConfig, tmp_path: Path
) -> None:
    """Here the models are checked next; the address is a reserved one."""
    said: list[str] = []

    class Listening(SilentProgress):
        def say(self, message: str) -> None:
            said.append(message)

    with pytest.raises(GenDataAgentError):
        run(config, tmp_path / "run", progress=Listening())
    assert said == [
        "class names and captions of training images and the key in the environment variable "
        f"{VARIABLE} are sent to http://192.0.2.7:9/v1 (prompting.endpoint_url)"
    ]


@pytest.mark.parametrize(
    "change",
    [{"endpoint_url": "http://127.0.0.1:9/v1"}, {"rewriter": "visible-attributes"}],
)  # fmt: skip
def test_on_this_machine_nothing_is_asked(
    change: dict[str, Any], config: RunConfig, tmp_path: Path
) -> None:
    check_destinations(
        RunFolder(tmp_path), replace(config, prompting=replace(config.prompting, **change))
    )


def test_what_the_user_named_once_is_known(config: RunConfig, tmp_path: Path) -> None:
    remember(config)
    remember(config)
    check_destinations(RunFolder(tmp_path), config)
    recorded = (tmp_path / "cache" / "endpoints.jsonl").read_text()
    assert recorded.count("\n") == 1
    assert KEY not in recorded
    assert "192" not in recorded
    changes: list[dict[str, Any]] = [
        {"endpoint_url": "http://192.0.2.8/v1"}, {"endpoint_key_variable": "PATH"},
    ]  # fmt: skip
    for change in changes:
        other = replace(config, prompting=replace(config.prompting, **change))
        with pytest.raises(ConfigError):
            check_destinations(RunFolder(tmp_path), other)


def test_a_run_of_one_s_own_is_known_and_a_resume_that_names_the_endpoint(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_run_folder(tmp_path / "run", config)
    monkeypatch.setattr("gendataagent.runs.run._run", lambda *_, **__: None)
    with pytest.raises(ConfigError):
        resume(tmp_path / "run")
    resume(tmp_path / "run", named=["prompting.endpoint_url"])
    resume(tmp_path / "run")
    monkeypatch.setenv("GENDATAAGENT_CACHE", str(tmp_path / "another"))
    resume(tmp_path / "run", config=config)
    resume(tmp_path / "run")
    monkeypatch.setenv("GENDATAAGENT_CACHE", str(tmp_path / "third"))
    run(config, tmp_path / "own")
    resume(tmp_path / "run")


def test_without_a_cache_folder_nothing_is_known(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GENDATAAGENT_CACHE", str(tmp_path / "file"))
    remember(config)
    assert module._remembered() == set()
    with pytest.raises(ConfigError):
        check_destinations(RunFolder(tmp_path), config)


def test_an_experiment_continues_no_run_with_an_address_of_its_folder(
    config: RunConfig, tmp_path: Path
) -> None:
    """Which addresses a run uses is no part of its name."""
    mine = replace(config, prompting=replace(config.prompting, rewriter="none"))
    theirs = replace(mine, generation=replace(mine.generation, ray_address="192.0.2.7:6379"))
    task = Task(arm="base", seed=7, config=mine)
    create_run_folder(folder_of(task, tmp_path), theirs)
    assert "send training images" in run_task(task, tmp_path).failure
