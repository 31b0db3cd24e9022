"""Each format is read back by a reader that is not ours: same pixels, labels by name."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from gendataagent.agent.by_hand.rules import HandCounts
from gendataagent.agent.provenance import read_provenance, with_provenance
from gendataagent.agent.synthetic import SyntheticImages
from gendataagent.config import DataConfig, RunConfig
from gendataagent.core.errors import DataError
from gendataagent.core.png import png_bytes
from gendataagent.data import load_data, scan
from gendataagent.data.decoding.shareable import ImageFile
from gendataagent.data.indexing import index_data
from gendataagent.data.loading import load_to_measure
from gendataagent.runs.audit import audit_data
from gendataagent.runs.exporting.data_card import data_card
from gendataagent.runs.exporting.data_formats import DATA_FORMATS, parquet, webdataset
from gendataagent.runs.exporting.data_formats.image_folder import folder_names
from gendataagent.runs.exporting.rows import COLUMNS, Row, encoded, real_rows, synthetic_rows
from gendataagent.runs.planning.counts import count_listed
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


MIXED_CLASSES = ("cat", "dog")


def mixed_rows(folder: Path, *, real: int, synthetic_split: str = "train") -> list[Row]:
    """Noise: `real` training images and 12 synthetic ones of each of two classes."""
    random = np.random.default_rng(0)
    found: list[Row] = []
    for name in MIXED_CLASSES:
        (folder / f"real/{name}").mkdir(parents=True)
        for number in range(real):
            noise = Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            noise.save(folder / f"real/{name}/{number}.jpg", "JPEG")
    if real:
        config = DataConfig(path=str(folder / "real"), near_duplicates="off")
        found = [replace(row, split="train") for row in real_rows(load_data(config))]
    made = []
    for label, name in enumerate(MIXED_CLASSES):
        for number in range(12):
            one = candidate(f"{name}{number}", label=label, class_name=name, generator="some/model")
            path = folder / f"{name}{number}.png"
            noise = Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            path.write_bytes(with_provenance(png_bytes(noise), one, "abc"))
            made.append((one, path))
    new = synthetic_rows(SyntheticImages(MIXED_CLASSES, made))
    return [*found, *(replace(row, split=synthetic_split) for row in new)]


def mixed_export(to: str, folder: Path, **how: Any) -> DataConfig:
    rows, out = mixed_rows(folder, **how), folder / "out"
    out.mkdir()
    DATA_FORMATS[to].write(out, rows, MIXED_CLASSES, lambda: None)
    return DataConfig(path=str(out), near_duplicates="off")


@pytest.mark.parametrize("to", DATA_FORMATS)
def test_no_synthetic_image_is_drawn_into_validation_or_test(to: str, tmp_path: Path) -> None:
    config = mixed_export(to, tmp_path, real=12)
    synthetic = index_data(config).synthetic
    assert len(synthetic) == 24
    splits = load_data(config)
    assert synthetic <= set(splits.train.ids)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (40, 4, 4)
    said = [note for note in splits.notes if note.startswith("24 synthetic images stay in train")]
    assert len(said) == 1
    planned = count_listed(RunConfig(data=config))
    assert (planned.train, planned.validation, planned.test) == (40, 4, 4)
    assert said[0] in planned.notes


@pytest.mark.parametrize("to", DATA_FORMATS)
def test_no_split_is_drawn_from_synthetic_images_alone(to: str, tmp_path: Path) -> None:
    config = mixed_export(to, tmp_path, real=0)
    for refused in (load_data, lambda config: count_listed(RunConfig(data=config))):
        with pytest.raises(DataError, match=r"all 24 training images are synthetic.* real images"):
            refused(config)
    (note,) = [note for note in load_to_measure(config).notes if "synthetic" in note]
    assert note.startswith("24 of 24 images are synthetic")


@pytest.mark.parametrize("to", DATA_FORMATS)
def test_a_given_test_split_of_synthetic_images_is_said(to: str, tmp_path: Path) -> None:
    config = mixed_export(to, tmp_path, real=12, synthetic_split="test")
    for notes in (
        load_data(config).notes,
        count_listed(RunConfig(data=config)).notes,
        audit_data(config).notes,
    ):
        (note,) = [note for note in notes if note.startswith("Synthetic images")]
        assert note.startswith("Synthetic images in the test split: 24 of 24, ")
        assert "do not show what the classifier does on real images" in note
    (note,) = [note for note in load_to_measure(config).notes if "synthetic" in note]
    assert note.startswith("24 of 48 images (test 24) are synthetic")


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_files_without_their_table_still_say_that_they_are_synthetic(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In PNG and, from WebDataset, in JPEG; also from the cache of a large set."""
    config = mixed_export("imagefolder", tmp_path, real=12)
    (tmp_path / "out/train/metadata.parquet").unlink()
    if kind == "jpg":
        for path in (tmp_path / "out/train").glob("*/*.png"):
            jpeg = webdataset._as_jpeg(ImageFile(path.read_bytes(), ".png"))
            path.with_suffix(".jpg").write_bytes(jpeg.content)
            path.unlink()
    monkeypatch.setenv("GENDATAAGENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(scan, "CACHE_FROM_IMAGES", 1)
    assert not index_data(config).synthetic
    for _ in range(2):
        splits = load_data(config)
        assert (len(splits.train), len(splits.validation), len(splits.test)) == (40, 4, 4)
        held_out = (*splits.validation.ids, *splits.test.ids)
        assert all(id_.split("/")[-1].startswith("real-") for id_ in held_out)


def test_a_source_column_of_other_data_marks_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.new("RGB", (32, 32)).save(tmp_path / f"{name}.png")
    table = "path,label,source\na.png,cat,synthetic\nb.png,dog,synthetic\n"
    (tmp_path / "labels.csv").write_text(table)
    assert not index_data(DataConfig(path=str(tmp_path))).synthetic
