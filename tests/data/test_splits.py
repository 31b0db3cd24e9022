"""Splits drawn by seed, training subsets, fingerprints and duplicates."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError
from gendataagent.data import ImageSplits, LabelledImages, load_data
from gendataagent.data.index import Item
from gendataagent.data.splits import draw_missing_splits, draw_train_subset, fingerprint_of


def items_of(sizes: dict[str, int], split: str = "train") -> list[Item]:
    return [
        Item(row, f"{name}/{n}", name, split)
        for row, (name, n) in enumerate((c, n) for c, size in sizes.items() for n in range(size))
    ]


def distinct(items: list[Item]) -> list[int]:
    return [item.row for item in items]


def draw(items: list[Item], seed: int = 0, **shares: float) -> tuple[list[Item], list[str]]:
    return draw_missing_splits(items, distinct(items), DataConfig(**shares), seed=seed)  # type: ignore[arg-type]


def counts(items: list[Item], name: str) -> tuple[int, int, int]:
    found = Counter(item.split for item in items if item.class_name == name)
    return found["train"], found["validation"], found["test"]


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (10, (6, 2, 2)), (100, (70, 15, 15))],
)
def test_each_class_gives_its_share(size: int, expected: tuple[int, int, int]) -> None:
    drawn, _ = draw(items_of({"cat": size, "dog": 20}))
    assert counts(drawn, "cat") == expected
    assert counts(drawn, "dog") == (14, 3, 3)


@given(
    size=st.integers(1, 60), validation=st.floats(0.01, 0.5), test=st.floats(0.01, 0.3),
    given_split=st.sampled_from(["", "validation", "test"]),
)  # fmt: skip
def test_train_keeps_an_image_and_given_splits_are_unchanged(
    size: int, validation: float, test: float, given_split: str
) -> None:
    own = items_of({"cat": size})
    other = [Item(99, "other", "cat", given_split)] if given_split else []
    drawn, _ = draw([*own, *other], validation_share=validation, test_share=test)
    assert [item.id for item in drawn] == [item.id for item in [*own, *other]]
    found = Counter(item.split for item in drawn)
    assert found["train"] >= 1
    if given_split:
        assert found[given_split] == 1
    if size >= 3:
        assert found["validation"] >= 1
        assert found["test"] >= 1


def test_notes_name_what_was_drawn() -> None:
    _, notes = draw(items_of({"cat": 10, "ant": 1}))
    assert notes == [
        "No test split given: drew 2 images from train (share 0.15 of each class, seed 0).",
        "No validation split given: drew 2 images from train (share 0.15 of each class, seed 0).",
        "Classes too small for the test split: ant.",
        "Classes too small for the validation split: ant.",
    ]


def test_drawing_depends_on_the_seed_not_on_the_order() -> None:
    items = items_of({"cat": 30, "dog": 30})
    one, _ = draw(items, seed=1)
    backwards, _ = draw(items[::-1], seed=1)
    other, _ = draw(items, seed=2)
    assert backwards[::-1] == one
    assert other != one


def test_identical_images_stay_in_one_split() -> None:
    items = items_of({"cat": 40})
    drawn, notes = draw_missing_splits(
        items, [item.row // 2 for item in items], DataConfig(), seed=0
    )
    splits: dict[int, set[str]] = {}
    for item in drawn:
        splits.setdefault(item.row // 2, set()).add(item.split)
    assert notes[-1].startswith("40 images are near-duplicates of another one or in a group")
    assert {len(found) for found in splits.values()} == {1}
    assert counts(drawn, "cat") == (28, 6, 6)


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=30),
    classes=st.integers(1, 3),
    seed=st.integers(0, 3),
)
def test_groups_are_whole_and_train_keeps_one(sizes: list[int], classes: int, seed: int) -> None:
    groups = [number for number, size in enumerate(sizes) for _ in range(size)]
    items = [Item(row, f"i{row}", f"c{row % classes}", "train") for row in range(len(groups))]
    drawn, _ = draw_missing_splits(items, groups, DataConfig(), seed=seed)
    splits: dict[int, set[str]] = {}
    for item, group in zip(drawn, groups, strict=True):
        splits.setdefault(group, set()).add(item.split)
    assert all(len(found) == 1 for found in splits.values())
    assert any(item.split == "train" for item in drawn)
    if classes == 1 and len(sizes) >= 3:
        assert {item.split for item in drawn} == {"train", "validation", "test"}


def test_a_real_image_in_a_group_with_a_synthetic_one_stays_in_train() -> None:
    items = items_of({"cat": 40})
    synthetic = {item.id for item in items[::4]}
    groups = [item.row // 2 for item in items]
    drawn, notes = draw_missing_splits(items, groups, DataConfig(), seed=0, synthetic=synthetic)
    held_out = {item.row // 2 for item in drawn if item.split != "train"}
    assert held_out
    assert all(group % 2 for group in held_out)
    assert any("and so do 10 real images in a group with one" in note for note in notes)


def test_without_real_training_images_a_given_test_split_is_enough() -> None:
    train, test = items_of({"cat": 4, "dog": 4}), items_of({"cow": 2}, "test")
    items, synthetic = [*train, *test], {item.id for item in train}
    drawn, notes = draw_missing_splits(
        items, range(len(items)), DataConfig(), seed=0, synthetic=synthetic
    )
    assert drawn == items
    assert notes[0].startswith("8 synthetic images stay in train")


def test_large_groups_do_not_blow_up_a_split() -> None:
    sizes = [30, *[1] * 70]
    groups = [number for number, size in enumerate(sizes) for _ in range(size)]
    items = items_of({"cat": 100})
    for seed in range(5):
        drawn, _ = draw_missing_splits(items, groups, DataConfig(), seed=seed)
        assert counts(drawn, "cat") == (70, 15, 15)


def test_a_smaller_training_subset_is_part_of_a_larger_one() -> None:
    items = [*items_of({"cat": 50, "dog": 60, "ant": 3}), Item(999, "t", "cat", "test")]
    chosen = {}
    for per_class in (10, 40):
        kept, notes = draw_train_subset(items, per_class, seed=7)
        chosen[per_class] = {item.id for item in kept}
        assert counts(kept, "cat") == (per_class, 0, 1)
        assert notes[-1] == f"Classes with fewer than data.train_per_class={per_class} images: ant."
    assert chosen[10] < chosen[40]
    other, _ = draw_train_subset(items, 10, seed=8)
    assert {item.id for item in other} != chosen[10]


def test_fingerprint_sees_split_id_class_and_content_but_not_order() -> None:
    items = items_of({"cat": 3, "dog": 2})
    contents = {item.id: item.id.encode() for item in items} | {"cat/x": b"cat/0"}
    same = fingerprint_of(items[::-1], contents)
    assert fingerprint_of(items, contents) == same
    assert fingerprint_of(items, {**contents, "cat/0": b"cat/1"}) != same
    changes = [
        Item(0, "cat/0", "cat", "test"),
        Item(0, "cat/x", "cat", "train"),
        Item(0, "cat/0", "dog", "train"),
    ]
    changed = {fingerprint_of([change, *items[1:]], contents) for change in changes}
    assert len(changed | {same}) == 4


def save(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (number, 0, 0)).save(path)


def load(root: Path) -> ImageSplits:
    return load_data(DataConfig(path=str(root)), seed=0)


def test_fingerprint_and_splits_do_not_depend_on_the_location(tmp_path: Path) -> None:
    for number in range(12):
        save(tmp_path / "here" / ("cat", "dog")[number % 2] / f"{number}.png", number)
    shutil.copytree(tmp_path / "here", tmp_path / "somewhere" / "else")
    here, there = load(tmp_path / "here"), load(tmp_path / "somewhere" / "else")
    assert here.fingerprint == there.fingerprint
    assert here.to_rows() == there.to_rows()


def test_duplicates_across_splits_and_classes_are_noted_and_kept(tmp_path: Path) -> None:
    for number, name in enumerate(("train/cat/a", "train/dog/a", "val/dog/a", "test/cat/z")):
        save(tmp_path / f"{name}.png", number)
    shutil.copy(tmp_path / "train/cat/a.png", tmp_path / "test/cat/b.png")
    (tmp_path / "test/dog").mkdir()
    shutil.copy(tmp_path / "train/cat/a.png", tmp_path / "test/dog/c.png")
    data = load(tmp_path)
    assert len(data.test) == 3
    assert data.notes[-2:] == (
        "Images of test that are identical to images of train: 2 (first: test/cat/b.png = "
        "train/cat/a.png); test figures may be too high.",
        "Images that occur with two different classes: 1 (first: test/cat/b.png = test/dog/c.png).",
    )


def test_labelled_images_from_images_in_memory() -> None:
    images = [Image.new("RGB", (2, 2), colour) for colour in ("red", "lime")]
    made = LabelledImages.from_images(images, [1, 0], class_names=("a", "b"), ids=("x", "y"))
    assert made.image(made.index_of("y")).getpixel((0, 0)) == (0, 255, 0)
    for wrong in ({"labels": [0]}, {"labels": [0, 2]}, {"ids": ("x", "x")}):
        arguments = {"labels": [0, 1], "ids": ("x", "y")} | wrong
        with pytest.raises(DataError, match="must"):
            LabelledImages.from_images(images, class_names=("a", "b"), **arguments)  # type: ignore[arg-type]
