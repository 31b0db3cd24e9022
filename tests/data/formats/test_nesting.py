"""animals/cat/1.jpg: which folder is the class."""

from __future__ import annotations

from pathlib import Path

import pytest

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError
from gendataagent.data.indexing import index_data
from tests.data.formats.test_folder import load, save

ANIMALS = [
    f"{folder}/{n}.png"
    for folder in ("animals/cat", "animals/dog", "vehicles/car", "vehicles/bus")
    for n in range(4)
]
NOTE = "set data.class_folder=last"


def make(root: Path, *names: str) -> Path:
    save(root, *names)
    return root


@pytest.mark.parametrize("top", ["", "train/"])
@pytest.mark.parametrize(
    ("how", "classes"),
    [
        ("auto", ("animals", "vehicles")),
        ("first", ("animals", "vehicles")),
        ("last", ("bus", "car", "cat", "dog")),
        ("path", ("animals/cat", "animals/dog", "vehicles/bus", "vehicles/car")),
    ],
)
def test_the_setting_chooses_and_auto_says_what_else_may_be_meant(
    tmp_path: Path, top: str, how: str, classes: tuple[str, ...]
) -> None:
    data = load(make(tmp_path, *(top + name for name in ANIMALS)), class_folder=how)
    assert data.class_names == classes
    assert sum(map(len, data.by_name().values())) == 16
    assert any(NOTE in note for note in data.notes) == (how == "auto")


@pytest.mark.parametrize(
    "names",
    [
        ["cat/a/1.png", "cat/2.png", "dog/b/1.png", "dog/c/2.png"],
        ["cat/2020/1.png", "cat/2021/2.png", "dog/2021-05/1.png", "dog/01/2.png"],
        ["cat/images/1.png", "cat/images/2.png", "dog/photos/1.png", "dog/photos/2.png"],
        ["cat/left/1.png", "cat/right/2.png", "dog/left/1.png", "dog/right/2.png"],
    ],
    ids=["images beside", "dates", "one each", "the same in each"],
)
def test_sub_folders_that_are_no_classes_need_no_note(tmp_path: Path, names: list[str]) -> None:
    data = load(make(tmp_path, *names))
    assert data.class_names == ("cat", "dog")
    assert not any(NOTE in note for note in data.notes)


def test_a_folder_that_holds_all_class_folders_is_no_class(tmp_path: Path) -> None:
    names = [f"photos/{kind}/{n}.png" for kind in ("cat", "dog") for n in range(4)]
    data = load(make(tmp_path, *names))
    assert data.class_names == ("cat", "dog")
    assert any(note.startswith("photos/ holds all class folders") for note in data.notes)
    with pytest.raises(DataError, match=r"two classes .* got photos"):
        load(tmp_path, class_folder="first")


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["Images/cat/1.png", "Images/dog/1.png"], ("cat", "dog")),
        (["cat/2020/1.png", "cat/2021/1.png"], ("cat",)),
        (["cat/train/1.png", "cat/test/1.png"], ("cat",)),
        (["cat/indoor/1.png", "cat/2.png"], ("cat",)),
    ],
)
def test_to_measure_a_container_is_none_and_one_class_is_enough(
    tmp_path: Path, names: list[str], classes: tuple[str, ...]
) -> None:
    make(tmp_path, *names)
    index = index_data(DataConfig(path=str(tmp_path)), need_train=False)
    assert index.class_names == classes
    assert len(index.items) == 2


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["a b/a b/card/1.png", "a b/a b/glass/1.png"], ("card", "glass")),
        (["x/A/1.png", "x/B/1.png", "x/x/A/1.png", "x/x/B/1.png"], ("A", "B")),
        (["A/1.png", "B/1.png", "all/A/1.png", "all/B/1.png"], ("A", "B")),
    ],
    ids=["twice", "a second copy", "beside"],
)
def test_containers_and_second_copies_are_no_classes(
    tmp_path: Path, names: list[str], classes: tuple[str, ...]
) -> None:
    (tmp_path / "x/notes/old").mkdir(parents=True)
    data = load(make(tmp_path, *names))
    assert data.class_names == classes
    assert sum(map(len, data.by_name().values())) == 2


@pytest.mark.parametrize(
    "names",
    [
        ["fold1/cat/1.png", "fold1/dog/1.png", "fold2/cat/2.png", "fold2/dog/2.png"],
        ["cam/images/cat/1.png", "cam/images/dog/1.png", "web/images/cat/2.png",
         "web/images/dog/2.png"],
    ],
    ids=["folds", "domains"],
)  # fmt: skip
def test_the_same_classes_in_folds_or_domains_are_said_and_put_together(
    tmp_path: Path, names: list[str]
) -> None:
    tops = tuple(sorted({name.split("/")[0] for name in names}))
    data = load(make(tmp_path, *names))
    assert data.class_names == tops
    assert any(NOTE in note for note in data.notes)
    data = load(tmp_path, class_folder="last")
    assert data.class_names == ("cat", "dog")
    assert any(note.startswith("Put together folders of one name") for note in data.notes)


def test_splits_below_each_class_are_splits(tmp_path: Path) -> None:
    names = [
        f"{k}/{s}/{n}.png" for k in ("cat", "dog") for s in ("train", "test") for n in range(4)
    ]
    data = load(make(tmp_path, *names))
    assert data.class_names == ("cat", "dog")
    assert all("/test/" in id_ for id_ in data.test.ids)
    assert len(data.test) == 8
    assert "The folders below the classes (test, train) were read as splits." in data.notes


def test_folders_called_train_beside_others_are_said(tmp_path: Path) -> None:
    names = [f"{k}/{s}/{k}.png" for k in ("cat", "dog") for s in ("train", "test", "masks")]
    data = load(make(tmp_path, *names))
    assert any("were not read as splits, because others" in note for note in data.notes)


def test_one_name_in_two_places_is_not_made_one_class(tmp_path: Path) -> None:
    make(tmp_path, *ANIMALS, "vehicles/cat/9.png")
    with pytest.raises(DataError, match=r"one class 'cat' of animals/cat and vehicles/cat; .*path"):
        load(tmp_path, class_folder="last")
    assert len(load(tmp_path, class_folder="path").class_names) == 5


def test_the_same_class_in_several_splits_is_one_class(tmp_path: Path) -> None:
    names = [f"{split}/{name}" for split in ("train", "val", "test") for name in ANIMALS]
    data = load(make(tmp_path, *names), class_folder="last")
    assert data.class_names == ("bus", "car", "cat", "dog")
    assert len(data.test) == 16
