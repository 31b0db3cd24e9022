"""Dockerfile, .dockerignore and the release workflow, as far as they can be checked unbuilt."""

from __future__ import annotations

import fnmatch
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
KNOWN = {
    "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "FROM", "RUN", "USER", "VOLUME", "WORKDIR",
}  # fmt: skip
WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"


def instructions() -> list[tuple[str, str]]:
    """Return (instruction, arguments) of each line of the Dockerfile, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split()[0], line.split(None, 1)[1]) for line in joined.splitlines() if line]


def values(name: str) -> list[str]:
    return [arguments for instruction, arguments in instructions() if instruction == name]


def is_sent(path: str) -> bool:
    """Return whether .dockerignore lets a path into the build."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").removeprefix("**/")
        parts = [path, *(str(parent) for parent in Path(path).parents), Path(path).name]
        if any(fnmatch.fnmatch(part, pattern) for part in parts):
            sent = line.startswith("!")
    return sent


def test_the_dockerfile_has_only_known_instructions_and_two_stages() -> None:
    assert {instruction for instruction, _ in instructions()} == KNOWN
    assert instructions()[0] == ("ARG", "PYTHON=3.12")
    assert values("FROM") == ["python:${PYTHON}-slim AS wheel", "python:${PYTHON}-slim"]


def test_what_is_copied_is_there_and_is_sent_to_the_build() -> None:
    for arguments in values("COPY"):
        *sources, _ = arguments.split()
        if not sources[0].startswith("--from="):
            assert all((ROOT / source).exists() and is_sent(source) for source in sources)
    assert is_sent("src/gendataagent/__init__.py")
    for left_out in (".venv/bin/python", "runs/001/DONE", ".git/config", "tests/conftest.py",
                     "src/gendataagent/__pycache__/a.pyc"):  # fmt: skip
        assert not is_sent(left_out), left_out


def test_the_wheel_needs_no_other_file() -> None:
    """Hatchling fails without the files that pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    copied = " ".join(values("COPY")).split()
    assert {project["readme"], *project["license-files"], "pyproject.toml"} <= set(copied)


def test_the_container_does_not_run_as_root_and_its_folders_are_writable() -> None:
    order = [instruction for instruction, _ in instructions()]
    assert values("USER") == ["1000"]
    assert order.index("USER") > max(i for i, name in enumerate(order) if name == "RUN")
    assert values("ENTRYPOINT") == ['["gendataagent"]']
    assert values("VOLUME") == ['["/data", "/runs", "/cache"]']
    assert any("chmod 1777 /runs /cache" in command for command in values("RUN"))


def test_nothing_is_fetched_by_address_and_no_cache_is_left() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    assert "://" not in text
    assert ":latest" not in text
    for command in values("RUN"):
        for part in re.findall(r"pip (?:install|wheel)[^&|]*", command):
            assert "--no-cache-dir" in part


def test_shell_commands_are_quoted_right() -> None:
    for command in values("RUN"):
        shlex.split(command)


def test_extras_and_python_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (extras,) = [v.split("=")[1] for v in values("ARG") if v.startswith("EXTRAS=")]
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    assert "Programming Language :: Python :: 3.12" in project["classifiers"]
    assert re.search(r"^torch==[\d.]+$", (ROOT / "constraints.txt").read_text("utf-8"), re.M)


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load(WORKFLOW.read_text("utf-8"))
    return loaded


def test_a_tag_publishes_what_was_built_and_checked(workflow: dict[Any, Any]) -> None:
    assert workflow[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads `on` as true
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    assert publish["needs"] == "build"
    commands = "\n".join(step.get("run", "") for step in build["steps"])
    assert "make check-package" in commands
    uploaded = [s["with"] for s in build["steps"] if "upload-artifact" in s.get("uses", "")]
    fetched = [s["with"] for s in publish["steps"] if "download-artifact" in s.get("uses", "")]
    assert (uploaded[0]["name"], uploaded[0]["path"]) == tuple(fetched[0].values())


def test_only_the_publishing_job_may_ask_for_an_identity(workflow: dict[Any, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert "permissions" not in workflow["jobs"]["build"]
    assert workflow["jobs"]["publish"]["permissions"] == {"id-token": "write"}
    assert workflow["jobs"]["publish"]["environment"] == "pypi"
    assert "password" not in WORKFLOW.read_text("utf-8").split("name: release")[1]


def test_targets_that_the_workflow_makes_exist(workflow: dict[Any, Any]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            for target in re.findall(r"make ([a-z-]+)", step.get("run", "")):
                assert target in targets
