"""What is not read is recognised, and the refusal says what to do."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError
from gendataagent.data.indexing import index_data
from tests.data.formats.test_folder import load, save


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("labels.xlsx", "Save the sheet as CSV"),
        ("instances.json", "For COCO or Pascal VOC give the folder"),
        ("data.yaml", "Give the folder of the images"),
        ("cat.jpg", "It is one image"),
    ],
)
def test_a_file_of_another_kind_says_what_to_give(tmp_path: Path, name: str, hint: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=f"not a supported file. {hint}"):
        load(tmp_path / name)


@pytest.mark.parametrize("form", ["train/{}/1{}", "{}/train/1{}", "{}/1{}"])
def test_boxes_of_yolo_are_no_classes(tmp_path: Path, form: str) -> None:
    save(tmp_path, form.format("images", ".png"))
    text = tmp_path / form.format("labels", ".txt")
    text.parent.mkdir(parents=True)
    text.write_text("0 .5 .5 .1 .1\n")
    with pytest.raises(DataError, match="as YOLO has boxes, which are not read"):
        load(tmp_path)
    with pytest.raises(DataError, match=r"^(?!.*YOLO)"):
        load(tmp_path, layout="folder")


def test_a_refused_archive_is_named_not_where_it_was_unpacked(tmp_path: Path) -> None:
    save(tmp_path, "one.png")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(tmp_path / "one.png", "one.png")
    with pytest.raises(DataError, match=r"no image in .*/photos\.zip is in a class folder") as bad:
        index_data(DataConfig(path=str(tmp_path / "photos.zip")))
    assert "unpacked" not in str(bad.value)
