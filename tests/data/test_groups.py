"""Frames of one video and crops of one photograph stay in one split."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gendataagent.config import DataConfig, RunConfig
from gendataagent.core.errors import ConfigError
from gendataagent.data import ImageSplits, load_data
from gendataagent.runs.planning.counts import count_listed
from tests.data.copies import photo


def load(path: Path, seed: int = 0, **settings: object) -> ImageSplits:
    return load_data(DataConfig(path=str(path), **settings), seed=seed)  # type: ignore[arg-type]


def torn(data: ImageSplits, group_of) -> int:  # type: ignore[no-untyped-def]
    parts = [{group_of(id_) for id_ in images.ids} for images in data.by_name().values()]
    return len(parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2])


def save(root: Path, pattern: str) -> Path:
    """Write six frames of each of ten videos, all different."""
    for number in range(60):
        folder = root / ("cat", "dog")[number // 6 % 2]
        folder.mkdir(parents=True, exist_ok=True)
        name = pattern.format(video=number // 6, frame=number % 6)
        photo(number, 48).save(folder / name)
    return root


def video(source_id: str) -> str:
    return source_id.split("_")[0]


@pytest.mark.parametrize("seed", range(3))
def test_a_pattern_keeps_frames_together(tmp_path: Path, seed: int) -> None:
    save(tmp_path, "v{video}_frame{frame}.png")
    assert torn(load(tmp_path, seed), video) > 0
    data = load(tmp_path, seed, group_by=r"([^/]*)_frame\d+")
    assert torn(data, video) == 0
    assert all(len(images) for images in data.by_name().values())
    assert "60 images are in 10 groups" in data.notes[0]


def test_groups_of_several_classes_are_said(tmp_path: Path) -> None:
    for number in range(20):
        folder = tmp_path / ("cat", "dog")[number % 2]
        folder.mkdir(exist_ok=True)
        photo(number, 48).save(folder / f"v{1 + number // 2 % 2}_{number}.png")
    start = "2 groups under data.group_by: images of several classes (first: 'v1' of cat, dog)"
    plan = count_listed(RunConfig(data=DataConfig(path=str(tmp_path), group_by="(v[0-9])_")))
    for notes in (plan.notes, load(tmp_path, group_by="(v[0-9])_").notes):
        assert any(note.startswith(start) for note in notes)
    apart = load(tmp_path, group_by="(.*v[0-9])_").notes
    assert not any("several classes" in note for note in apart)


def test_names_by_roboflow_are_recognised(tmp_path: Path) -> None:
    save(tmp_path, "v{video}_jpg.rf.{frame}ab.png")
    assert torn(load(tmp_path), video) == 0
    assert torn(load(tmp_path, group_by=""), video) > 0


def test_a_column_keeps_frames_together(tmp_path: Path) -> None:
    save(tmp_path / "images", "v{video}_{frame}.png")
    paths = sorted((tmp_path / "images").rglob("*.png"))
    rows = [{"bytes": path.read_bytes(), "path": None} for path in paths]
    columns = {
        "id": [path.stem for path in paths],
        "image": rows,
        "label": [path.parent.name for path in paths],
        "clip": [video(path.name) for path in paths],
    }
    pq.write_table(pa.table(columns), tmp_path / "data.parquet")
    assert torn(load(tmp_path / "data.parquet"), video) > 0
    assert torn(load(tmp_path / "data.parquet", group_by="clip"), video) == 0


def test_given_splits_that_separate_a_group_are_noted(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "train", "val", "test") * 4):
        path = tmp_path / split / ("cat", "dog")[number // 4 % 2] / f"v{number // 8}_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(number, 48).save(path)
    data = load(tmp_path, group_by="/(v[0-9])_")
    (note,) = [note for note in data.notes if "separate them" in note]
    assert note.startswith("2 groups under data.group_by")


@pytest.mark.parametrize("pattern", ["(", "nothing like it", "[z-a]"])
def test_a_pattern_that_fits_nothing_is_refused(tmp_path: Path, pattern: str) -> None:
    save(tmp_path, "v{video}_{frame}.png")
    with pytest.raises(ConfigError, match=r"data\.group_by"):
        load(tmp_path, group_by=pattern)


def test_a_column_of_the_train_file_alone_groups_its_images(tmp_path: Path) -> None:
    save(tmp_path, "v{video}_{frame}.png")
    files = sorted(tmp_path.rglob("*.png"))
    columns = {
        "image": [file.read_bytes() for file in files],
        "label": [file.parent.name for file in files],
    }
    clips = pa.table({**columns, "clip": [video(file.name) for file in files]})
    (tmp_path / "tables").mkdir()
    pq.write_table(clips.slice(0, 50), tmp_path / "tables/train.parquet")
    pq.write_table(pa.table(columns).slice(50), tmp_path / "tables/test.parquet")
    data = load(tmp_path / "tables", group_by="clip")
    clip_of = [str(clip) for clip in clips.column("clip").to_pylist()]
    train, validation = (
        {clip_of[int(id_.rpartition("#")[2])] for id_ in images.ids}
        for images in (data.train, data.validation)
    )
    assert validation
    assert not train & validation
