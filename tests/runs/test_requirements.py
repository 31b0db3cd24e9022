"""Installed versions below the bounds are found, with the command that raises them."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import gendataagent
from gendataagent.runs import requirements as module
from gendataagent.runs.doctor import Finding, examine
from gendataagent.runs.requirements import Conflict, conflicts, requirements

ROOT = Path(__file__).parents[2]
NEEDED = {
    "gendataagent": ["torch>=2.6", "datasets>=4.0", 'openai>=1.50; extra == "endpoint"'],
    "datasets": ["requests>=2.32.2", "fsspec[http]<2026,>=2023.1", 'no>=9; os_name == "elsewhere"'],
    "fsspec": ['aiohttp>=3.9; extra == "http"', 'adlfs>=9; extra == "adl"'],
    "torch": ["fsspec>=0.8.5"],
    "requests": ["urllib3<3", "torch"],  # in a circle
}


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The installed versions by name, which a test changes."""
    here = {
        "torch": "2.6.0+cpu", "datasets": "4.0.0", "requests": "2.32.2", "openai": "1.50.0",
        "fsspec": "2025.3.0", "aiohttp": "3.9", "urllib3": "2.8.0",
    }  # fmt: skip
    real = importlib.metadata.version
    monkeypatch.setattr(module, "_PROJECT_FILE", ROOT / "none")
    monkeypatch.setattr(importlib.metadata, "version", lambda n: here.get(n) or real(n))
    monkeypatch.setattr(importlib.metadata, "requires", lambda n: NEEDED.get(n, []))
    return here


def conflict(requirement: str) -> Conflict | None:
    return next(iter(conflicts([Requirement(requirement)]).values()), None)


def by_name(folder: Path) -> dict[str, Finding]:
    findings = examine(folder)
    assert len({finding.what for finding in findings}) == len(findings)
    return {finding.what: finding for finding in findings}


@pytest.mark.parametrize("found", ["2.6.0", "2.6.0+cu124", "2.7.0a0+git1", "3.0", "mine"])
def test_versions_from_the_bound_on_are_accepted(found: str, versions: dict[str, str]) -> None:
    versions["torch"] = found
    assert conflict("torch>=2.6") is None


@pytest.mark.parametrize("found", ["2.5.1", "2.6.0rc1", "2.6.0.dev20250101", "1.13.0+cpu"])
def test_versions_below_the_bound_are_not(found: str, versions: dict[str, str]) -> None:
    versions["torch"] = found
    broken = conflict("torch>=2.6")
    assert broken is not None
    assert broken.is_too_old
    assert (broken.found, broken.fix) == (found, "pip install -U 'torch>=2.6'")


def test_newer_than_allowed_is_not_too_old(versions: dict[str, str]) -> None:
    for refused in ("datasets<4", "datasets~=3.2", "datasets!=4.0.0", "datasets==3.0"):
        broken = conflict(refused)
        assert broken is not None
        assert not broken.is_too_old
        assert (
            broken.sentence == f"4.0.0, but gendataagent needs {refused.removeprefix('datasets')}"
        )
    assert (broken := conflict("datasets~=4.2"))
    assert broken.is_too_old


def test_extras_and_other_machines_do_not_count(versions: dict[str, str]) -> None:
    assert [r.name for r in requirements()] == ["torch", "datasets"]
    assert [r.name for r in requirements(extras=["endpoint"])] == ["openai"]
    assert [r.name for r in requirements("datasets")] == ["requests", "fsspec"]
    assert requirements("no such distribution") == []
    assert conflicts(requirements()) == {}


def test_what_the_needed_packages_need_is_checked_too(versions: dict[str, str]) -> None:
    versions.update(requests="2.31.0", fsspec="0.7", aiohttp="3.8")
    broken = conflicts(requirements())
    assert set(broken) == {"requests", "fsspec", "aiohttp"}
    assert broken["requests"].sentence == "2.31.0, but datasets needs >=2.32.2"
    assert broken["requests"].fix == "pip install -U 'requests>=2.32.2'"
    assert broken["aiohttp"].refused_by == (("fsspec", ">=3.9"),)
    # one version for all that need it
    assert broken["fsspec"].sentence == (
        "0.7, but torch needs >=0.8.5 and datasets needs <2026,>=2023.1"
    )
    assert broken["fsspec"].fix == "pip install -U 'fsspec<2026,>=2023.1'"


