"""Each format is read back by a reader that is not ours: same pixels, labels by name."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from gendataagent.agent.by_hand.rules import HandCounts
from gendataagent.agent.provenance import read_provenance, with_provenance
from gendataagent.agent.synthetic import SyntheticImages
from gendataagent.config import RunConfig
from gendataagent.core.png import png_bytes
from gendataagent.data import load_data
from gendataagent.runs.exporting.data_card import data_card
from gendataagent.runs.exporting.data_formats import DATA_FORMATS, parquet, webdataset
from gendataagent.runs.exporting.data_formats.image_folder import folder_names
from gendataagent.runs.exporting.rows import COLUMNS, Row, encoded, real_rows, synthetic_rows
from tests.agent.test_pool import candidate
from tests.data.decoding.test_shareable import drawn, exif_of

CLASSES = ("zebra", "test [train]", "..", "Cat", "cat", "null", "猫 :smile:")
PER_SPLIT = {"train": 3, "validation": 1, "test": 1}


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Turned JPEG photographs and one PNG of classes with hostile names, as a parquet file."""
    import datasets

    rows: list[dict[str, Any]] = []
    for split, count in PER_SPLIT.items():
        for label in range(len(CLASSES)):
            for number in range(count):
                buffer = io.BytesIO()
                pixels = np.asarray(drawn(side=24 + label)) ^ np.uint8(len(rows) * 3)
                kind = "PNG" if (label, number) == (1, 2) else "JPEG"
                Image.fromarray(pixels).save(buffer, kind, exif=exif_of(1 + 5 * (number % 2)))
                content = {"bytes": buffer.getvalue(), "path": None}
                rows.append({"image": content, "label": label, "split": split})
    folder = tmp_path_factory.mktemp("jpegs") / "hostile"
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    )
    for split in PER_SPLIT:
        own = [{k: r[k] for k in ("image", "label")} for r in rows if r["split"] == split]
        table = datasets.Dataset.from_list(own, features=features)
        (folder / "data").mkdir(parents=True, exist_ok=True)
        table.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="module")
