"""The paper's six data sets from small trees in their official layout."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError
from gendataagent.data import ImageSplits, load_data
from gendataagent.data.imagenet_classes import imagenet100_ids, imagenet_names
from gendataagent.data.official import ARCHIVES, PAPER
from tests.data import official_trees as trees

TREES: dict[str, Callable[[Path], Path]] = {
    "pets": trees.pets,
    "cub": trees.cub,
    "flowers": trees.flowers,
    "birdsnap": trees.birdsnap,
    "food": trees.food,
    "in100": lambda root: trees.imagenet(root, classes=3),
}


def load(root: Path, layout: str = "auto", **settings: Any) -> ImageSplits:
    return load_data(DataConfig(path=str(root), layout=layout, **settings), seed=0)


def classes_of(data: ImageSplits, split: str) -> dict[str, str]:
    """Return {id: class name} of train and validation together, or of test."""
    parts = [data.test] if split == "test" else [data.train, data.validation]
    return {
        source: part.class_names[label]
        for part in parts
        for source, label in zip(part.ids, part.labels, strict=True)
    }


def note(data: ImageSplits, start: str) -> str:
    (found,) = [text for text in data.notes if text.startswith(start)]
    return found


@pytest.mark.parametrize("whole_folder", [True, False])
def test_links_out_of_an_archive_are_said(tmp_path: Path, whole_folder: bool) -> None:
    root = trees.pets(tmp_path / "pets")
    moved = root / "images" if whole_folder else next((root / "images").glob("Maine*.jpg"))
    assert not any("symbolic links" in text for text in load(root).notes)
    moved.rename(tmp_path / "elsewhere")
    moved.symlink_to(tmp_path / "elsewhere")
    first = "images/Abyssinian_1" if whole_folder else f"images/{moved.name}"
    said = note(load(root), "Followed symbolic links out of the data folder")
    assert first in said


def test_pets(tmp_path: Path) -> None:
    data = load(trees.pets(tmp_path))
    assert data.class_names == ("Abyssinian", "Maine Coon", "yorkshire terrier")
    assert classes_of(data, "test") == {
        f"images/{breed}_{n}.jpg": breed.replace("_", " ")
        for breed in ("Abyssinian", "Maine_Coon", "yorkshire_terrier")
        for n in (100, 102, 104, 106)
    }
    assert len(classes_of(data, "train")) == 12
    assert data.test.image(0).size == (8, 8)
    assert data.quarantined == ()
    assert note(data, "Read ").endswith("archive of Oxford-IIIT Pets (data.layout = pets).")
    assert note(data, "train:") == "train: 12 images, the paper has 3,680 (Oxford-IIIT Pets)."
    assert note(data, "test:") == "test: 12 images, the paper has 3,669 (Oxford-IIIT Pets)."
    assert note(data, "3 classes") == "3 classes, the paper has 37 (Oxford-IIIT Pets)."
    assert note(data, "The paper has no").endswith("9 training images remain.")


def test_cub(tmp_path: Path) -> None:
    data = load(trees.cub(tmp_path))
    assert data.class_names == ("Black footed Albatross", "Red winged Blackbird")
    assert classes_of(data, "test") == {
        "images/001.Black_footed_Albatross/Bird_0002_18.jpg": "Black footed Albatross",
        "images/001.Black_footed_Albatross/Bird_0004_18.jpg": "Black footed Albatross",
        "images/010.Red_winged_Blackbird/Bird_0006_18.jpg": "Red winged Blackbird",
        "images/010.Red_winged_Blackbird/Bird_0008_18.jpg": "Red winged Blackbird",
    }


def test_flowers_train_is_the_official_train_and_validation_set(tmp_path: Path) -> None:
    data = load(trees.flowers(tmp_path))
    assert data.class_names == ("pink primrose", "passion flower")
    assert classes_of(data, "train") == {
        "jpg/image_00001.jpg": "pink primrose",
        "jpg/image_00002.jpg": "pink primrose",
        "jpg/image_00007.jpg": "passion flower",
        "jpg/image_00008.jpg": "passion flower",
    }
    assert set(classes_of(data, "test")) == {
        f"jpg/image_{n:05d}.jpg" for n in (3, 4, 5, 6, 9, 10, 11, 12)
    }
    assert "trnid and valid" in note(data, "Train is the official training and validation set")


@pytest.mark.parametrize("folder", ["images", "download/images"])
def test_birdsnap_reports_missing_images(tmp_path: Path, folder: str) -> None:
    trees.birdsnap(tmp_path, folder)
    (tmp_path / folder / "Coopers_Hawk/0561.jpg").unlink()
    (tmp_path / folder / "Blue_Jay/0717.jpg").unlink()
    data = load(tmp_path)
    assert data.class_names == ("Cooper's Hawk", "Blue Jay")
    assert set(classes_of(data, "test")) == {f"{folder}/Coopers_Hawk/0717.jpg"}
    assert [(bad.name, bad.reason) for bad in data.quarantined] == [
        (f"{folder}/Coopers_Hawk/0561.jpg", "named in the list, but the file is missing"),
        (f"{folder}/Blue_Jay/0717.jpg", "named in the list, but the file is missing"),
    ]
    assert note(data, "2 of 6 listed") == (
        f"2 of 6 listed images are missing (train 1, test 1; first: "
        f"{folder}/Coopers_Hawk/0561.jpg). Many Birdsnap images are no longer on the web."
    )


def test_test_images_of_a_species_without_training_images_are_dropped(tmp_path: Path) -> None:
    trees.birdsnap(tmp_path)
    species = (tmp_path / "species.txt").read_text() + "3\tSnail Kite\tLatin\tSnail_Kite\n"
    (tmp_path / "species.txt").write_text(species)
    for name, line in (
        ("images", "u\tm\tSnail_Kite/1.jpg\t3"),
        ("test_images", "Snail_Kite/1.jpg"),
    ):
        with open(tmp_path / f"{name}.txt", "a") as stream:
            stream.write(f"{line}\n")
    trees.jpeg(tmp_path / "images/Snail_Kite/1.jpg")
    data = load(tmp_path)
    assert data.class_names == ("Cooper's Hawk", "Blue Jay")
    assert len(data.test) == 2
    assert note(data, "Dropped 1 test") == (
        "Dropped 1 test image of 1 class without any training image: Snail Kite."
    )


@pytest.mark.parametrize("as_json", [False, True])
def test_food(tmp_path: Path, as_json: bool) -> None:
    data = load(trees.food(tmp_path, as_json=as_json))
    assert data.class_names == ("Apple pie", "Pho")
    assert classes_of(data, "test") == {
        "images/apple_pie/134.jpg": "Apple pie", "images/pho/134.jpg": "Pho"
    }  # fmt: skip
    (tmp_path / "meta/labels.txt").unlink()
    assert load(tmp_path).class_names == ("apple pie", "pho")


def test_imagenet100_is_recognised_by_its_classes_and_tested_on_val(tmp_path: Path) -> None:
    data = load(trees.imagenet(tmp_path))
    assert len(data.class_names) == 100
    assert data.class_names[0] == "American robin"
    assert data.class_names[imagenet100_ids().index("n02123045")] == "tabby cat"
    assert len(data.test) == 100
    assert data.test.ids[0] == "val/n01558993/ILSVRC2012_val_001558993.JPEG"
    assert not [text for text in data.notes if "classes, the paper" in text]
    assert note(data, "test:") == "test: 100 images, the paper has 5,000 (ImageNet-100)."


def test_all_of_imagenet_is_a_plain_folder_unless_the_layout_is_named(tmp_path: Path) -> None:
    trees.imagenet(tmp_path, classes=2, more=("n01440764",))
    assert load(tmp_path).class_names == ("tench", "American robin", "Gila monster")
    data = load(tmp_path, "in100")
    assert data.class_names == ("American robin", "Gila monster")
    assert note(data, "98 of the 100 classes")


def flat_val(root: Path) -> Path:
    """All of Kaggle's archive in small: flat val, and a list of its classes three levels up."""
    base = root / "ILSVRC/Data/CLS-LOC"
    trees.imagenet(base, classes=2)
    shutil.rmtree(base / "val")
    for number in (1, 2, 3):
        trees.jpeg(base / f"val/ILSVRC2012_val_{number:08d}.JPEG")
    return base


