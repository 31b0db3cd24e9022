"""An export never takes the place of anything but an unchanged export."""

from __future__ import annotations

from pathlib import Path

import pytest

from gendataagent.config import RunConfig
from gendataagent.config.run_config_file import create_run_folder
from gendataagent.core.errors import ModelError, RunFolderError, StorageError
from gendataagent.runs.exporting.place import check_place, export_folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    config = RunConfig.from_dict({"data": {"path": str(tmp_path / "photos")}})
    return create_run_folder(tmp_path / "run", config).path


def write(path: Path, run: Path, content: str = "first") -> Path:
    with export_folder(check_place(path, run), {"what": "test"}) as aside:
        (aside / "sub").mkdir()
        (aside / "sub" / "a.txt").write_text(content)
        (aside / "README.md").write_text("card")
    return path


def test_an_unchanged_export_is_replaced(tmp_path: Path, run: Path) -> None:
    out = write(tmp_path / "out", run)
    assert write(out, run, "second").joinpath("sub", "a.txt").read_text() == "second"
    (tmp_path / "empty").mkdir()
    assert write(tmp_path / "empty", run).joinpath("README.md").exists()
    assert write(run / "export", run).is_dir()


def test_a_link_to_an_export_is_followed(tmp_path: Path, run: Path) -> None:
    out = write(tmp_path / "out", run)
    (tmp_path / "link").symlink_to(out)
    write(tmp_path / "link", run, "second")
    assert (tmp_path / "link").is_symlink()
    assert (out / "sub" / "a.txt").read_text() == "second"


@pytest.mark.parametrize("change", ["edited", "added", "added below"])
def test_what_a_user_changed_or_added_is_kept(change: str, tmp_path: Path, run: Path) -> None:
    out = write(tmp_path / "out", run)
    name = {"edited": "README.md", "added": "notes.txt", "added below": "sub/mine.txt"}[change]
    (out / name).write_text("mine")
    with pytest.raises(RunFolderError, match=f"changed since: {name}"):
        write(out, run)
    assert (out / name).read_text() == "mine"


@pytest.mark.parametrize(
    "mark", [None, "", "[]", '{"made_by": "somebody"}', '{"made_by": "gendataagent 1"}']
)
def test_other_folders_and_files_are_refused(mark: str | None, tmp_path: Path, run: Path) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "thesis.txt").write_text("precious")
    if mark is not None:
        (out / "export.json").write_text(mark)
    with pytest.raises(RunFolderError, match="is no export of gendataagent"):
        write(out, run)
    with pytest.raises(RunFolderError, match="is a file"):
        write(out / "thesis.txt", run)
    (out / "loop").symlink_to("loop")
    with pytest.raises(RunFolderError, match="is a file"):
        write(out / "loop", run)
    assert (out / "thesis.txt").read_text() == "precious"


def test_places_that_the_run_reads_are_refused(tmp_path: Path, run: Path) -> None:
    for place in (run, run / "pool" / "x", run / "classifier" / "y"):
        with pytest.raises(RunFolderError, match="is a part of the run"):
            check_place(place, run)
    for place in (tmp_path / "photos", tmp_path / "photos" / "export"):
        with pytest.raises(RunFolderError, match="lies inside the images of the run"):
            check_place(place, run)


def test_something_put_there_meanwhile_is_kept(tmp_path: Path, run: Path) -> None:
    out = check_place(tmp_path / "out", run)
    with pytest.raises(RunFolderError, match="is no export"), export_folder(out, {}):  # noqa: PT012
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("error", [ModelError("why"), StorageError("why"), RunFolderError("why")])
def test_errors_while_writing_are_not_disguised(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error), match=r"^why$"), export_folder(tmp_path / "out", {}):
        raise error
    assert not list(tmp_path.iterdir())
