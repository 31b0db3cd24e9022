"""Parquet and Hugging Face data sets on disk: columns, labels, ids, splits, and their errors."""

from __future__ import annotations

import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError
from gendataagent.data import ImageSplits, load_data, scan
from gendataagent.data.formats import tables


def png(number: int) -> bytes:
    """An image whose red is `number`."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (number, 0, 0)).save(buffer, format="PNG")
    return buffer.getvalue()


def features(names: list[str]) -> dict[bytes, bytes]:
    """The schema metadata that Hugging Face datasets writes."""
    kinds = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    return {b"huggingface": json.dumps({"info": {"features": kinds}}).encode()}


def write(path: Path, columns: dict[str, Any], names: list[str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata(features(names) if names else None), path)
    return path


def make_images(numbers: list[int]) -> list[dict[str, Any]]:
    return [{"bytes": png(number), "path": f"{number}.png"} for number in numbers]


def load(path: Path, **settings: Any) -> ImageSplits:
    return load_data(DataConfig(path=str(path), **settings), seed=0)


def reds(data: ImageSplits) -> dict[str, int]:
    """Return {id: red} over all splits: whether ids and images belong together."""
    sets = data.by_name().values()
    return {i: s.image(n).getpixel((0, 0))[0] for s in sets for n, i in enumerate(s.ids)}  # type: ignore[index]


def test_hugging_face_parquet_with_names_and_ids(tmp_path: Path) -> None:
    for split, start in (("train", 0), ("validation", 10), ("test", 20)):
        numbers = [start, start + 1]
        columns = {
            "image": make_images(numbers),
            "label": [1, 0],
            "id": [f"cifar10/{n}" for n in numbers],
        }
        write(tmp_path / f"{split}.parquet", columns, ["cat", "dog"])
    data = load(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert data.train.ids == ("cifar10/0", "cifar10/1")
    assert data.train.labels == (1, 0)
    assert data.test.ids == ("cifar10/20", "cifar10/21")
    assert reds(data) == {f"cifar10/{n}": n for n in (0, 1, 10, 11, 20, 21)}
    assert data.notes == ()


def test_plain_binary_and_text_labels_in_shards_of_several_row_groups(tmp_path: Path) -> None:
    for shard in (0, 1):
        numbers = list(range(shard * 10, shard * 10 + 10))
        table = pa.table(
            {"img": [png(n) for n in numbers], "class": ["cat", "Éléphant"] * 5, "more": numbers}
        )
        path = tmp_path / "data" / f"train-{shard:05d}-of-00002-9f3c.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(table, path, row_group_size=3)
    data = load(tmp_path)
    assert data.class_names == ("cat", "Éléphant")
    assert reds(data) == {
        f"data/train-{n // 10:05d}-of-00002-9f3c.parquet#{n % 10}": n for n in range(20)
    }


def test_a_single_file_is_split_whatever_its_name(tmp_path: Path) -> None:
    columns = {"image": make_images(list(range(8))), "label": ["a", "b"] * 4}
    data = load(write(tmp_path / "test.parquet", columns))
    assert {len(images) for images in data.by_name().values()} == {2, 4}
    assert reds(data) == {f"#{n}": n for n in range(8)}


def test_splits_named_by_folders_and_tables_of_no_split(tmp_path: Path) -> None:
    for number, name in enumerate(("train/0000", "val/0000", "test/0000", "extra/0000")):
        columns = {"image": make_images([number * 2, number * 2 + 1]), "label": ["a", "b"]}
        write(tmp_path / f"{name}.parquet", columns)
    data = load(tmp_path)
    assert data.validation.ids == ("val/0000.parquet#0", "val/0000.parquet#1")
    assert data.notes == ("Ignored tables that name no split: extra/0000.parquet.",)


def test_images_are_the_same_from_memory_and_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENDATAAGENT_CACHE", str(tmp_path / "cache"))
    columns = {"image": make_images(list(range(12))), "label": ["a", "b"] * 6}
    path = write(tmp_path / "data.parquet", columns)
    in_memory = reds(load(path))
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(tables, "IN_MEMORY_BYTES", 0)
    data = load(path)
    assert reds(data) == in_memory
    (unpacked,) = (tmp_path / "cache" / "parquet").glob("*.arrow")
    before = unpacked.stat().st_mtime_ns
    again = pickle.loads(pickle.dumps(data))
    assert reds(again) == in_memory
    assert unpacked.stat().st_mtime_ns == before
    assert len(pickle.dumps(data.train)) < 5000


def same_times(path: Path, as_of: os.stat_result) -> Path:
    os.utime(path, ns=(as_of.st_atime_ns, as_of.st_mtime_ns))
    return path


def test_a_table_in_the_cache_is_that_of_the_content_not_of_name_size_and_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on file systems whose clocks are coarse, or after a restore."""
    monkeypatch.setenv("GENDATAAGENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tables, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(scan, "CACHE_FROM_IMAGES", 1)
    path = tmp_path / "data.parquet"
    write(path, {"image": make_images(list(range(12))), "label": ["a", "b"] * 6})
    before, first = path.stat(), load(path)
    pq.write_table(pq.read_table(path).take([*range(11, -1, -1)]), path)
    second = load(same_times(path, before))
    assert [*reds(second).values()] != [*reds(first).values()]
    assert second.fingerprint != first.fingerprint
    path.rename(tmp_path / "elsewhere.parquet")
    load(tmp_path / "elsewhere.parquet")
    assert len([*(tmp_path / "cache" / "parquet").glob("*.arrow")]) == 2


@pytest.mark.parametrize("damage", ["bit", "cut", "seal", "no seal", "other"])
def test_a_damaged_table_in_the_cache_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setenv("GENDATAAGENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tables, "IN_MEMORY_BYTES", 0)
    columns = {"image": make_images(list(range(12))), "label": ["a", "b"] * 6}
    path = write(tmp_path / "data.parquet", columns)
    right = reds(load(path))
    (cached,) = (tmp_path / "cache" / "parquet").glob("*.arrow")
    content, seal = cached.read_bytes(), cached.with_suffix(".sha256")
    if damage == "bit":
        cached.write_bytes(content.replace(b"IDAT", b"IDAU", 1))
    elif damage == "cut":
        cached.write_bytes(content[: len(content) // 2])
    elif damage == "seal":
        seal.write_bytes(b"x")
    elif damage == "no seal":
        seal.unlink()
    else:
        other = pa.ipc.open_stream(content).read_all().take([*range(11, -1, -1)])
        with pa.ipc.new_stream(cached, other.schema) as writer:
            writer.write_table(other)
    assert reds(load(path)) == right
    assert cached.read_bytes() == content


@pytest.mark.parametrize("as_dict", [True, False])
def test_data_sets_saved_by_datasets(tmp_path: Path, as_dict: bool) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    kinds = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=["zebra", "ant"])
    )
    rows = {"image": make_images(list(range(6))), "label": [0, 1] * 3}
    train = datasets.Dataset.from_dict(rows, features=kinds)
    test = datasets.Dataset.from_dict(
        {"image": make_images([50, 51]), "label": [0, 1]}, features=kinds
    )
    if as_dict:
        datasets.DatasetDict(train=train, test=test).save_to_disk(tmp_path / "saved")
    else:
        train.save_to_disk(tmp_path / "saved", num_shards=2)
    data = load(tmp_path / "saved")
    assert data.class_names == ("zebra", "ant")
    red_values = sorted(reds(pickle.loads(pickle.dumps(data))).values())
    assert red_values == ([0, 1, 2, 3, 4, 5, 50, 51] if as_dict else [0, 1, 2, 3, 4, 5])
    if as_dict:
        assert data.test.ids == (
            "test/data-00000-of-00001.arrow#0", "test/data-00000-of-00001.arrow#1"
        )  # fmt: skip


def test_class_names_that_no_image_has_are_dropped(tmp_path: Path) -> None:
    columns = {"image": make_images([0, 1]), "label": [0, 2]}
    data = load(write(tmp_path / "a.parquet", columns, ["cat", "dog", "fox"]))
    assert data.class_names == ("cat", "fox")
    assert data.train.labels == (0, 1)
    assert "Dropped 1 class without readable images: dog." in data.notes


def test_number_labels_are_sorted_as_numbers_with_a_note(tmp_path: Path) -> None:
    columns = {"image": make_images([0, 1, 2]), "label": [10.0, 9.0, 2.0]}
    data = load(write(tmp_path / "a.parquet", columns))
    assert data.class_names == ("2", "9", "10")
    assert [text for text in data.notes if "numbers without names" in text]


def test_rows_without_an_image_are_quarantined(tmp_path: Path) -> None:
    rows = [*make_images([0, 1]), None, {"bytes": None, "path": None}, {"bytes": b"x", "path": "p"}]
    columns = {"image": rows, "label": ["a", "b", "a", "a", "b"]}
    data = load(write(tmp_path / "a.parquet", columns))
    assert [(bad.name, bad.reason) for bad in data.quarantined] == [
        ("a.parquet#2", "the row has no image"),
        ("a.parquet#3", "the row has no image"),
        ("a.parquet#4", "not an image in a format that Pillow reads"),
    ]


def test_images_beside_the_table(tmp_path: Path) -> None:
    (tmp_path / "7.png").write_bytes(png(7))
    rows = [{"bytes": None, "path": "7.png"}, {"bytes": png(8), "path": None}]
    data = load(write(tmp_path / "a.parquet", {"image": rows, "label": ["a", "b"]}))
    assert reds(data) == {"#0": 7, "#1": 8}


@pytest.mark.parametrize(
    ("image", "label"),
    [("filepath", "class_label"), ("Image Path", "Species"), ("img_name", "diagnosis")],
)
def test_columns_are_named_like_those_of_text_tables(
    tmp_path: Path, image: str, label: str
) -> None:
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    names = [f"{number}.png" for number in range(4)]
    columns = {image: names, label: list("abab"), "fold": [0, 1, 2, 3]}
    assert reds(load(write(tmp_path / "a.parquet", columns))) == {f"#{n}": n for n in range(4)}


def test_ids_unique_only_within_a_split_are_prefixed_by_it(tmp_path: Path) -> None:
    for start, split in ((0, "train"), (10, "validation"), (20, "test")):
        columns = {"image": make_images([start, start + 1]), "label": ["a", "b"], "id": [0, 1]}
        write(tmp_path / f"{split}.parquet", columns)
    data = load(tmp_path)
    assert data.test.ids == ("test/0", "test/1")
    assert reds(data)["validation/1"] == 11
    assert data.notes == (
        "Ids are unique only within a split, so they were prefixed by the split.",
    )


def test_a_test_split_without_labels_is_ignored_and_drawn_from_train(tmp_path: Path) -> None:
    columns = {"image": make_images(list(range(6))), "label": [0, 1] * 3}
    write(tmp_path / "train.parquet", columns, ["a", "b"])
    write(tmp_path / "test.parquet", {"image": make_images([8]), "label": [-1]}, ["a", "b"])
    data = load(tmp_path)
    assert "Ignored the test split: it has no labels." in data.notes
    assert data.test.labels == (0, 1)
    assert all(source_id.startswith("train") for source_id in data.test.ids)


GOOD = {"image": make_images([0, 1, 2]), "label": ["a", "b", "a"]}


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        (
            {"image": GOOD["image"], "kind": ["a", "b", "a"]},
            {},
            r"no label column was recognised; the columns are image, kind\. Set data\.label_column",
        ),
        (GOOD, {"label_column": "nope"}, r"no column 'nope' \(data\.label_column\); .* image, lab"),
        (GOOD, {"image_column": "nope"}, r"no column 'nope' \(data\.image_column\)"),
        ({"label": ["a", "b", "a"]}, {}, "no image column was recognised"),
        (
            {"left": GOOD["image"], "right": GOOD["image"], "label": GOOD["label"]},
            {},
            "left and right could each be the image column",
        ),
        (GOOD | {"label": ["a", None, "b"]}, {}, r"1 row has no label .*: a\.parquet#1\. Label"),
        (GOOD | {"label": [0.0, float("nan"), 1.0]}, {}, r"1 row has no label .*: a\.parquet#1"),
        (GOOD | {"label": [0.0, float("inf"), 1.0]}, {}, r"a\.parquet#1: the label .* is inf"),
        (GOOD | {"label": [0, -1, 1]}, {}, r"1 row has no label .*-1.*: a\.parquet#1"),
        (GOOD | {"label": ["a", " ", "b"]}, {}, r"1 row has no label .*empty.*: a\.parquet#1"),
        (GOOD | {"label": [0.0, 1.0, 0.5]}, {}, r"a\.parquet#2: the label .* is 0\.5, allowed"),
        (GOOD | {"label": [["a"], ["b"], []]}, {}, r"a\.parquet#0: the label .* is \['a'\]"),
        (GOOD | {"id": ["x", "y", "x"]}, {}, "1 id in the column 'id' .* more than one row: x"),
        (GOOD | {"id": ["x", None, "z"]}, {}, r"a\.parquet#1: the id is None"),
        ({"image": [], "label": []}, {"image_column": "image"}, "holds no labelled images"),
    ],
)
def test_tables_that_cannot_be_used(
    tmp_path: Path, columns: dict[str, Any], settings: dict[str, str], message: str
) -> None:
    path = write(tmp_path / "a.parquet", columns)
    with pytest.raises(DataError, match=message):
        load(path, **settings)