def test_flat_validation_set_with_the_list_of_kaggle(tmp_path: Path) -> None:
    base = flat_val(tmp_path)
    trees.write(
        tmp_path / "LOC_val_solution.csv",
        "ImageId,PredictionString",
        "ILSVRC2012_val_00000002,n01692333 85 1 499 272 n01692333 1 1 2 2",
        "ILSVRC2012_val_00000001,n01440764 1 1 2 2",
        "ILSVRC2012_val_00000003,n01558993 1 1 2 2",
    )
    for place in (tmp_path, base):
        data = load(place, "in100")
        assert classes_of(data, "test") == {
            "val/ILSVRC2012_val_00000002.JPEG": "Gila monster",
            "val/ILSVRC2012_val_00000003.JPEG": "American robin",
        }
        assert not [text for text in data.notes if text.startswith("Dropped")]


def test_flat_validation_set_with_one_class_a_line(tmp_path: Path) -> None:
    base = flat_val(tmp_path)
    with pytest.raises(DataError, match=r"no list of their classes was found .*LOC_val_solution"):
        load(base, "in100")
    trees.write(base / "val/ILSVRC2012_validation_ground_truth.txt", "490", "361", "171")
    with pytest.raises(
        DataError, match=r"ground_truth\.txt, line 1: the class numbers of the devel"
    ):
        load(base, "in100")
    name = "imagenet_2012_validation_synset_labels.txt"
    trees.write(base / name, "n01440764", "n01692333", "n01558993")
    assert classes_of(load(base, "in100"), "test")["val/ILSVRC2012_val_00000002.JPEG"] == (
        "Gila monster"
    )


