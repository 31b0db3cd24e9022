"""Near-duplicates across splits: removed, listed, and kept where thumbnails cannot tell them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from gendataagent.config import DataConfig
from gendataagent.data import ImageSplits, load_data, scan
from gendataagent.data.duplicates import likeness
from gendataagent.data.duplicates.leakage import LeakageCheck
from tests.data.copies import COPIES, photo

SIZES = {"train": 12, "validation": 6, "test": 6}


def make_image(seed: int) -> Image.Image:
    return photo(seed, 64)


def path_of(root: Path, split: str, number: int) -> Path:
    return root / split / ("cat", "dog")[number % 2] / f"{number}.png"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes in three splits, no two images alike."""
    root = tmp_path / "photos"
    for offset, (split, size) in enumerate(SIZES.items()):
        for number in range(size):
            path = path_of(root, split, number)
            path.parent.mkdir(parents=True, exist_ok=True)
            make_image(100 * offset + number).save(path)
    return root


def load(root: Path, **settings: object) -> ImageSplits:
    return load_data(DataConfig(path=str(root), **settings), seed=0)  # type: ignore[arg-type]


def disguise(source: Path, target: Path) -> None:
    """Save an image under another name, mirrored, brighter and as JPEG."""
    with Image.open(source) as image:
        ImageEnhance.Brightness(ImageOps.mirror(image)).enhance(1.1).save(target, "JPEG")


def test_data_without_near_duplicates_is_the_same_with_the_search_off(photos: Path) -> None:
    data, unsearched = load(photos), load(photos, near_duplicates="off")
    assert data.near_duplicates == ()
    assert data.notes == unsearched.notes == ()
    assert data.fingerprint == unsearched.fingerprint


def test_disguised_copies_are_removed_from_train_and_validation_never_from_test(
    photos: Path,
) -> None:
    disguise(path_of(photos, "test", 3), photos / "train/cat/holiday.jpg")
    disguise(path_of(photos, "validation", 2), photos / "train/dog/copy.jpg")
    disguise(path_of(photos, "test", 1), photos / "validation/dog/sea.jpg")
    clean = load(photos)
    assert (len(clean.train), len(clean.validation), len(clean.test)) == (12, 6, 6)
    found = {(d.id, d.reference_id, d.mirrored, d.removed) for d in clean.near_duplicates}
    assert found == {
        ("train/cat/holiday.jpg", "test/dog/3.png", True, True),
        ("train/dog/copy.jpg", "validation/cat/2.png", True, True),
        ("validation/dog/sea.jpg", "test/dog/1.png", True, True),
    }
    assert clean.notes == (
        "Removed near-duplicates across splits: 1 in train of validation images, 1 in train of "
        "test images, 1 in validation of test images.",
    )
    dirty = load(photos, near_duplicates="report")
    assert (len(dirty.train), len(dirty.validation), len(dirty.test)) == (14, 7, 6)
    assert {(d.id, d.removed) for d in dirty.near_duplicates} == {
        (d.id, False) for d in clean.near_duplicates
    }
    assert "They were kept" in dirty.notes[0]
    assert len({clean.fingerprint, dirty.fingerprint}) == 2
    for path in ("train/cat/holiday.jpg", "train/dog/copy.jpg", "validation/dog/sea.jpg"):
        (photos / path).unlink()
    assert load(photos).fingerprint == clean.fingerprint


def test_a_training_subset_keeps_its_size_after_the_removal(photos: Path) -> None:
    for number in range(2):
        disguise(path_of(photos, "test", number), photos / f"train/cat/{number}.jpg")
    for seed in range(4):
        config = DataConfig(path=str(photos), train_per_class=6)
        data = load_data(config, seed=seed)
        assert len(data.train) == 12
        assert not any(id_.endswith(".jpg") for id_ in data.train.ids)


def test_images_that_are_all_alike_are_kept_with_a_note(photos: Path) -> None:
    for number in range(SIZES["train"]):
        make_image(0).save(path_of(photos, "train", number))
    make_image(0).save(path_of(photos, "test", 0))
    data = load(photos)
    assert len(data.train) == 12
    assert data.likeness.all_alike
    assert data.notes[0].startswith("The images of this set are all alike")
    assert not any(pair.removed for pair in data.near_duplicates)
    assert LeakageCheck.of(data, DataConfig()) is None
    assert load(photos, near_duplicates="off").near_duplicates == ()


