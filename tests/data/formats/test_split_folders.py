"""Splits as downloads have them: in a folder of their own, with other words, held twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from gendataagent.config import DataConfig
from gendataagent.data.indexing import index_data
from tests.data.formats.test_folder import load, note, save


def tree(*tops: str, kinds: tuple[str, ...] = ("cat", "dog")) -> list[str]:
    return [f"{top}/{kind}/{n}.png" for top in tops for kind in kinds for n in range(3)]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (tree("fruits/Training", "fruits/Test"), ""),
        (tree("a/b/train", "a/b/test"), ""),
        (tree("images/train", "images/test"), ""),
        (tree("seg_train", "seg_test"), "Read seg_test/ as test, seg_train/ as train."),
        (tree("My Train", "My Test"), "Read My Test/ as test, My Train/ as train."),
        (tree("train/train", "test/test"), "test/test/, train/train/ hold all class folders"),
        (
            [*tree("x/seg_train/seg_train", "x/seg_test/seg_test"), "x/seg_pred/seg_pred/1.png"],
            "Read seg_test/ as test, seg_train/ as train.",
        ),
        (
            [*tree("chest/train", "chest/test"), *tree("chest/chest/train", "chest/chest/test")],
            "Ignored 12 images outside the split folders",
        ),
    ],
    ids=["wrapped", "twice wrapped", "images", "words", "spaces", "held", "all three", "copied"],
)
@pytest.mark.parametrize("need_train", [True, False])
def test_splits_of_downloads_are_found(
    tmp_path: Path, names: list[str], said: str, need_train: bool
) -> None:

    (tmp_path / "labels/train").mkdir(parents=True)
    save(tmp_path, *names)
    index = index_data(DataConfig(path=str(tmp_path)), need_train=need_train)
    assert index.class_names == ("cat", "dog")
    assert sorted(item.split for item in index.items) == ["test"] * 6 + ["train"] * 6
    assert all((item.split == "test") == ("test" in item.id.lower()) for item in index.items)
    assert not said or any(text.startswith(said) for text in index.notes)


def test_a_test_folder_without_classes_is_left_out_and_said(tmp_path: Path) -> None:
    save(tmp_path, *tree("abc_train/abc_train"), "abc_test/abc_test/1.png")
    data = load(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert len(data.test) == 2  # drawn
    assert note(data, "Ignored 1 image outside a class folder").endswith("abc_test/abc_test/1.png.")


@pytest.mark.parametrize(
    "tops",
    [
        ("freight train", "test tube"),
        ("freight train", "passenger train"),
        ("crash test", "flight test", "express train"),
        ("fold1_train", "fold1_test", "fold2_train", "fold2_test"),
    ],
)
def test_classes_with_such_words_stay_classes(tmp_path: Path, tops: tuple[str, ...]) -> None:
    save(tmp_path, *(f"{top}/x/{n}.png" for top in tops for n in range(3)))
    assert len(load(tmp_path).class_names) == len(tops)
