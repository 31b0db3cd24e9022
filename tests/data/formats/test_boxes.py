"""COCO and Pascal VOC as their tools write them: boxes become images, cut where they should be."""

from __future__ import annotations

import contextlib
import json
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gendataagent.config import DataConfig, RunConfig
from gendataagent.core.errors import DataError, GenDataAgentError
from gendataagent.data import ImageSplits, load_data
from gendataagent.runs.planning.counts import count_listed

SIZE = (120, 80)
KINDS = ("cat", "dog")
# label, (left, top, width, height)
Boxes = Sequence[tuple[str, tuple[float, float, float, float]]]
PLACES = ((10, 10, 30, 20), (60, 30, 40, 40))
Write = Callable[..., None]


def photo(path: Path, number: int, size: tuple[int, int] = SIZE) -> None:
    """A photograph with a coloured field at each of `PLACES`; the rest is noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    for place, (left, top, width, height) in enumerate(PLACES):
        patch = np.random.default_rng(1000 + number * 2 + place)
        field = patch.integers(0, 255, (height, width, 3), dtype=np.uint8)
        field[..., 0] = 200 + place
        image.paste(Image.fromarray(field), (left, top))
    image.save(path)


def write_coco(root: Path, split: str, photos: Mapping[str, Boxes], **more: Any) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, boxes) in enumerate(photos.items()):
        images.append(
            {"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1], "license": 1}
        )
        for label, box in boxes:
            annotations.append(
                {"id": len(annotations), "image_id": number, "category_id": 5 + KINDS.index(label),
                 "bbox": list(box), "area": box[2] * box[3], "iscrowd": 0, "segmentation": []}
            )  # fmt: skip
    content = {
        "info": {}, "licenses": [], "images": images,
        "annotations": [*annotations, *more.get("annotations", [])],
        "categories": [{"id": 5 + n, "name": k, "supercategory": ""} for n, k in enumerate(KINDS)],
    }  # fmt: skip
    path = root / "annotations" / f"instances_{split}2017.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_voc(root: Path, split: str, photos: Mapping[str, Boxes], **_: Any) -> None:
    for name, boxes in photos.items():
        top = ElementTree.Element("annotation")
        ElementTree.SubElement(top, "filename").text = name
        size = ElementTree.SubElement(top, "size")
        for key, value in zip(("width", "height", "depth"), (*SIZE, 3), strict=True):
            ElementTree.SubElement(size, key).text = str(value)
        for label, (left, upper, width, height) in boxes:
            thing = ElementTree.SubElement(top, "object")
            ElementTree.SubElement(thing, "name").text = label
            box = ElementTree.SubElement(thing, "bndbox")
            places = (left + 1, upper + 1, left + width, upper + height)
            for key, edge in zip(("xmin", "ymin", "xmax", "ymax"), places, strict=True):
                ElementTree.SubElement(box, key).text = str(edge)
        path = root / "Annotations" / f"{Path(name).stem}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        ElementTree.ElementTree(top).write(path)
    lists = root / "ImageSets/Main"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / f"{split}.txt").write_text("".join(f"{Path(name).stem}\n" for name in photos))


def make(root: Path, kind: str, count: int = 8) -> Path:
    """Write photographs of two boxes each, in train and val, with their annotations."""
    for split, numbers in (("train", range(count)), ("val", range(count, count + 4))):
        folder = f"{split}2017" if kind == "coco" else "JPEGImages"
        names = {
            f"{n:06}.png": [(k, p) for k, p in zip(KINDS, PLACES, strict=True)] for n in numbers
        }
        for number, name in zip(numbers, names, strict=True):
            photo(root / folder / name, number)
            if kind == "voc":  # masks of the same names
                photo(root / "SegmentationClass" / name, number)
        (write_coco if kind == "coco" else write_voc)(root, split, names)
    return root


def load(path: Path, **settings: object) -> ImageSplits:
    return load_data(DataConfig(path=str(path), **settings), seed=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["coco", "voc"])
def test_boxes_are_cut_where_they_are(tmp_path: Path, kind: str) -> None:
    data = pickle.loads(pickle.dumps(load(make(tmp_path, kind), box_margin=0.0)))
    assert data.class_names == KINDS
    folder = "train2017" if kind == "coco" else "JPEGImages"
    assert len(data.validation) == 8
    assert all(id_.startswith(folder) and "#" in id_ for id_ in data.train.ids)
    for images in (data.train, data.validation, data.test):
        for index, label in enumerate(images.labels):
            crop = images.image(index)
            assert crop.size == PLACES[label][2:]
            assert set(np.asarray(crop)[..., 0].ravel()) == {200 + label}
    assert any(note.startswith("Cut 24 boxes out of 12 photographs") for note in data.notes)
    count = count_listed(RunConfig(data=DataConfig(path=str(tmp_path))))
    assert count.validation == 8


@pytest.mark.parametrize("kind", ["coco", "voc"])
def test_boxes_of_one_photograph_stay_in_one_split(tmp_path: Path, kind: str) -> None:
    data = load(make(tmp_path, kind, count=24))
    photos = [{id_.split("#")[0] for id_ in part.ids} for part in (data.train, data.test)]
    assert len(data.test)
    assert not photos[0] & photos[1]
    without = load(tmp_path, group_by="")
    photos = [{id_.split("#")[0] for id_ in part.ids} for part in (without.train, without.test)]
    assert not photos[0] & photos[1]


def test_the_margin_is_added_and_ends_with_the_photograph(tmp_path: Path) -> None:
    photo(tmp_path / "train/a.png", 1)
    boxes: Boxes = [("cat", (0, 0, 20, 40)), ("dog", (50, 30, 40, 20)), ("dog", (100, 60, 20, 20))]
    write_coco(tmp_path, "train", {"a.png": boxes})
    data = load(tmp_path, box_margin=0.5)
    sizes = {
        id_: images.image(n).size
        for images in data.by_name().values()
        for n, id_ in enumerate(images.ids)
    }
    assert sizes == {
        "train/a.png#0": (30, 60), "train/a.png#1": (80, 40), "train/a.png#2": (30, 30)
    }  # fmt: skip


def test_crowds_and_tiny_boxes_are_left_out_and_counted(tmp_path: Path) -> None:
    names: dict[str, Boxes] = {}
    for number in range(6):
        photo(tmp_path / f"train/{number}.png", number)
        names[f"{number}.png"] = [(KINDS[number % 2], PLACES[0]), ("dog", (5, 5, 30, 7))]
    entry = {"image_id": 0, "category_id": 5, "bbox": [0, 0, 50, 50]}
    more = [
        {**entry, "id": 90, "iscrowd": 1},
        {**entry, "id": 91, "bbox": []},
        {**entry, "id": 92, "bbox": [30, 30, -5, 10]},
    ]
    write_coco(tmp_path, "train", names, annotations=more)
    photo(tmp_path / "train/without.png", 77)
    data = load(tmp_path)
    assert len(data.to_rows()) == 6
    assert (
        "Left out boxes: 1 of crowds (iscrowd); 7 smaller than 16 px (data.box_min_px); 1 without "
        "a bbox." in data.notes
    )
    assert "Left out 1 image without a box." in data.notes
    assert len(load(tmp_path, box_min_px=7, near_duplicates="off").to_rows()) == 12


def test_the_wrong_photograph_and_a_missing_one_are_quarantined(tmp_path: Path) -> None:
    make(tmp_path, "coco")
    photo(tmp_path / "train2017/000000.png", 0, size=SIZE[::-1])
    (tmp_path / "train2017/000001.png").unlink()
    reasons = {bad.name: bad.reason for bad in load(tmp_path).quarantined}
    assert (
        "is of a photograph of 120 x 80 px, but it has 80 x 120"
        in reasons["train2017/000000.png#0"]
    )
    assert "there is no such image" in reasons["000001.png"]


@pytest.mark.parametrize("orientation", [1, 5, 6, 7, 8])
@pytest.mark.parametrize("upright", [False, True])
def test_boxes_of_turned_photographs(tmp_path: Path, orientation: int, upright: bool) -> None:
    for number in range(4):
        photo(tmp_path / f"train/{number}.png", number)
    plain = {f"{n}.png": [("cat", PLACES[0]), ("dog", PLACES[1])] for n in range(4)}
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in plain:
        with Image.open(tmp_path / "train" / name) as image:
            image.save(tmp_path / "train" / name, exif=exif)
    write_coco(tmp_path, "train", plain)
    if upright and orientation > 1:  # the size of another photograph
        path = tmp_path / "annotations/instances_train2017.json"
        path.write_text(path.read_text().replace('"width": 120', '"width": 121'))
        with pytest.raises(DataError, match="is of a photograph of 121 x 80 px"):
            load(tmp_path)
        return
    data = load(tmp_path, box_margin=0.0)
    for images in data.by_name().values():
        for index, label in enumerate(images.labels):
            crop = images.image(index)
            size = PLACES[label][2:]
            assert crop.size == (size if orientation == 1 else size[::-1])
            assert set(np.asarray(crop)[..., 0].ravel()) == {200 + label}


def test_roboflow_puts_annotations_beside_the_photographs(tmp_path: Path) -> None:
    make(tmp_path / "a", "coco")
    for split, folder in (("train", "train"), ("val", "valid")):
        (tmp_path / "a" / f"{split}2017").rename(tmp_path / "a" / folder)
        source = tmp_path / f"a/annotations/instances_{split}2017.json"
        source.rename(tmp_path / f"a/{folder}/_annotations.coco.json")
    assert len(load(tmp_path / "a").validation) == 8
    make(tmp_path / "b", "voc")
    for place in (tmp_path / "b").glob("*/*.*"):
        number = int(place.stem) if place.stem.isdecimal() else None
        part = tmp_path / "b" / ("train" if number is not None and number < 8 else "valid")
        part.mkdir(exist_ok=True)
        if place.suffix == ".xml" or place.parent.name == "JPEGImages":
            place.rename(part / place.name)
    for split in ("train", "val"):
        (tmp_path / f"b/ImageSets/Main/{split}.txt").unlink()
    assert len(load(tmp_path / "b").validation) == 8


def test_photographs_in_class_folders_are_asked_about(tmp_path: Path) -> None:
    names: dict[str, Boxes] = {}
    for number in range(8):
        name = f"{('left', 'right')[number % 2]}/{number}.png"
        photo(tmp_path / name, number)
        names[name] = [(KINDS[number // 4], PLACES[0])]
    write_coco(tmp_path, "all", names)
    with pytest.raises(DataError, match=r"left, right.*data\.layout=coco or voc .*layout=folder"):
        load(tmp_path)
    assert load(tmp_path, layout="coco").class_names == KINDS
    assert load(tmp_path, layout="folder").class_names == ("left", "right")


def test_a_layout_without_its_annotations_is_refused(tmp_path: Path) -> None:
    photo(tmp_path / "cat/a.png", 1)
    for layout in ("coco", "voc"):
        with pytest.raises(DataError, match=rf"data\.layout is {layout}, but .* holds no annotat"):
            load(tmp_path, layout=layout)


BOMB = """<?xml version="1.0"?>
<!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<annotation><object><name>&b;</name></object></annotation>"""
OUTSIDE = """<!DOCTYPE annotation [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<annotation><object><name>&x;</name></object></annotation>"""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB.encode(), "declares a document type"),
        (BOMB.replace("?>", " encoding='utf-16'?>").encode("utf-16"), "declares a document type"),
        (OUTSIDE.encode(), "declares a document type"),
        (b"<annotation>" + b"<a>" * 100_000, "nested too deeply"),
        (b"<annotation><object>", "no element found"),
        (b"", "no element found"),
        (b"<html/>", "is no annotation of VOC, but <html>"),
        (b"<annotation><object><name>cat</name><bndbox><xmin>a</xmin></bndbox></object></annotation>",
         r"object 1 \(cat\) has a bndbox without four numbers"),
        (b"<annotation><object><name>cat</name><bndbox><xmin>inf</xmin><ymin>1</ymin><xmax>1</xmax>"
         b"<ymax>1</ymax></bndbox></object></annotation>", "no place in an image"),
    ],
)  # fmt: skip
def test_xml_that_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    make(tmp_path, "voc")
    (tmp_path / "Annotations/000005.xml").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_a_size_of_too_many_digits_is_none(tmp_path: Path) -> None:
    make(tmp_path, "voc")
    whole = load(tmp_path)
    path = tmp_path / "Annotations/000005.xml"
    text, changed = re.subn("<width>.*?</width>", f"<width>{'9' * 5000}</width>", path.read_text())
    assert changed == 1
    path.write_text(text)
    assert load(tmp_path).train.ids == whole.train.ids


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [1, 2, 3]}, "annotation with the id 0 is none"),
        ({"bbox": ["a", 1, 2, 3]}, "annotation with the id 0 is none .*four numbers"),
        ({"bbox": [10**400, 1, 2, 3]}, "'1000.* is no place in an image"),
        ({"image_id": 999}, "annotation with the id 0 is none"),
        ({"category_id": [1]}, "annotation with the id 0 is none"),
        ({"id": 1}, r"annotations\[1\] has the id 1, allowed are integers, each once"),
        ({"id": None}, r"annotations\[0\] has the id None"),
    ],
)
def test_coco_that_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    make(tmp_path, "coco")
    path = tmp_path / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0].update(change)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("name", ["../private.png", "/etc/x.png", "C:\\x.png"])
def test_a_photograph_outside_is_refused(tmp_path: Path, name: str) -> None:
    root = make(tmp_path / "data", "coco")
    photo(tmp_path / "private.png", 1)
    path = root / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = f"../{name}" if name.startswith("..") else name
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="outside"):
        load(root)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 200) | st.floats() | st.sampled_from(["0.png", ""]),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=5,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=settings().max_examples // 3,
)
@given(data=st.data())
def test_any_annotation_is_images_or_a_sentence(tmp_path: Path, data: st.DataObject) -> None:
    photo(tmp_path / "train/0.png", 0)
    write_coco(tmp_path, "train", {"0.png": [("cat", PLACES[0]), ("dog", PLACES[1])]})
    path = tmp_path / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    for _ in range(data.draw(st.integers(0, 3))):
        part = content[data.draw(st.sampled_from(["images", "annotations", "categories"]))]
        if isinstance(part, list) and part and isinstance(part[0], dict):
            part[0][data.draw(st.sampled_from(sorted(part[0])))] = data.draw(VALUES)
    path.write_text(json.dumps(content))
    with contextlib.suppress(GenDataAgentError):
        load(tmp_path)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=settings().max_examples // 3,
)
@given(data=st.data())
def test_any_xml_is_images_or_a_sentence(tmp_path: Path, data: st.DataObject) -> None:
    photo(tmp_path / "JPEGImages/0.png", 0)
    write_voc(tmp_path, "train", {"0.png": [("cat", PLACES[0]), ("dog", PLACES[1])]})
    path = tmp_path / "Annotations/0.xml"
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    with contextlib.suppress(GenDataAgentError):
        load(tmp_path)