def rows(jpegs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """Real rows, and two synthetic ones."""
    splits = load_data(str(jpegs))
    folder = tmp_path_factory.mktemp("made")
    made = []
    for number, name in enumerate(("cat", "test [train]")):
        one = candidate(f"s{number}", label=CLASSES.index(name), class_name=name,
                        prompt='a "cat",\n猫', generator="some/model")  # fmt: skip
        path = folder / one.file_name
        path.write_bytes(with_provenance(png_bytes(drawn(side=32)), one, "abc"))
        made.append((one, path))
    return [*real_rows(splits), *synthetic_rows(SyntheticImages(CLASSES, made))]


def exported(to: str, rows: list[Row], out: Path) -> Path:
    """Write rows and their card as an export has them."""
    out.mkdir()
    counted: list[int] = []
    DATA_FORMATS[to].write(out, rows, CLASSES, lambda: counted.append(1))
    assert len(counted) == len(rows)
    card = data_card(to, DATA_FORMATS[to], rows, CLASSES, _NO_FACTS, [], HandCounts(), [])
    (out / "README.md").write_text(card, encoding="utf-8")
    (out / "export.json").write_text("{}")
    return out


class _NoFacts:
    """Of a run that says nothing about itself."""

    run, data, result, config = "", "photos", None, RunConfig()

    def terms(self) -> str:
        return "none known"


_NO_FACTS: Any = _NoFacts()


def pixels_of(image: Image.Image) -> bytes:
    return ImageOps.exif_transpose(image).convert("RGB").tobytes()


def expected(rows: list[Row]) -> dict[str, dict[str, tuple[str, bytes, dict[str, Any]]]]:
    """Split -> id -> class name, pixels, and the other values."""
    found: dict[str, dict[str, tuple[str, bytes, dict[str, Any]]]] = {}
    for row, image in encoded(rows):
        pixels = pixels_of(Image.open(io.BytesIO(image.content)))
        values = {key: value for key, value in row.values.items() if value is not None}
        name = CLASSES[row.label]
        found.setdefault(row.split, {})[row.values["id"]] = (name, pixels, values)
    return found


def by_datasets(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    datasets.disable_progress_bars()
    return datasets.load_dataset(str(folder))


@pytest.mark.parametrize("to", ["imagefolder", "parquet"])
def test_datasets_reads_tables_and_folders(
    to: str, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = by_datasets(exported(to, rows, tmp_path / "out"), tmp_path / "cache", monkeypatch)
    assert set(loaded) == set(PER_SPLIT)
    for split, images in expected(rows).items():
        assert loaded[split].features["label"].names == list(CLASSES)
        assert len(loaded[split]) == len(images)
        for row in loaded[split]:
            name, pixels, values = images[row["id"]]
            assert CLASSES[row["label"]] == name == row["class_name"]
            assert pixels_of(row["image"]) == pixels
            assert {key: row[key] for key in COLUMNS if row[key] is not None} == values


def test_datasets_reads_webdataset(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webdataset, "_SHARD_ROWS", 5)
    out = exported("webdataset", rows, tmp_path / "out")
    assert json.loads((out / "classes.json").read_text(encoding="utf-8")) == list(CLASSES)
    assert len(list(out.glob("train-*.tar"))) == 5
    assert len(list(out.glob("test-*.tar"))) == 2
    loaded = by_datasets(out, tmp_path / "cache", monkeypatch)
    for split, images in expected(rows).items():
        assert len(loaded[split]) == len(images)
        for row in loaded[split]:
            name, pixels, values = images[row["json"]["id"]]
            assert row["json"]["label"] == name == CLASSES[int(row["cls"])]
            history = json.loads(row["json"]["history"])
            known = {"class_name": name, "source": row["json"]["source"], "id": row["json"]["id"]}
            assert known | history == values
            assert row["json"]["prompt"] == values.get("prompt", "")
            if values["source"] == "real" and row["json"]["id"] in _jpeg_ids(rows):
                assert pixels_of(row["jpg"]) == pixels
            else:  # encoded anew, at high quality, so that the set has one type of image
                here, there = (np.frombuffer(b, np.uint8) for b in (pixels_of(row["jpg"]), pixels))
                assert np.abs(here.astype(int) - there).mean() < 4
            if values["source"] == "synthetic":
                inside = json.loads(row["jpg"].info["comment"])
                assert (inside["synthetic"], inside["run"]) == ("true", "abc")


def _jpeg_ids(rows: list[Row]) -> set[str]:
    return {row.values["id"] for row, image in encoded(rows) if image.suffix == ".jpg"}


def test_webdataset_of_png_alone_stays_png_with_provenance(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [row for row in rows if row.values["source"] == "synthetic"]
    out = exported("webdataset", made, tmp_path / "out")
    loaded = by_datasets(out, tmp_path / "cache", monkeypatch)
    assert len(loaded["train"]) == 2
    for row in loaded["train"]:
        assert read_provenance(row["png"])["prompt"] == 'a "cat",\n猫'


def test_the_same_rows_give_the_same_shards(rows: list[Row], tmp_path: Path) -> None:
    for to in ("webdataset", "parquet"):
        one, two = (exported(to, rows, tmp_path / f"{to}{i}") for i in range(2))
        for path in one.rglob("*"):
            if path.is_file():
                assert path.read_bytes() == (two / path.relative_to(one)).read_bytes()


def test_parquet_is_cut_into_shards_that_add_up(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_SHARD_BYTES", 5000)
    monkeypatch.setattr(parquet, "_GROUP_ROWS", 2)
    out = exported("parquet", rows, tmp_path / "out")
    names = sorted(path.name for path in (out / "data").glob("train-*"))
    assert len(names) > 2
    assert names[-1] == f"train-{len(names) - 1:05d}-of-{len(names):05d}.parquet"
    loaded = by_datasets(out, tmp_path / "cache", monkeypatch)
    assert {row["id"] for row in loaded["train"]} == set(expected(rows)["train"])


def test_json_reads_coco(rows: list[Row], tmp_path: Path) -> None:
    out = exported("coco", rows, tmp_path / "out")
    for split, images in expected(rows).items():
        read = json.loads((out / "annotations" / f"{split}.json").read_text(encoding="utf-8"))
        names = {category["id"]: category["name"] for category in read["categories"]}
        assert list(names.values()) == list(CLASSES)
        by_id = {image["id"]: image for image in read["images"]}
        assert len(by_id) == len(read["annotations"]) == len(images)
        for annotation in read["annotations"]:
            about = by_id[annotation["image_id"]]
            name, pixels, values = images[about["original_id"]]
            image = Image.open(out / split / about["file_name"])
            assert pixels_of(image) == pixels
            width, height = ImageOps.exif_transpose(image).size
            assert (about["width"], about["height"]) == (width, height)
            assert annotation["bbox"] == [0, 0, width, height]
            assert annotation["area"] == width * height
            assert names[annotation["category_id"]] == name
            assert about["source"] == values["source"]


def test_csv_reads_csv(rows: list[Row], tmp_path: Path) -> None:
    out = exported("csv", rows, tmp_path / "out")
    with open(out / "labels.csv", encoding="utf-8", newline="") as stream:
        read = list(csv.DictReader(stream))
    assert list(read[0])[:3] == ["path", "label", "split"]
    assert len(read) == len(rows)
    for row in read:
        name, pixels, values = expected(rows)[row["split"]][row["id"]]
        assert row["label"] == name
        assert row["prompt"] == values.get("prompt", "")
        assert pixels_of(Image.open(out / row["path"])) == pixels


@pytest.mark.parametrize("to", ["imagefolder", "parquet", "csv", "webdataset", "coco"])
def test_our_own_reader_reads_it_too(to: str, rows: list[Row], tmp_path: Path) -> None:
    splits = load_data(str(exported(to, rows, tmp_path / "out")))
    counts = {split: len(images) for split, images in splits.by_name().items()}
    assert counts == {split: len(images) for split, images in expected(rows).items()}
    assert sorted(splits.class_names) == sorted(CLASSES)
    assert to == "csv" or splits.class_names == CLASSES


def test_folder_names_are_safe_and_distinct() -> None:
    names = [
        *CLASSES,
        "a/b",
        "a\\b",
        "_x",
        ".x",
        "CAT",
        "x" * 300,
        "x" * 301,
        " y ",
        "y.",
        "é" * 90,
    ]
    found = folder_names(names)
    assert len({name.casefold() for name in found}) == len(names)
    for name in found:
        assert len(name.encode()) < 256
        assert not set('/\\:*?"<>|[]') & set(name)
        assert name[0] not in "._ "
        assert name[-1] not in ". "
    assert found[0] == "zebra"
