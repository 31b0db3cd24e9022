"""Paths in settings: absolute when stored, no part of what settings are compared by."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from gendataagent.config import RunConfig
from gendataagent.config.paths import settings_hash, with_absolute_paths, with_paths_of
from gendataagent.config.run_config_file import (
    check_same_settings,
    create_run_folder,
    read_run_config,
)
from gendataagent.core.errors import RunFolderError


def config_with(**paths: str) -> RunConfig:
    return RunConfig.from_dict(
        {
            "data": {"path": paths.get("data", "bundled:cifar10")},
            "classifier": {"model": paths.get("classifier", "auto")},
            "generation": {
                "generator": paths.get("generator", "auto"),
                "lora": paths.get("lora", ""),
                "image_cache": paths.get("images", ""),
            },
        }
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("photos", "models/resnet", "tiny-sd", "auto"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_existing_places_become_absolute_and_names_stay(here: Path) -> None:
    config = with_absolute_paths(
        config_with(data="photos", classifier="models/resnet", generator="tiny-sd")
    )
    assert config.data.path == str(here / "photos")
    assert config.classifier.model == str(here / "models" / "resnet")
    assert config.generation.generator == "tiny-sd"  # the bundled one, whatever is called so here
    names = config_with(
        data="hub:owner/photos",
        classifier="microsoft/resnet-50",
        lora="owner/name/file.safetensors",
    )
    assert with_absolute_paths(names) == names


def test_a_folder_behind_hub_and_the_root_of_a_table_become_absolute(here: Path) -> None:
    config = RunConfig.from_dict({"data": {"path": "hub:./photos:small", "image_root": "models"}})
    stored = with_absolute_paths(config)
    assert stored.data.path == f"hub:{here / 'photos'}:small"
    assert stored.data.image_root == str(here / "models")
    assert settings_hash(stored) == settings_hash(config)


def test_home_is_resolved(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    assert with_absolute_paths(config_with(data="~/photos")).data.path == str(here / "photos")


def test_a_run_folder_holds_absolute_paths(here: Path) -> None:
    folder = create_run_folder(here / "run", config_with(data="photos", images="photos"))
    os.chdir("/")
    stored = read_run_config(folder)
    assert stored.data.path == str(here / "photos")
    assert stored.generation.image_cache == str(here / "photos")


def test_another_path_is_no_other_setting_but_another_name_is(here: Path) -> None:
    folder = create_run_folder(here / "run", config_with(data="photos"))
    check_same_settings(folder, config_with(data=str(here / "models")))
    for other in ("bundled:cifar10", "hub:owner/photos"):
        with pytest.raises(RunFolderError, match=r"data\.path is .*photos' there, not"):
            check_same_settings(folder, config_with(data=other))


def test_the_hash_of_settings_does_not_see_where_things_are(here: Path) -> None:
    one, other = config_with(data="photos"), config_with(data=str(here / "models"))
    assert settings_hash(one) == settings_hash(other)
    assert settings_hash(one) != settings_hash(config_with())
    assert settings_hash(one) != settings_hash(replace(one, seed=1))
    assert settings_hash(one) == settings_hash(replace(one, device="cpu"))


def test_paths_are_taken_over_only_where_both_are_paths(here: Path) -> None:
    mine = config_with(data="photos", classifier="tiny-resnet")
    theirs = config_with(data=str(here / "models"), classifier="models/resnet")
    taken = with_paths_of(mine, theirs)
    assert taken.data.path == str(here / "models")
    assert taken.classifier.model == "tiny-resnet"
