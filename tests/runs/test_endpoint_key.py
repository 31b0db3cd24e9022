"""No key is sent to an address that only a run folder names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gendataagent.config import RunConfig
from gendataagent.config.run_config_file import create_run_folder
from gendataagent.core.errors import ConfigError, GenDataAgentError
from gendataagent.core.run_folder import RunFolder
from gendataagent.runs import endpoint_key
from gendataagent.runs.endpoint_key import check_endpoint, remember_endpoint
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
        endpoint_url="http://192.0.2.7:9/v1",  # an address that nobody has
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
        resume(tmp_path / "run", config=config, trust_endpoint=False)


@pytest.mark.parametrize(
    "change",
    [{"endpoint_url": "http://127.0.0.1:9/v1"}, {"endpoint_key_variable": "NOT_SET"},
     {"endpoint_key_variable": ""}, {"rewriter": "visible-attributes"}],
)  # fmt: skip
def test_without_a_key_or_on_this_machine_nothing_is_asked(
    change: dict[str, Any], config: RunConfig, tmp_path: Path
) -> None:
    check_endpoint(
        RunFolder(tmp_path), replace(config, prompting=replace(config.prompting, **change))
    )


def test_what_the_user_named_once_is_known(config: RunConfig, tmp_path: Path) -> None:
    remember_endpoint(config)
    remember_endpoint(config)
    check_endpoint(RunFolder(tmp_path), config)
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
            check_endpoint(RunFolder(tmp_path), other)


def test_a_run_of_one_s_own_is_known_and_a_resume_that_names_the_endpoint(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[RunConfig] = []
    monkeypatch.setattr("gendataagent.runs.run.remember_endpoint", known.append)
    with pytest.raises(GenDataAgentError):
        run(replace(config, data=replace(config.data, path="nowhere")), tmp_path / "run")
    create_run_folder(tmp_path / "run", config)
    monkeypatch.setattr("gendataagent.runs.run.check_endpoint", lambda *_: None)
    monkeypatch.setattr("gendataagent.runs.run._run", lambda *_, **__: None)
    resume(tmp_path / "run", config=config)
    resume(tmp_path / "run", trust_endpoint=True)
    resume(tmp_path / "run", config=config, trust_endpoint=False)
    assert len(known) == 3


def test_without_a_cache_folder_nothing_is_known(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GENDATAAGENT_CACHE", str(tmp_path / "file"))
    remember_endpoint(config)
    assert endpoint_key._remembered() == set()
    with pytest.raises(ConfigError):
        check_endpoint(RunFolder(tmp_path), config)