def test_the_doctor_reports_refused_versions_once_each(
    versions: dict[str, str], tmp_path: Path
) -> None:
    versions.update(torch="2.5.0", requests="2.31.0", openai="1.40.0", fsspec="2026.1.0")
    findings = by_name(tmp_path)
    for name, state, fix in (
        ("torch", "wrong", "pip install -U 'torch>=2.6'"),
        ("requests", "wrong", "pip install -U 'requests>=2.32.2'"),
        ("openai", "wrong", "pip install -U 'openai>=1.50'"),
        ("fsspec", "note", "pip install -U 'fsspec<2026,>=2023.1'"),
    ):
        assert (findings[name].state, findings[name].fix) == (state, fix)
        assert f"{versions[name]}, but " in findings[name].found
    assert (findings["datasets"].state, findings["datasets"].found) == ("ok", "4.0.0")


def test_without_metadata_the_doctor_says_that_versions_are_not_checked(
    versions: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def absent(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", absent)
    found = by_name(tmp_path)["gendataagent"]
    assert (found.state, found.fix) == ("note", "pip install gendataagent")


def test_another_python_than_tested_is_noted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert by_name(tmp_path)["Python"].state == "ok"
    monkeypatch.setattr(sys, "version_info", (3, 14, 0, "final", 0))
    found = by_name(tmp_path)["Python"]
    assert found.state == "note"
    assert "tested with 3.11 to 3.13" in found.found


def test_in_a_clone_the_bounds_of_its_code_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An editable installation keeps the bounds of its day; `git pull` changes the code."""
    file = tmp_path / "pyproject.toml"
    monkeypatch.setattr(module, "_PROJECT_FILE", file)
    monkeypatch.setattr(importlib.metadata, "requires", lambda n: ["torch>=1.0"])
    file.write_text('[project]\nname = "another"\ndependencies = ["torch>=9"]\n')
    assert list(map(str, requirements())) == ["torch>=1.0"]
    file.write_text(
        '[project]\nname = "gendataagent"\ndependencies = ["torch>=3", "x; os_name == \'no\'"]\n'
        '[project.optional-dependencies]\ngguf = ["gguf>=2"]\n'
    )
    assert list(map(str, requirements())) == ["torch>=3"]
    assert list(map(str, requirements(extras=["gguf"]))) == ["gguf>=2"]


# the project's own files


def project() -> SimpleNamespace:
    return SimpleNamespace(**tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])


def bounds() -> list[Requirement]:
    """Return what pyproject.toml needs, extras included; those that only check code are not."""
    extras = {**vars(project())["optional-dependencies"]}
    del extras["dev"]
    lines = [*project().dependencies, *(line for one in extras.values() for line in one)]
    return [Requirement(line) for line in lines if not line.startswith("gendataagent")]


def test_the_lowest_versions_are_those_of_the_bounds() -> None:
    text = (ROOT / "constraints-lowest.txt").read_text()
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    pinned = [Requirement(line) for line in lines if line]
    lowest = {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in pinned}
    named = [canonicalize_name(bound.name) for bound in bounds()]
    assert sorted(named) == sorted(lowest), "one pin for each bound"
    for bound in bounds():
        (limit,) = bound.specifier
        version = lowest[canonicalize_name(bound.name)]
        assert limit.operator == ">="
        assert f"{version}.0".startswith(f"{limit.version}."), f"{bound} is pinned to {version}"


def test_every_imported_package_has_a_bound() -> None:
    known = {canonicalize_name(bound.name).replace("-", "_") for bound in bounds()}
    imported = set(imported_packages(Path(gendataagent.__file__).parent))
    trackers = {"mlflow", "trackio"}  # accelerate's; a user installs the one that is wanted
    same = {"PIL", "pytorch_lightning"}  # other names of what has a bound: pillow, lightning
    assert imported - {"gendataagent"} - same - trackers <= known | {"pillow"}


def imported_packages(folder: Path) -> Iterator[str]:
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            tops = (name.partition(".")[0] for name in names)
            yield from (top for top in tops if top not in sys.stdlib_module_names)


def test_the_classifiers_name_the_tested_pythons() -> None:
    from gendataagent.runs.doctor import _TESTED_PYTHON

    oldest, newest = _TESTED_PYTHON
    expected = [
        f"Programming Language :: Python :: 3.{minor}" for minor in range(oldest[1], newest[1] + 1)
    ]
    assert [c for c in project().classifiers if ":: Python ::" in c] == expected
    assert vars(project())["requires-python"] == f">={oldest[0]}.{oldest[1]}"