def test_symbolic_links_count_as_images(tmp_path: Path) -> None:
    trees.pets(tmp_path / "there")
    (tmp_path / "here").mkdir()
    shutil.copytree(tmp_path / "there/annotations", tmp_path / "here/annotations")
    (tmp_path / "here/images").symlink_to(tmp_path / "there/images")
    assert len(load(tmp_path / "here").test) == 12


def test_listed_names_without_a_file_are_quarantined(tmp_path: Path) -> None:
    trees.pets(tmp_path)
    for name in ("Abyssinian_100", "Maine_Coon_101"):
        (tmp_path / f"images/{name}.jpg").unlink()
    (tmp_path / "images/Abyssinian_100.jpg").mkdir()
    (tmp_path / "images/Maine_Coon_101.jpg").symlink_to("nowhere.jpg")
    assert [(bad.name, bad.reason) for bad in load(tmp_path).quarantined] == [
        ("images/Maine_Coon_101.jpg", "named in the list, but the file is missing"),
        ("images/Abyssinian_100.jpg", "not a regular file"),
    ]


@pytest.mark.parametrize("key", TREES)
def test_the_folder_above_gives_the_same_data(tmp_path: Path, key: str) -> None:
    TREES[key](tmp_path / "above" / "archive")
    layout = "in100" if key == "in100" else "auto"
    above, base = load(tmp_path / "above", layout), load(tmp_path / "above/archive", layout)
    assert above.fingerprint == base.fingerprint
    assert above.to_rows() == base.to_rows()


def test_counts_that_agree_with_the_paper_are_not_mentioned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = replace(PAPER["pets"], train=12, test=12, classes=3)
    monkeypatch.setitem(ARCHIVES, "pets", replace(ARCHIVES["pets"], counts=whole))
    data = load(trees.pets(tmp_path))
    assert not [text for text in data.notes if "the paper has" in text]
    (tmp_path / "images/Maine_Coon_101.jpg").write_bytes(b"\xff\xd8 broken")
    data = load(tmp_path)
    assert note(data, "train:") == "train: 11 images, the paper has 12 (Oxford-IIIT Pets)."
    assert [bad.name for bad in data.quarantined] == ["images/Maine_Coon_101.jpg"]


def test_layout_folder_reads_the_classes_of_an_archive_as_folders(tmp_path: Path) -> None:
    data = load(trees.cub(tmp_path) / "images")
    assert data.class_names == ("Black footed Albatross", "Red winged Blackbird")
    assert load(tmp_path / "images", "folder").fingerprint == data.fingerprint
    shutil.move(tmp_path / "images" / "001.Black_footed_Albatross", tmp_path)
    with pytest.raises(DataError, match="two classes"):
        load(tmp_path / "images", "folder")


def test_plain_folders_are_not_mistaken_for_archives(tmp_path: Path) -> None:
    for name in ("images/a", "jpg/a", "annotations/a", "meta/a", "train/a"):
        trees.jpeg(tmp_path / f"{name}.jpg")
    trees.write(tmp_path / "classes.txt", "1 x")
    trees.write(tmp_path / "images.txt", "1 x")
    data = load(tmp_path)
    assert data.class_names == ("annotations", "images", "jpg", "meta", "train")
    assert not [text for text in data.notes if "layout" in text]


def test_two_archives_in_one_folder(tmp_path: Path) -> None:
    trees.pets(tmp_path / "oxford-iiit-pet")
    trees.cub(tmp_path / "CUB_200_2011")
    with pytest.raises(DataError, match=r"more than one data set: .*CUB_200_2011 \(CUB-200-2011\)"):
        load(tmp_path)
    assert len(load(tmp_path, "pets").class_names) == 3


MISSING = {
    "pets": ("annotations/test.txt", "Unpack images.tar.gz and annotations.tar.gz"),
    "cub": ("train_test_split.txt", "Unpack CUB_200_2011.tgz"),
    "flowers": ("setid.mat", "Unpack 102flowers.tgz"),
    "birdsnap": ("species.txt", "birdsnap.tgz .* get_birdsnap.py"),
    "food": ("meta/classes.txt", "Unpack food-101.tar.gz"),
    "in100": ("val/", "ILSVRC2012_img_val.tar"),
}


