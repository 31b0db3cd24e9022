"""Parts of other packages: found by entry points, used in a run, refused by name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from gendataagent.agent.filtering import FILTERS, reads_snapshots
from gendataagent.cli.failures import explain
from gendataagent.core import plugins as plugins_module
from gendataagent.core.errors import ConfigError
from gendataagent.core.files import read_json
from gendataagent.core.plugins import Parts, installed_plugins, plugins
from gendataagent.core.record_table import RecordTable
from gendataagent.core.records import Candidate
from tests.small_world import photo_folder, settings_for

__all__ = ["photo_folder"]

PLUGIN = Path(__file__).resolve().parents[2] / "examples" / "plugin"


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EntryPoint]]:
    """Entry points of the group gendataagent.filters; a test adds some."""
    points: list[EntryPoint] = []
    monkeypatch.setattr(
        plugins_module, "entry_points",
        lambda group: [point for point in points if point.group == group],
    )  # fmt: skip
    plugins.cache_clear()
    yield points
    plugins.cache_clear()


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=value, group="gendataagent.filters")


def test_parts_of_packages_are_beside_ours_and_loaded_when_used(
    offered: list[EntryPoint],
) -> None:
    offered += [point("root", "math:sqrt"), point("broken", "no_such_module:x")]
    parts = Parts("filters", {"own": abs})
    assert list(parts) == ["own", "broken", "root"]
    assert "broken" in parts
    assert "other" not in parts
    assert parts["root"](9) == 3
    assert parts.get("other") is None
    assert FILTERS["root"](16) == 4  # type: ignore[arg-type, comparison-overlap]
    assert not reads_snapshots("root")
    assert reads_snapshots("vog")


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([point("a", "no_such_module:x")], "'a' of no_such_module:x cannot be loaded: No module"),
        ([point("a", "math:nothing")], "cannot be loaded"),
        ([point("a", "math:pi")], "which cannot be called"),
        ([point("a", "math:sqrt"), point("a", "math:exp")], "both offer 'a' in"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(
    offered: list[EntryPoint], points: list[EntryPoint], message: str
) -> None:
    offered += points
    with pytest.raises(ConfigError, match=message):
        Parts("filters", {})["a"]


def test_our_names_cannot_be_replaced(offered: list[EntryPoint]) -> None:
    own = FILTERS["vog"]
    offered.append(point("vog", "math:sqrt"))
    assert FILTERS["vog"] is own
    assert list(FILTERS).count("vog") == 1
    assert installed_plugins() == {"filters vog": "math:sqrt"}


def test_an_error_in_a_part_is_not_called_ours(
    offered: list[EntryPoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(plugins_module, "_used", {})
    offered.append(point("broken", "json:loads"))
    part: Any = Parts[Any]("filters", {})["broken"]
    with pytest.raises(ValueError) as found:
        part("{")
    assert "This is a fault of json:loads, an installed part (details" in explain(found.value)
    with pytest.raises(TypeError) as ours:
        Parts[Any]("filters", {})[[]]  # type: ignore[index]
    assert "a fault of gendataagent" in explain(ours.value)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip installed the example package."""
    folder = tmp_path_factory.mktemp("installed")
    command = ["pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([sys.executable, "-m", *command, str(folder), str(PLUGIN)], check=True)
    return folder


@pytest.mark.integration
def test_the_example_package_works_in_a_run(
    installed: Path, photo_folder: Path, tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    config = settings_for(photo_folder, tiny_pipeline_folder)
    (tmp_path / "run.toml").write_text(config.to_toml(), encoding="utf-8")
    parts = ("selection.by=confident-mistakes", "filter.by=contrast",
             "prompting.captioner=brightness", "prompting.rewriter=none")  # fmt: skip
    command = ["run", "--config", str(tmp_path / "run.toml"), "--out", str(tmp_path / "run")]
    command += [word for part in parts for word in ("--set", part)]
    paths = [str(installed), *filter(None, [os.environ.get("PYTHONPATH")])]
    ended = subprocess.run(
        [sys.executable, "-m", "gendataagent", *command],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    made = RecordTable.read(Candidate, tmp_path / "run" / "rounds" / "001" / "judged.parquet")
    assert {candidate.source_caption for candidate in made} <= {"bright", "dark"}
    assert {candidate.rejected_by for candidate in made} == {None, "contrast"}
    environment = read_json(tmp_path / "run" / "manifest.json")["environment"]
    assert "filters contrast (gendataagent-contrast 0.1.0)" in environment["plugins"]
    assert read_json(tmp_path / "run" / "manifest.json")["captioner"]["name"] == "brightness"


@pytest.mark.integration
def test_without_the_package_the_name_is_refused_with_those_there_are(tmp_path: Path) -> None:
    from gendataagent.config import RunConfig
    from gendataagent.runs.preflight import problems

    with pytest.raises(ConfigError, match=r"filter\.by must be one of vog, knn"):
        RunConfig.from_dict({"filter": {"by": "contrast"}}, problems)
