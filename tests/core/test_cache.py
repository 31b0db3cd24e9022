"""Where the cache folder is, on each system."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gendataagent.core.cache import cache_folder
from gendataagent.core.errors import StorageError

HOME = Path("/home/somebody")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GENDATAAGENT_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(HOME))


@pytest.mark.parametrize(
    ("platform", "folder"),
    [
        ("linux", HOME / ".cache/gendataagent"),
        ("darwin", HOME / "Library/Caches/gendataagent"),
        ("win32", HOME / "AppData/Local/gendataagent"),
    ],
)
def test_each_system_has_its_own_cache_folder(
    platform: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_folder() == folder
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert cache_folder() == (Path("/local/gendataagent") if platform == "win32" else folder)


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_variables_take_precedence_on_every_system(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/gendataagent")
    monkeypatch.setenv("GENDATAAGENT_CACHE", "~/scratch")
    assert cache_folder() == HOME / "scratch"


def test_a_relative_xdg_folder_is_ignored_as_its_specification_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == HOME / ".cache/gendataagent"


def test_a_user_without_a_home_folder_is_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("could not determine home directory")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(StorageError, match=r"no home folder .*set GENDATAAGENT_CACHE"):
        cache_folder()
