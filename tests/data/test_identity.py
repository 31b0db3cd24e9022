"""Images are those of a run by content: swapped ones are refused, moved ones are not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gendataagent.config import DataConfig
from gendataagent.core.errors import RunFolderError
from gendataagent.data import ImageSplits, load_data
from gendataagent.data.identity import as_recorded


def load(root: Path) -> ImageSplits:
    return load_data(DataConfig(path=str(root), near_duplicates="off"), seed=0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Bitmaps, all of the same size in bytes, written within one tick of most clocks."""
    root = tmp_path / "photos"
    for split in ("train", "validation", "test"):
        for number, name in enumerate(("cat", "dog")):
            for shade in range(3):
                path = root / split / name / f"{shade}.bmp"
                path.parent.mkdir(parents=True, exist_ok=True)
                colour = (80 * shade, 120 * number, len(split) * 10)
                Image.new("RGB", (8, 8), colour).save(path)
    return root


def check(before: ImageSplits, now: ImageSplits) -> ImageSplits:
    return as_recorded(now, before.to_rows(), place="photos/", whose="the run in runs/1")


def test_the_same_images_at_another_path_with_other_dates_are_the_same(photos: Path) -> None:
    before = load(photos)
    moved = photos.parent / "elsewhere" / "moved"
    shutil.copytree(photos, moved)
    for path in moved.rglob("*.bmp"):
        os.utime(path, (1, 1))
    now = load(moved)
    assert now.fingerprint == before.fingerprint
    assert check(before, now).to_rows() == before.to_rows()


def test_swapped_class_folders_are_refused_naming_files(photos: Path) -> None:
    before = load(photos)
    train = photos / "train"
    (train / "cat").rename(train / "aside")
    (train / "dog").rename(train / "cat")
    (train / "aside").rename(train / "dog")
    now = load(photos)
    assert now.fingerprint != before.fingerprint
    with pytest.raises(RunFolderError) as caught:
        check(before, now)
    message = str(caught.value)
    assert "the images at photos/ are not those that the run in runs/1 was started with" in message
    assert "other content: train/cat/0.bmp, train/cat/1.bmp" in message
    assert "--data" in message


def test_swapped_folders_are_noticed_by_the_cache_of_the_scan(
    photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Files of one size and one date, swapped by renaming: only the inode tells."""
    monkeypatch.setattr("gendataagent.data.scan.CACHE_FROM_IMAGES", 1)
    monkeypatch.setenv("GENDATAAGENT_CACHE", str(tmp_path / "cache"))
    before = load(photos)
    assert load(photos).fingerprint == before.fingerprint
    one, other = photos / "train" / "cat" / "0.bmp", photos / "train" / "cat" / "2.bmp"
    one.rename(tmp_path / "aside")
    other.rename(one)
    (tmp_path / "aside").rename(other)
    with pytest.raises(RunFolderError, match=r"other content: train/cat/0\.bmp, train/cat/2\.bmp"):
        check(before, load(photos))


def test_missing_added_and_reclassified_images_are_named(photos: Path) -> None:
    before = load(photos)
    (photos / "train" / "cat" / "0.bmp").rename(photos / "train" / "dog" / "9.bmp")
    with pytest.raises(RunFolderError) as caught:
        check(before, load(photos))
    assert "missing: train/cat/0.bmp" in str(caught.value)
    assert "not there before: train/dog/9.bmp" in str(caught.value)


def table_of(photos: Path, names: list[str], *, backwards: bool) -> pa.Table:
    paths = sorted(photos.glob("train/*/*.bmp"), reverse=backwards)
    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": names},
    }
    table = pa.table(
        {
            "id": [f"{path.parent.name}-{path.stem}" for path in paths],
            "image": [{"bytes": path.read_bytes(), "path": None} for path in paths],
            "label": [names.index(path.parent.name) for path in paths],
        }
    )
    return table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )


def test_a_table_in_another_order_is_read_in_the_recorded_one(photos: Path, tmp_path: Path) -> None:
    """Other order of rows, other order of class names: the same images and labels as before."""
    for name, classes, backwards in (("a", ["cat", "dog"], False), ("b", ["dog", "cat"], True)):
        (tmp_path / name).mkdir()
        table = table_of(photos, classes, backwards=backwards)
        pq.write_table(table, tmp_path / name / "train.parquet")
    before, now = load(tmp_path / "a"), load(tmp_path / "b")
    assert now.train.ids != before.train.ids
    restored = check(before, now)
    assert restored.to_rows() == before.to_rows()
    assert restored.class_names == before.class_names == ("cat", "dog")
    for mine, theirs in zip(restored.by_name().values(), before.by_name().values(), strict=True):
        assert mine.labels == theirs.labels
        for index in range(len(mine)):
            assert mine.image(index).tobytes() == theirs.image(index).tobytes()
    for split, sketches_N in before.sketches.items():
        assert (restored.sketches[split] == sketches_N).all()
