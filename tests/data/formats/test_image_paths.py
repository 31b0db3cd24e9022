"""Paths in a table's cells lead to images of the data set and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError, StorageError
from gendataagent.data import ImageSplits, load_data
from gendataagent.data.generator_corpus import load_generator_corpus

FILE = "train.parquet"
pytestmark = pytest.mark.timeout(20)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A folder for a table with six images beside it, and private images elsewhere."""
    for folder in ("data/images", "private"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(6):
            colour = (40 * number, 0, 0)
            Image.new("RGB", (8, 8), colour).save(tmp_path / folder / f"{number}.png")
    return tmp_path / "data"


def write(table: Path, last: object, *, plain: bool = False) -> None:
    paths = [*(f"images/{number}.png" for number in range(5)), last]
    images = paths if plain else [{"bytes": None, "path": path} for path in paths]
    pq.write_table(pa.table({"image": images, "label": ["cat", "dog"] * 3}), table / FILE)


def load(table: Path, **settings: object) -> ImageSplits:
    return load_data(DataConfig(path=str(table / FILE), **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize(
    "path",
    ["../private/5.png", "images/../../private/5.png", "/etc/x.png", "{private}", "C:\\x.png",
     "..\\private\\5.png", "\\\\server\\x.png", ".."],
)  # fmt: skip
def test_a_path_outside_the_data_is_refused_by_row(table: Path, path: str, plain: bool) -> None:
    path = path.format(private=table.parent / "private/5.png")
    write(table, path, plain=plain)
    settings = {"image_column": "image"}
    with pytest.raises(DataError, match=r"train.parquet#5 names .*data.image_root"):
        load(table, **settings)
    with pytest.raises(DataError, match=r"train.parquet#5 names"):
        load_generator_corpus(table / FILE, DataConfig(image_column="image"))


def test_the_setting_allows_one_root_and_no_more(table: Path) -> None:
    root = table.parent
    for path in (str(root / "private/5.png"), "data/../private/5.png"):
        images = [f"{root}/data/images/{number}.png" for number in range(5)]
        rows = [{"bytes": None, "path": one} for one in (*images, path)]
        pq.write_table(pa.table({"image": rows, "label": ["cat", "dog"] * 3}), table / FILE)
        data = load(table, image_root=str(root))
        assert sum(map(len, data.by_name().values())) == 6
    write(table, str(root / "private/5.png"))
    with pytest.raises(DataError, match="outside"):
        load(table, image_root=str(table))
    with pytest.raises(DataError, match=r"data\.image_root .* is not a folder"):
        load(table, image_root=str(root / "nowhere"))


def test_a_path_beside_the_bytes_of_an_image_is_not_followed(table: Path) -> None:
    content = (table / "images/0.png").read_bytes()
    rows = [{"bytes": content + bytes([n]), "path": "/home/them/x.png"} for n in range(6)]
    pq.write_table(pa.table({"image": rows, "label": ["cat", "dog"] * 3}), table / FILE)
    assert sum(map(len, load(table).by_name().values())) == 6


def test_pipes_and_damaged_paths_in_cells_are_quarantined(table: Path) -> None:
    os.mkfifo(table / "images/pipe.png")
    for path, reason in (
        ("images/pipe.png", "not a regular file"),
        ("images/a\0b.png", "no image"),
        ("", "no image"),
        ("x" * 5000, "too long"),
    ):
        write(table, path)
        (bad,) = load(table).quarantined
        assert bad.name == "train.parquet#5"
        assert reason in bad.reason


def test_cells_that_are_arrays_are_quarantined_with_a_reason(table: Path) -> None:
    pq.write_table(pa.table({"image": [[1, 2, 3]] * 4, "label": ["cat", "dog"] * 2}), table / FILE)
    with pytest.raises(DataError, match="holds a list, not an encoded image"):
        load(table, image_column="image")


def test_a_saved_data_set_cannot_name_files_outside_its_folder(table: Path) -> None:
    (table / "state.json").write_text('{"_data_files": [{"filename": "../private/x.arrow"}]}')
    with pytest.raises(DataError, match="outside its folder"):
        load_data(str(table))


@pytest.mark.parametrize("path", ["link.png", "elsewhere/5.png"])
def test_a_link_that_leads_outside_is_refused(table: Path, path: str) -> None:
    (table / "link.png").symlink_to(table.parent / "private/5.png")
    (table / "elsewhere").symlink_to(table.parent / "private")
    write(table, path)
    with pytest.raises(DataError, match=r"train.parquet#5 names"):
        load(table)


def test_the_folder_itself_may_be_a_link(table: Path) -> None:
    write(table, "images/5.png")
    (table.parent / "link").symlink_to(table)
    assert not load(table.parent / "link").quarantined


def test_a_home_folder_that_is_not_there_is_named(table: Path) -> None:
    write(table, "images/5.png")
    with pytest.raises(StorageError, match="no such home folder"):
        load(table, image_root="~nobody-of-this-name/images")


@pytest.mark.parametrize("name", ["image", "file_name", "path"])
def test_a_column_of_paths_is_found_by_its_name(table: Path, name: str) -> None:
    paths = [f"images/{number}.png" for number in range(6)]
    pq.write_table(pa.table({name: paths, "label": ["cat", "dog"] * 3}), table / FILE)
    assert not load(table).quarantined
