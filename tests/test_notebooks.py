"""The notebooks are valid, hold no outputs, and their cells run in order on few images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

nbformat: Any = pytest.importorskip("nbformat", reason="pip install nbformat")

FOLDER = Path(__file__).parents[1] / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
README = FOLDER.parents[1] / "README.md"
MAX_BYTES = 20_000
LINK = re.compile(r"\]\(([^):\s]+)\)")


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def script(path: Path, **values: object) -> str:
    """Return the code of a notebook with values of its own in the cell of parameters.

    The cell that installs is left out: it is for places where the package is missing.
    """
    parts = []
    for cell in read(path).cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type != "code" or "install" in tags:
            continue
        parts.append(cell.source)
        if "parameters" in tags:
            parts += [f"assert {name}\n{name} = {value!r}" for name, value in values.items()]
    return "\n\n".join(parts)


def execute(name: str, **values: object) -> None:
    """Run the cells of a notebook here, in one namespace."""
    exec(compile(script(FOLDER / name, **values), name, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_valid_small_and_without_outputs(path: Path) -> None:
    book = read(path)
    nbformat.validate(book)
    assert path.stat().st_size < MAX_BYTES
    for cell in book.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)
            assert ("%pip" in cell.source) == ("install" in cell.metadata.get("tags", []))
        for link in LINK.findall(cell.source if cell.cell_type == "markdown" else ""):
            assert (FOLDER / link).is_file(), link


def test_the_readme_names_every_notebook() -> None:
    text = README.read_text("utf-8")
    assert len(NOTEBOOKS) == 4
    assert all(f"(examples/notebooks/{path.name})" in text for path in NOTEBOOKS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_first_look_then_its_pool(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    execute("first_look.ipynb", DATA=str(photo_folder), OUT="run", EPOCHS=3)
    printed = capsys.readouterr().out
    assert re.search(r"^[1-9]\d* images made, [1-9]\d* kept$", printed, re.M)
    assert printed.strip().endswith("report.html")
    execute("pool.ipynb", OUT="run")
    assert (tmp_path / "run-kept" / "state.json").is_file()


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", ["transformers_trainer", pytest.param("lightning_trainer", marks=pytest.mark.slow)]
)
def test_a_loop_of_ones_own(
    name: str, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if name.startswith("lightning"):
        pytest.importorskip("lightning", reason="pip install lightning")
    monkeypatch.chdir(tmp_path)
    execute(f"{name}.ipynb", DATA=str(photo_folder), OUT="run", EPOCHS=3, SHARE=0.2)
    printed = capsys.readouterr().out
    assert re.search(r"^3 steps", printed, re.M)
    assert re.search(r"^[1-9]\d* synthetic images in the last epochs", printed, re.M)