def test_columns_named_in_the_settings_are_used(tmp_path: Path) -> None:
    columns = {"left": make_images([0, 1]), "right": make_images([5, 6]), "kind": ["a", "b"]}
    path = write(tmp_path / "a.parquet", columns)
    data = load(path, image_column="right", label_column="kind")
    assert reds(data) == {"#0": 5, "#1": 6}


def test_a_label_outside_the_named_classes(tmp_path: Path) -> None:
    columns = {"image": make_images([0, 1]), "label": [0, 2]}
    with pytest.raises(DataError, match="is 2, allowed are integers below 2"):
        load(write(tmp_path / "a.parquet", columns, ["a", "b"]))


def test_tables_that_are_inconsistent_or_broken(tmp_path: Path) -> None:
    write(tmp_path / "d/test.parquet", GOOD)
    write(tmp_path / "d/train.parquet", {"image": make_images([0]), "other": ["a"]})
    with pytest.raises(DataError, match=r"train\.parquet: no label column was recognised"):
        load(tmp_path / "d")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match=r"cannot read .*broken\.parquet"):
        load(tmp_path / "broken.parquet")
    write(tmp_path / "e/test.parquet", GOOD)
    write(tmp_path / "e/validation.parquet", GOOD)
    with pytest.raises(DataError, match=r"no train split, got test\.parquet, validation\.parquet"):
        load(tmp_path / "e")
    (tmp_path / "f").mkdir()
    (tmp_path / "f/state.json").write_text("{}")
    with pytest.raises(DataError, match="not a complete data set saved by datasets"):
        load(tmp_path / "f")


def test_bundled_cifar10() -> None:
    data = load_data(DataConfig(train_per_class=2), seed=0)
    assert data.class_names[0] == "airplane"
    assert len(data.class_names) == 10
    assert len(data.train) == 20
    assert data.test.image(0).size == (32, 32)
    assert data.quarantined == ()


def test_a_file_may_be_renamed(tmp_path: Path) -> None:
    columns = {"image": make_images([7, 8, 9, 10]), "label": ["cat", "dog"] * 2}
    first = load(write(tmp_path / "a.parquet", columns))
    second = load(write(tmp_path / "elsewhere/b.parquet", columns))
    assert first.fingerprint == second.fingerprint
    assert first.train.store.name(0) == "a.parquet#0"


def test_rows_selected_by_a_list_of_their_own_are_refused(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": "a.arrow"}], "_indices_files": ["i.arrow"]})
    )
    with pytest.raises(DataError, match=r"selects rows by a list .*save it again"):
        load(tmp_path)