def test_a_split_that_separates_copies_is_kept_and_blamed(photos: Path) -> None:
    for number in range(6):
        disguise(path_of(photos, "test", number), path_of(photos, "train", number))
    data = load(photos)
    assert len(data.train) == 12
    assert "6 in train of test images, of 12. That is too many" in data.notes[0]
    assert "The split itself separates" in data.notes[0]
    assert not data.likeness.all_alike


def test_drawn_splits_keep_all_copies_of_a_photograph_together(tmp_path: Path) -> None:
    for number in range(24):
        folder = tmp_path / ("cat", "dog")[number % 2]
        folder.mkdir(exist_ok=True)
        for kind in ("recompressed", "8 degrees", "cropped"):
            COPIES[kind](photo(number)).save(folder / f"{kind} {number}.png")
    for seed in range(3):
        data = load_data(DataConfig(path=str(tmp_path)), seed=seed)
        photographs = [
            {id_.split(" ")[-1] for id_ in images.ids} for images in data.by_name().values()
        ]
        torn = [one & other for one in photographs for other in photographs if one is not other]
        assert sum(map(len, torn)) <= 8  # each is counted twice: four photographs of 24
        assert data.near_duplicates == ()
        assert any("groups); each group was drawn into one split" in note for note in data.notes)


def test_a_class_keeps_its_last_images(photos: Path) -> None:
    disguise(path_of(photos, "test", 0), photos / "train/bird.jpg")
    (photos / "train/bird").mkdir()
    (photos / "train/bird.jpg").rename(photos / "train/bird/only.jpg")
    data = load(photos)
    assert "train/bird/only.jpg" in data.train.ids
    assert "All training images of bird are near-duplicates" in data.notes[0]


def test_sketches_of_held_out_images_are_in_their_order(photos: Path) -> None:
    disguise(path_of(photos, "test", 1), photos / "validation/cat/0sea.jpg")
    data = load(photos)
    assert set(data.sketches) == {"validation", "test"}
    for split in ("validation", "test"):
        images = data.by_name()[split]
        assert len(data.sketches[split]) == len(images)
        for index in range(len(images)):
            means = np.asarray(images.image(index), dtype=float).mean(axis=(0, 1))
            found = data.sketches[split][index]["thumbnail"].mean(axis=(0, 1))
            assert np.abs(found - means).max() < 3


def test_sketches_and_pairs_of_a_large_set_are_cached(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENDATAAGENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(scan, "CACHE_FROM_IMAGES", 1)
    monkeypatch.setattr(likeness, "CACHE_FROM_IMAGES", 1)
    disguise(path_of(photos, "test", 3), photos / "train/cat/holiday.jpg")
    first = load(photos)
    decoded: list[str] = []
    check = scan._check

    def spy(store, item, max_pixels):  # type: ignore[no-untyped-def]
        decoded.append(item.id)
        return check(store, item, max_pixels)

    monkeypatch.setattr(scan, "_check", spy)
    second = load(photos)
    assert decoded == []
    assert second.near_duplicates == first.near_duplicates
    assert len(second.near_duplicates) == 1
    (file,) = (tmp_path / "cache/sketches").iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    assert load(photos).near_duplicates == first.near_duplicates
    assert len(decoded) == sum(SIZES.values()) + 1
    decoded.clear()
    (measured,) = (tmp_path / "cache/likeness").iterdir()
    for content in (b"{", b'{"pairs": [[0, 99999, 1, 0, 1]], "all_alike": false}', b"[1]"):
        measured.write_bytes(content)
        assert load(photos).near_duplicates == first.near_duplicates
    assert decoded == []


def test_the_search_reports_its_progress(photos: Path) -> None:
    seen: list[tuple[int, int]] = []
    load_data(DataConfig(path=str(photos)), seed=0, on_search=lambda *step: seen.append(step))
    assert seen == [(24, 24)]
