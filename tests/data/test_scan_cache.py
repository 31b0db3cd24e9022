"""A large folder is decoded once; what has changed since is decoded again."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gendataagent.config import DataConfig
from gendataagent.data import ImageSplits, load_data, scan
from tests.data import official_trees as trees


@pytest.fixture
def decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the images that were decoded; every set counts as large."""
    seen: list[str] = []
    check = scan._check

    def spy(store, item, max_pixels):  # type: ignore[no-untyped-def]
        seen.append(item.id)
        return check(store, item, max_pixels)

    monkeypatch.setenv("GENDATAAGENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(scan, "_check", spy)
    monkeypatch.setattr(scan, "CACHE_FROM_IMAGES", 1)
    for name in ("cat/a", "cat/b", "cat/c", "dog/a", "dog/b", "dog/c"):
        trees.jpeg(tmp_path / f"images/{name}.jpg")
    return seen


def load(tmp_path: Path, **settings: float) -> ImageSplits:
    config = DataConfig(path=str(tmp_path / "images"), **settings)  # type: ignore[arg-type]
    return load_data(config, seed=0)


def cache_file(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "cache/readable").iterdir()
    return path


def test_the_second_load_decodes_nothing_and_gives_the_same(
    tmp_path: Path, decoded: list[str]
) -> None:
    (tmp_path / "images/dog/d.jpg").write_bytes((tmp_path / "images/cat/a.jpg").read_bytes())
    first = load(tmp_path)
    assert len(decoded) == 7
    decoded.clear()
    written = cache_file(tmp_path).stat().st_mtime_ns
    second = load(tmp_path)
    assert decoded == []
    assert cache_file(tmp_path).stat().st_mtime_ns == written
    assert second.fingerprint == first.fingerprint
    assert second.notes == first.notes
    assert [text for text in second.notes if "two different classes" in text]


def test_new_and_changed_files_are_decoded(tmp_path: Path, decoded: list[str]) -> None:
    load(tmp_path)
    decoded.clear()
    changed = tmp_path / "images/cat/a.jpg"
    content, status = changed.read_bytes(), changed.stat()
    changed.write_bytes(b"x" * len(content))
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))  # same size, same time
    trees.jpeg(tmp_path / "images/dog/new.jpg")
    (tmp_path / "images/dog/a.jpg").unlink()
    data = load(tmp_path)
    assert sorted(decoded) == ["cat/a.jpg", "dog/new.jpg"]
    assert [bad.name for bad in data.quarantined] == ["cat/a.jpg"]
    changed.write_bytes(content)
    decoded.clear()
    assert load(tmp_path).quarantined == ()
    assert decoded == ["cat/a.jpg"]


def test_unreadable_images_and_another_limit_are_decoded_again(
    tmp_path: Path, decoded: list[str]
) -> None:
    (tmp_path / "images/cat/bad.jpg").write_bytes(b"\xff\xd8 no image")
    load(tmp_path)
    decoded.clear()
    assert [bad.name for bad in load(tmp_path).quarantined] == ["cat/bad.jpg"]
    assert decoded == ["cat/bad.jpg"]
    decoded.clear()
    trees.jpeg(tmp_path / "images/cat/d.jpg")
    load(tmp_path, max_megapixels=0.0001)
    assert len(decoded) == 8


def test_one_changed_digit_of_a_cache_is_noticed(tmp_path: Path, decoded: list[str]) -> None:
    """It would be another image, or another likeness, in every later run."""
    load(tmp_path)
    content = bytearray(cache_file(tmp_path).read_bytes())
    content[-30] ^= 1
    cache_file(tmp_path).write_bytes(content)
    decoded.clear()
    load(tmp_path)
    assert len(decoded) == 6


@pytest.mark.parametrize("content", [b"", b"[]", b'{"cat/a.jpg": 1}', b'{"cat/a.jpg": ["1", "x"]}'])
def test_a_damaged_cache_is_rebuilt(tmp_path: Path, decoded: list[str], content: bytes) -> None:
    load(tmp_path)
    cache_file(tmp_path).write_bytes(content)
    decoded.clear()
    assert len(load(tmp_path).train) == 2
    assert len(decoded) == 6
    decoded.clear()
    load(tmp_path)
    assert decoded == []


def test_a_cache_folder_that_cannot_be_written_does_not_stop_the_load(
    tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GENDATAAGENT_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        assert len(load(tmp_path).train) == 2
    assert len(decoded) == 12


def test_an_interrupted_scan_resumes(
    tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_ITEMS_PER_TASK", 1)
    config = DataConfig(path=str(tmp_path / "images"))

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_data(config, seed=0, progress=stop)
    before = set(decoded)
    decoded.clear()
    load(tmp_path)
    assert len(before) >= 3
    assert not before & set(decoded)


def test_rows_of_a_table_are_cached_but_not_images_beside_it(
    tmp_path: Path, decoded: list[str]
) -> None:
    beside = tmp_path / "images/cat/a.jpg"
    inside = [{"bytes": path.read_bytes(), "path": None} for path in beside.parent.iterdir()]
    rows = [*inside, None, {"bytes": None, "path": str(beside)}]
    table = pa.table({"image": rows, "label": ["a", "b", "a", "b", "b"], "id": list("pqrst")})
    path = tmp_path / "data.parquet"
    pq.write_table(table, path)
    config = DataConfig(path=str(path))
    first = load_data(config, seed=0)
    assert sorted(decoded) == ["p", "q", "r", "s", "t"]
    decoded.clear()
    second = load_data(config, seed=0)
    assert sorted(decoded) == ["s", "t"]
    assert (second.fingerprint, second.quarantined) == (first.fingerprint, first.quarantined)
    decoded.clear()
    pq.write_table(table.set_column(0, "image", pa.array(rows[::-1])), path)
    load_data(config, seed=0)
    assert len(decoded) == 5


def test_small_sets_write_no_cache(
    tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "CACHE_FROM_IMAGES", 7)
    load(tmp_path)
    assert not (tmp_path / "cache").exists()