@pytest.mark.parametrize("key", TREES)
def test_a_named_layout_says_which_files_are_missing(tmp_path: Path, key: str) -> None:
    name, unpack = MISSING[key]
    base = TREES[key](tmp_path / "archive")
    shutil.rmtree(base / name) if name.endswith("/") else (base / name).unlink()
    with pytest.raises(
        DataError, match=f"but {re.escape(name)} of .* missing in .*archive .*{unpack}"
    ):
        load(tmp_path, key)


BROKEN = [
    ("pets", "annotations/trainval.txt", 3, "Abyssinian_105 1 1", "an image and three numbers"),
    ("pets", "annotations/trainval.txt", 2, "Abyssinian_103 x 1 1", "an image and three numbers"),
    ("pets", "annotations/test.txt", 2, "Abyssinian_102 37 1 1", "class 37 is 'Abyssinian' here"),
    ("pets", "annotations/test.txt", 1, "Abyssinian_101 1 1 1", "a second time .*trainval.txt, l"),
    ("pets", "annotations/test.txt", 1, "../x/Elsewhere_1 99 1 1", "a path outside the archive"),
    ("cub", "images.txt", 4, "4", "number and path"),
    ("cub", "images.txt", 4, "3 001.Black/x.jpg", "3 is already in images.txt, line 3"),
    ("cub", "images.txt", 4, "99 001.Black/x.jpg", "image 99 is not in image_class_labels"),
    ("cub", "image_class_labels.txt", 5, "5 201", "a class of classes.txt"),
    ("cub", "train_test_split.txt", 6, "6 2", "image number and 0 or 1"),
    ("birdsnap", "images.txt", 3, "u\tm\tCoopers_Hawk/0629.jpg", "tab-separated cells"),
    ("birdsnap", "images.txt", 3, "u\tm\tCoopers_Hawk/0629.jpg\t9", "a species_id of species"),
    ("birdsnap", "species.txt", 1, "id\tname", "column names with common"),
    ("birdsnap", "test_images.txt", 2, "Coopers_Hawk/9.jpg", "a path of images.txt"),
    ("food", "meta/train.txt", 2, "apple_pie", "class/number"),
    ("food", "meta/train.txt", 2, "burger/1", "with a class of meta/classes.txt"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "name", "number", "text", "message"), BROKEN)
def test_a_broken_list_names_its_file_and_line(
    tmp_path: Path, key: str, name: str, number: int, text: str, message: str
) -> None:
    root = TREES[key](tmp_path)
    lines = (root / name).read_text().splitlines()
    lines[number - 1] = text
    trees.write(root / name, *lines)
    with pytest.raises(DataError, match=rf"{re.escape(name)}, line {number}\b.*{message}"):
        load(root, key)


def test_broken_json_and_labels_of_food(tmp_path: Path) -> None:
    root = trees.food(tmp_path, as_json=True)
    trees.write(root / "meta/train.json", '{"apple_pie": ["apple_pie/1", 7]}')
    with pytest.raises(DataError, match=r"meta/train\.json \(apple_pie\), line 2: .*class/number"):
        load(root)
    trees.write(root / "meta/train.json", '{"apple_pie": ')
    with pytest.raises(DataError, match=r"cannot read .*meta/train\.json"):
        load(root)
    trees.write(root / "meta/labels.txt", "Apple pie")
    with pytest.raises(DataError, match=r"labels\.txt names 1 classes, meta/classes\.txt 2"):
        load(root)


def test_an_archive_without_images_is_refused(tmp_path: Path) -> None:
    root = trees.cub(tmp_path)
    shutil.rmtree(root / "images")
    (root / "images").mkdir()
    with pytest.raises(DataError, match=r"all 8 images .* are missing .*Unpack CUB_200_2011\.tgz"):
        load(root)


def test_a_layout_is_ignored_for_tables_with_a_note() -> None:
    data = load(Path("bundled:cifar10"), "cub", train_per_class=1)
    assert note(data, "data.layout = cub is for folders and was ignored")


def test_an_empty_path_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trees.pets(tmp_path))
    with pytest.raises(
        DataError, match=r"data\.path is empty: give --data DIR, Oxford-IIIT Pets\. "
    ):
        load_data(DataConfig(path="", layout="pets"), seed=0)
    with pytest.raises(DataError, match=r"data\.path is empty: .* a folder of images"):
        load_data(DataConfig(path=""), seed=0)


def test_names_of_imagenet() -> None:
    names = imagenet_names()
    assert len(names) == len({name.casefold() for name in names.values()}) == 1000
    assert list(names) == sorted(names)
    assert len(imagenet100_ids()) == 100
    assert (names["n02086910"], names["n04592741"]) == ("Papillon", "airplane wing")
