"""Installed versions below the bounds are found, with the command that raises them."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gendataagent.runs.doctor import examine
from gendataagent.runs.requirements import conflict, conflicts_below, requirements

ROOT = Path(__file__).parents[2]
NEEDED = {
    "gendataagent": ["torch>=2.6", "datasets>=4.0", 'openai>=1.50; extra == "endpoint"'],
    "datasets": ["requests>=2.32.2", 'nothing>=9; sys_platform == "elsewhere"'],
    "requests": ["urllib3<3"],
}


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The installed versions by name, which a test changes."""
    here = {"torch": "2.6.0+cpu", "datasets": "4.0.0", "requests": "2.32.2", "openai": "1.50.0"}
    real = importlib.metadata.version

    def requires(name: str) -> list[str]:
        return NEEDED.get(name, [])

    monkeypatch.setattr(importlib.metadata, "version", lambda n: here.get(n) or real(n))
    monkeypatch.setattr(importlib.metadata, "requires", requires)
    return here


@pytest.mark.parametrize("found", ["2.6.0", "2.6.0+cu124", "2.7.0a0+git1", "3.0", "mine"])
def test_versions_from_the_bound_on_are_accepted(found: str, versions: dict[str, str]) -> None:
    versions["torch"] = found
    assert conflict(Requirement("torch>=2.6")) is None


@pytest.mark.parametrize("found", ["2.5.1", "2.6.0rc1", "2.6.0.dev20250101", "1.13.0+cpu"])
def test_versions_below_the_bound_are_not(found: str, versions: dict[str, str]) -> None:
    versions["torch"] = found
    broken = conflict(Requirement("torch>=2.6"))
    assert broken is not None
    assert (broken.found, broken.fix) == (found, "pip install -U 'torch>=2.6'")


def test_extras_and_other_machines_do_not_count(versions: dict[str, str]) -> None:
    assert [r.name for r in requirements()] == ["torch", "datasets"]
    assert [r.name for r in requirements(extra="endpoint")] == ["openai"]
    assert [r.name for r in requirements("datasets")] == ["requests"]
    assert list(conflicts_below()) == []


def test_what_a_needed_package_needs_is_checked_too(versions: dict[str, str]) -> None:
    versions["requests"] = "2.31.0"
    (broken,) = conflicts_below()
    assert (broken.name, broken.found, broken.needed_by) == ("requests", "2.31.0", "datasets")
    assert broken.fix == "pip install -U 'requests>=2.32.2'"


def test_the_doctor_calls_old_versions_wrong(versions: dict[str, str], tmp_path: Path) -> None:
    versions.update(torch="2.5.0", requests="2.31.0", openai="1.40.0")
    findings = {f.what: f for f in examine(tmp_path)}
    for name, fix in (
        ("torch", "pip install -U 'torch>=2.6'"),
        ("requests", "pip install -U 'requests>=2.32.2'"),
        ("openai", "pip install -U 'openai>=1.50'"),
    ):
        assert (findings[name].state, findings[name].fix) == ("wrong", fix)
        assert "needs >=" in findings[name].found
    assert findings["datasets"].state == "ok"


def test_the_lowest_versions_are_those_of_the_bounds() -> None:
    """The lower bounds of `pyproject.toml` and `constraints-lowest.txt` are the same."""
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    lowest = {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in pinned}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = [*project["dependencies"], *extras["endpoint"], *extras["plots"], *extras["test"]]
    bounds = [Requirement(line) for line in named if not line.startswith("gendataagent")]
    assert {canonicalize_name(r.name) for r in bounds} == set(lowest)
    for bound in bounds:
        (limit,) = bound.specifier
        version = lowest[canonicalize_name(bound.name)]
        assert limit.operator == ">="
        assert (version + ".0").startswith(limit.version + "."), f"{bound} is pinned to {version}"
