"""The walk through a folder of somebody else's: it ends, and reads images only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from gendataagent.core.errors import DataError
from gendataagent.core.files import open_regular
from gendataagent.data import load_data
from gendataagent.data.formats.walk import find_files

pytestmark = pytest.mark.timeout(20)


def save(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (len(name), 0, 0)).save(root / name)


def pipe(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("name", ["@eaDir", "@EADIR", "__MACOSX", "#recycle", "$RECYCLE.BIN"])
def test_system_folders_are_skipped_at_any_depth_and_named(tmp_path: Path, name: str) -> None:
    save(tmp_path, "cat/a.png", f"cat/{name}/a.png/small.png", f"{name}/b.png")
    found = find_files(tmp_path)
    assert found.images == ["cat/a.png"]
    assert found.folders == ["cat"]
    assert found.notes() == [
        f"Skipped 2 folders of thumbnails or system files: {name}, cat/{name}."
    ]


@pytest.mark.parametrize("name", [".thumbnails", ".cache", ".@__thumb"])
def test_hidden_folders_are_skipped(tmp_path: Path, name: str) -> None:
    save(tmp_path, "cat/a.png", f"cat/{name}/a.png")
    assert find_files(tmp_path).images == ["cat/a.png"]


def test_folders_called_thumbnails_are_skipped_beside_images_only(tmp_path: Path) -> None:
    save(tmp_path, "cat/a.png", "cat/thumbs/a.png", "thumbs/b.png", "stray.png")
    found = find_files(tmp_path)
    assert sorted(found.images) == ["cat/a.png", "stray.png", "thumbs/b.png"]
    assert found.system == ["cat/thumbs"]


def test_folders_with_two_links_each_end(tmp_path: Path) -> None:
    for number in range(25):
        save(tmp_path, f"cat/{number:02}/a.png")
        for name in ("one", "two"):
            (tmp_path / f"cat/{number:02}/{name}").symlink_to(
                tmp_path / f"cat/{(number + 1) % 25:02}"
            )
    found = find_files(tmp_path)
    assert sorted(found.images) == [f"cat/{number:02}/a.png" for number in range(25)]
    assert len(found.repeated) == 50


def test_a_folder_is_read_under_its_own_name_before_any_link(tmp_path: Path) -> None:
    save(tmp_path, "zebra/a.png")
    (tmp_path / "ant").symlink_to(tmp_path / "zebra")
    (tmp_path / "bee").symlink_to(tmp_path)
    found = find_files(tmp_path)
    assert found.images == ["zebra/a.png"]
    assert sorted(found.repeated) == ["ant", "bee"]


@pytest.mark.parametrize("target", ["/", "/proc/self", "/proc", "/sys", ".."])
def test_links_through_the_whole_disk_are_not_followed(tmp_path: Path, target: str) -> None:
    root = tmp_path / "deep" / "photos"
    save(root, "cat/a.png")
    (root / "cat" / "all").symlink_to(target if target != ".." else root.parent)
    found = find_files(root)
    assert found.images == ["cat/a.png"]
    assert found.repeated == ["cat/all"]


@pytest.mark.parametrize("name", ["train.parquet", "TRAIN.PARQUET", "cat/a.jpg"])
def test_pipes_are_quarantined_under_any_name(tmp_path: Path, name: str) -> None:
    save(tmp_path, "cat/b.png", "dog/b.png")
    pipe(tmp_path / name)
    data = load_data(str(tmp_path))
    assert [(bad.name, bad.reason) for bad in data.quarantined] == [(name, "not a regular file")]


def test_a_link_to_a_pipe_and_a_device_are_no_images(tmp_path: Path) -> None:
    save(tmp_path, "cat/b.png")
    (tmp_path / "cat/c.png").symlink_to(pipe(tmp_path / "aside"))
    (tmp_path / "cat/d.png").symlink_to("/dev/zero")
    assert {bad.name for bad in find_files(tmp_path).quarantined} == {"cat/c.png", "cat/d.png"}


@pytest.mark.parametrize("name", ["x", "x.parquet", "dataset_dict.json", "state.json"])
def test_a_pipe_as_data_is_refused_with_a_sentence(tmp_path: Path, name: str) -> None:
    path = pipe(tmp_path / name)
    for place in (path, tmp_path):
        with pytest.raises(DataError, match=r"regular file|no images"):
            load_data(str(place))


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    for path in (pipe(tmp_path / "pipe"), Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match=r"not a regular file|a folder"):
            open_regular(path)
    (tmp_path / "file").write_bytes(b"x")
    with open_regular(tmp_path / "file") as stream:
        assert stream.read() == b"x"


def test_a_file_system_of_processes_is_no_data() -> None:
    if not os.path.isdir("/proc/self"):
        pytest.skip("this system has no /proc")
    with pytest.raises(DataError, match="not on a disk"):
        load_data("/proc")


def test_links_out_of_the_folder_are_said(tmp_path: Path) -> None:
    save(tmp_path / "data", "cat/a.png", "cat/b.png", "dog/a.png", "dog/b.png")
    save(tmp_path / "private", "c.png")
    (tmp_path / "data/cat/inside.png").symlink_to(tmp_path / "data/cat/a.png")
    assert not any("links out" in note for note in find_files(tmp_path / "data").notes())
    (tmp_path / "data/cat/c.png").symlink_to(tmp_path / "private/c.png")
    (tmp_path / "data/dog/more").symlink_to(tmp_path / "private")
    notes = find_files(tmp_path / "data").notes()
    assert any(note.endswith("run: cat/c.png, dog/more.") for note in notes)


def test_a_way_through_the_folder_itself_is_read(tmp_path: Path) -> None:
    save(tmp_path / "photos", "cat/a.png", "dog/a.png")
    found = find_files(tmp_path / "photos/cat/../../photos")
    assert sorted(found.images) == ["cat/a.png", "dog/a.png"]
    assert sorted(find_files(tmp_path / "photos/cat/../cat").images) == ["a.png"]


def test_a_run_inside_the_data_is_no_class(tmp_path: Path) -> None:
    save(tmp_path, *(f"{name}/{number}.png" for name in ("cat", "dog") for number in range(4)))
    save(tmp_path, "runs/first/pool/000/x.png", "runs/first/data/x.png")
    for name in ("config.toml", "manifest.json"):
        (tmp_path / "runs/first" / name).touch()
    data = load_data(str(tmp_path))
    assert data.class_names == ("cat", "dog")
    assert any("Skipped 1 run folder" in note for note in data.notes)
