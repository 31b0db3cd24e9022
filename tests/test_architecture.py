"""Imports go one way: a module knows only modules of rows above its own.

The rows are read from docs/architecture.md. A new module gets its place there; if none fits, it
knows too much. Modules of one package (`data`, `report`, ...) may import each other.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gendataagent

ROOT = Path(gendataagent.__file__).parent
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "architecture.md"
FIRST_TABLE = DOCUMENT.read_text(encoding="utf-8").partition("\n## ")[0]
ROW_OF = {
    module: int(row)
    for row, names in re.findall(r"^\| (\d+) \| ([a-z_, ]+) \|", FIRST_TABLE, re.M)
    for module in names.split(", ")
} | {"__main__": 99}
# What the report may know: it reads run folders where torch is not even installed.
REPORT_KNOWS = {"errors", "records", "settings", "storage", "config", "report"}
HEAVY = ("torch", "diffusers", "transformers", "datasets", "accelerate", "peft")


def modules() -> Iterator[tuple[str, Path]]:
    """Yield the name inside the package ("data.images", "config") and file of every module."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:  # the package itself holds its version and the shortcuts for users
            yield name, path


def imported(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield what a file imports of the package, and whether as soon as it is imported itself.

    Imports under `if TYPE_CHECKING` are left out: they name types and load nothing.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written out in full here"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("gendataagent."):
                yield name.removeprefix("gendataagent."), id(node) in top


def first(name: str) -> str:
    return name.split(".")[0]


def test_every_module_has_its_row() -> None:
    assert {first(name) for name, _ in modules()} == set(ROW_OF)


@pytest.mark.parametrize(("name", "path"), [pytest.param(*m, id=m[0]) for m in modules()])
def test_a_module_imports_only_from_rows_above(name: str, path: Path) -> None:
    own = first(name)
    wrong = [
        target
        for target, _ in imported(path)
        if first(target) in ROW_OF and first(target) != own and ROW_OF[first(target)] >= ROW_OF[own]
    ]
    assert not wrong, f"{name} (row {ROW_OF[own]}) imports {wrong}"


def test_the_report_knows_nothing_but_the_files_of_a_run() -> None:
    known = {
        first(target)
        for name, path in modules()
        if first(name) == "report"
        for target, _ in imported(path)
    }
    assert known <= REPORT_KNOWS


def test_backends_do_not_know_each_other_nor_who_uses_them() -> None:
    for name, path in modules():
        if not name.startswith("backends."):
            continue
        family = ".".join(name.split(".")[:2])
        for target, _ in imported(path):
            if first(target) == "backends":
                assert target.startswith(family), f"{name} imports {target}"


def test_components_import_backends_only_when_used() -> None:
    at_once = [t for t, at_top in imported(ROOT / "components.py") if at_top]
    assert not [target for target in at_once if first(target) == "backends"]


@pytest.mark.parametrize(
    "module", ["", ".cli", ".report", ".components", ".filtering", ".selection", ".doctor"]
)
def test_nothing_heavy_is_imported_before_it_is_used(module: str) -> None:
    code = f"import sys, gendataagent{module}; print(*sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert f"gendataagent{module}" in told
    assert not set(told) & set(HEAVY)


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys\nfrom gendataagent.cli import main\nsys.argv = ['gendataagent', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    print(*sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(told.stdout.split()) & set(HEAVY)
