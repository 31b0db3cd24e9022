"""What scripts/release/check_package.py accepts, and that its commands are the README's."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from scripts.release.check_package import (
    MAX_WHEEL_BYTES,
    NEEDED,
    NEEDED_IN_SDIST,
    commands,
    sdist_problems,
    wheel_problems,
)

ROOT = Path(__file__).resolve().parents[1]
WHEEL = [
    *(f"gendataagent/{name}" for name in NEEDED),
    "gendataagent-0.1.0.dist-info/licenses/LICENSE",
]
SDIST = [
    *(f"gendataagent-0.1.0/{name}" for name in NEEDED_IN_SDIST),
    *(f"gendataagent-0.1.0/src/gendataagent/{name}" for name in NEEDED),
]


def test_a_complete_wheel_and_sdist_pass() -> None:
    assert wheel_problems(WHEEL, 1000) == []
    assert sdist_problems(SDIST) == []


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("tests/conftest.py", "not of the package"),
        ("gendataagent/__pycache__/a.pyc", "left behind"),
        ("gendataagent/runs/001/x/__pycache__/b", "left behind"),
        ("gendataagent/model.pt", "left behind"),
    ],
)
def test_what_does_not_belong_into_a_wheel_is_named(name: str, problem: str) -> None:
    (found,) = wheel_problems([*WHEEL, name], 1000)
    assert name in found
    assert problem in found


@pytest.mark.parametrize("missing", WHEEL)
def test_what_a_wheel_lacks_is_named(missing: str) -> None:
    (found,) = wheel_problems([name for name in WHEEL if name != missing], 1000)
    assert found.startswith("the wheel lacks")


def test_a_wheel_that_grew_is_refused() -> None:
    (found,) = wheel_problems(WHEEL, MAX_WHEEL_BYTES + 1)
    assert "more than" in found


def test_what_an_sdist_lacks_or_should_not_hold_is_named() -> None:
    assert sdist_problems(SDIST[1:]) == [f"the sdist lacks {NEEDED_IN_SDIST[0]}"]
    assert sdist_problems([*SDIST, "a/.venv/x"]) == ["the sdist holds .venv/x"]


def test_the_source_tree_has_what_is_needed() -> None:
    package = ROOT / "src" / "gendataagent"
    assert all((package / name).is_file() for name in NEEDED)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    included = settings["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    for name in NEEDED_IN_SDIST:
        assert (ROOT / name).is_file()
        assert name == "pyproject.toml" or name.split("/")[0] in included, name
    assert all((ROOT / name).exists() for name in included)


def test_the_commands_are_those_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for arguments in commands("run"):
        if not arguments[0].startswith("-"):
            assert f"gendataagent {arguments[0]}" in readme or f"`{arguments[0]}`" in readme
