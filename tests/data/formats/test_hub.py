"""Data sets through `datasets.load_dataset`: local folders, and the errors without a network."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError
from gendataagent.data import ImageSplits, load_data
from gendataagent.data.formats import hub
from tests.data import official_trees as trees

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def load(name: str, **settings: Any) -> ImageSplits:
    return load_data(DataConfig(path=f"hub:{name}", **settings), seed=0)


def parquet(folder: Path, **splits: list[int]) -> Path:
    """Write a repository of parquet files as on the Hub; red and class identify the row."""
    names = ["apple_pie", "pho"]
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=names))
    for split, reds in splits.items():
        rows = []
        for red in reds:
            buffer = io.BytesIO()
            Image.new("RGB", (4, 4), (red, 0, 0)).save(buffer, format="PNG")
            rows.append({"bytes": buffer.getvalue(), "path": None})
        table = pa.table({"image": rows, "label": [red % 2 for red in reds]})
        table = table.cast(features.arrow_schema)
        path = folder / f"data/{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
    return folder


def reds(data: ImageSplits) -> dict[str, int]:
    return {
        source: part.image(number).getpixel((0, 0))[0]  # type: ignore[index]
        for part in data.by_name().values()
        for number, source in enumerate(part.ids)
    }


def test_parquet_repository_with_its_splits(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "repo", train=[2, 3, 4, 5], validation=[6, 7], test=[8, 9])
    data = load(str(folder))
    assert data.class_names == ("apple pie", "pho")
    assert data.test.ids == ("test/00000#0", "test/00000#1")
    assert reds(data) == {
        **{f"train/00000#{n}": n + 2 for n in range(4)},
        **{f"validation/00000#{n}": n + 6 for n in range(2)},
        **{f"test/00000#{n}": n + 8 for n in range(2)},
    }
    assert f"Loaded {folder} with datasets." in data.notes
    assert not [text for text in data.notes if "the paper" in text]


def test_other_content_of_the_same_name_size_and_time_is_read_anew(tmp_path: Path) -> None:
    """`datasets` itself recognises files of a folder by path and time."""
    folder = parquet(tmp_path / "repo", train=[2, 3, 4, 5, 6, 7])
    (path,) = folder.rglob("*.parquet")
    before = path.stat()
    first = load(str(folder))
    parquet(folder, train=[12, 13, 14, 15, 16, 17])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = load(str(folder))
    assert {red - 10 for red in reds(second).values()} == set(reds(first).values())


def test_folder_of_images_relative_to_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("train/cat", "train/dog", "test/cat", "test/dog"):
        for number in range(2):
            trees.jpeg(tmp_path / f"images/{name}/{number}.jpg")
    monkeypatch.chdir(tmp_path)
    data = load("./images")
    assert data.class_names == ("cat", "dog")
    assert (len(data.test), data.test.image(3).size) == (4, (8, 8))


def test_a_known_copy_has_the_splits_of_the_paper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = parquet(tmp_path / "repo", train=[2, 3, 4, 5, 6, 7], validation=[8, 9])
    copy = hub.HubCopy(str(folder), hub.KNOWN["food"].splits)
    monkeypatch.setitem(hub.KNOWN, "food", copy)
    for name in ("food", str(folder)):
        data = load(name)
        assert [*data.test.ids] == ["validation/00000#0", "validation/00000#1"]
        assert f"Used validation as test of {folder}, as in the paper." in data.notes
        assert "test: 2 images, the paper has 25,250 (Food-101)." in data.notes
    flowers = hub.HubCopy(str(folder), hub.KNOWN["flowers"].splits)
    monkeypatch.setitem(hub.KNOWN, "food", flowers)
    data = load("food")
    assert sum(map(len, (data.train, data.validation, data.test))) == 8
    assert f"Used validation as train of {folder}, as in the paper." in data.notes


def test_counts_are_compared_with_those_of_the_given_layout(tmp_path: Path) -> None:
    data = load(str(parquet(tmp_path / "repo", train=[2, 3, 4, 5], test=[8, 9])), layout="pets")
    assert "test: 2 images, the paper has 3,669 (Oxford-IIIT Pets)." in data.notes


def test_one_of_several_configurations_has_to_be_named(tmp_path: Path) -> None:
    folder = tmp_path / "repo"
    parquet(folder / "small", train=[2, 3], test=[4, 5])
    parquet(folder / "large", train=[12, 13, 14, 15], test=[16, 17])
    lines = ["---", "configs:"]
    for name in ("small", "large"):
        lines += [f"- config_name: {name}", "  data_files:"]
        lines += [f"  - split: {s}\n    path: {name}/data/{s}-*" for s in ("train", "test")]
    trees.write(folder / "README.md", *lines, "---")
    with pytest.raises(DataError, match=r"configuration .*small.*Name one as hub:.*:CONFIG"):
        load(str(folder))
    with pytest.raises(DataError, match=r"configuration 'huge' .*Name one as hub:"):
        load(f"{folder}:huge")
    assert set(reds(load(f"{folder}:large")).values()) == {12, 13, 14, 15, 16, 17}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("someone/some-data", r"'someone/some-data' .* the Hub cannot be reached .*hf download"),
        ("food", r"'ethz/food101' .* the Hub cannot be reached"),
        ("birdsnap", "no copy of Birdsnap with the official split is known"),
        ("./nowhere", r"data\.path hub:\./nowhere: no folder \./nowhere"),
        ("", "hub: without a name"),
    ],
)  # fmt: skip
def test_errors_name_the_next_step(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(name)


def test_files_with_other_class_names_than_datasets_reads_are_refused(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "repo", train=[0, 1, 2, 3], test=[4, 5])
    path = folder / "data/test-00000-of-00001.parquet"
    table = pq.read_table(path)
    metadata = table.schema.metadata[b"huggingface"]
    swapped = metadata.replace(b'["apple_pie", "pho"]', b'["pho", "apple_pie"]')
    assert swapped != metadata
    pq.write_table(table.replace_schema_metadata({b"huggingface": swapped}), path)
    with pytest.raises(DataError) as error:
        load(str(folder))
    assert "has 'pho', 'apple_pie'; datasets has 'apple_pie', 'pho'" in str(error.value)
    data = load_data(DataConfig(path=str(folder), near_duplicates="off"), seed=0)
    assert [data.class_names[label] for label in data.test.labels] == ["pho", "apple pie"]
