"""The ten rooms: imports point downwards only, and no module imports itself round a corner.

The order of the rooms is read from docs/architecture.md, top to bottom.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import gendataagent

ROOT = Path(gendataagent.__file__).parent
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "architecture.md"
ROOMS = re.findall(r"^\| \*\*(\w+)\*\* \|", DOCUMENT.read_text(encoding="utf-8"), re.M)
BESIDE_THE_ROOMS = {"__init__.py", "__main__.py", "py.typed"}
HEAVY = ("torch", "diffusers", "transformers", "datasets", "accelerate", "peft")


def modules() -> dict[str, Path]:
    """Return every module of the package by its dotted name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imports(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Yield the modules of the package that a file imports, inside functions too.

    Imports under `if TYPE_CHECKING` are left out: they name types and load nothing.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written out in full here"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in known:
                    yield inner
                elif node.module in known:
                    yield str(node.module)


def graph() -> dict[str, set[str]]:
    """Return module -> modules of the package it imports."""
    known = modules()
    return {name: set(imports(path, known)) - {name} for name, path in known.items()}


def room(name: str) -> str:
    """Return the room of a module, "" for the package itself."""
    return [*name.split("."), ""][1]


def test_ten_rooms_and_nothing_beside_them() -> None:
    assert len(ROOMS) == 10
    found = {path.name for path in ROOT.iterdir() if path.name != "__pycache__"}
    assert found == {*ROOMS, *BESIDE_THE_ROOMS}


@pytest.mark.parametrize(("name", "targets"), [pytest.param(*m, id=m[0]) for m in graph().items()])
def test_a_module_imports_only_from_its_own_room_and_those_below(
    name: str, targets: set[str]
) -> None:
    own = room(name)
    if own in ("", "__main__"):  # the package and the command line's door may open any room
        return
    below = ROOMS[ROOMS.index(own) :]
    wrong = sorted(t for t in targets if room(t) not in below and t != "gendataagent")
    assert not wrong, f"{name} imports {wrong}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    edges = {
        name: {target for target in targets if target != "gendataagent"}
        for name, targets in graph().items()
        if name != "gendataagent"
    }
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        pytest.fail(f"cycle: {' -> '.join(error.args[1])}")


def test_tests_stand_in_the_same_rooms() -> None:
    here = Path(__file__).parent
    found = {path.parent.name for path in here.glob("*/test_*.py")}
    assert found <= set(ROOMS)


@pytest.mark.parametrize(
    "module",
    ["", ".cli", ".report", ".report.audit_page", ".report.review", ".runs.preflight",
     ".runs.doctor", ".generation.backends", ".agent.filtering", ".agent.selection"],
)  # fmt: skip
def test_nothing_heavy_is_imported_before_it_is_used(module: str) -> None:
    code = f"import sys, gendataagent{module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert f"gendataagent{module}" in loaded
    assert not set(loaded) & set(HEAVY)


def test_backends_are_built_and_described_without_torch() -> None:
    code = (
        "import sys\nfrom gendataagent.config import RunConfig\n"
        "from gendataagent.generation.backends import build_backends\n"
        "settings = {'device': 'cpu', 'generation': {'generator': 'tiny-sd'}}\n"
        "generator = build_backends(RunConfig.from_dict(settings)).generator\n"
        "print(generator.describe().name, *sys.modules)"
    )
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert output[0] == "tiny-sd"
    assert not set(output) & set(HEAVY)


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys\nfrom gendataagent.cli import main\nsys.argv = ['gendataagent', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not set(loaded.stdout.split()) & set(HEAVY)
