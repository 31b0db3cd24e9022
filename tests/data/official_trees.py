"""Small trees in the exact layout of the official archives, with real JPEG bytes."""

from __future__ import annotations

import json
import shutil
from itertools import count
from pathlib import Path

from PIL import Image

from gendataagent.data.imagenet_classes import imagenet100_ids

FLOWER_FILES = Path(__file__).parent / "flowers102"  # written by scipy.io.savemat
_number = count()


def jpeg(path: Path) -> None:
    """Write a small JPEG; no two have the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number = next(_number)
    image = Image.new("RGB", (8, 8), (number % 256, number // 256 % 256, 90))
    image.save(path, format="JPEG", comment=str(number))


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def pets(root: Path) -> Path:
    """Two cats and a dog; numbers 1, 34, 12 as in the archive; four images each a split."""
    lists: dict[str, list[str]] = {"trainval": [], "test": []}
    for breed, rest in (
        ("Abyssinian", "1 1 1"), ("Maine_Coon", "21 1 6"), ("yorkshire_terrier", "37 2 25"),
    ):  # fmt: skip
        for number in range(100, 108):
            jpeg(root / f"images/{breed}_{number}.jpg")
            lists["trainval" if number % 2 else "test"].append(f"{breed}_{number} {rest}")
    for name, lines in lists.items():
        write(root / f"annotations/{name}.txt", *lines)
    write(root / "annotations/list.txt", "#Image CLASS-ID SPECIES BREED ID", *lists["test"])
    (root / "annotations/._trainval.txt").write_bytes(b"\x00\x05\x16\x07")
    (root / "images/._Abyssinian_100.jpg").write_bytes(b"\x00\x05\x16\x07")
    (root / "images/Abyssinian_100.mat").write_bytes(b"MATLAB")
    return root


def cub(root: Path) -> Path:
    """Two birds with four images each, every second one for training."""
    classes = ["001.Black_footed_Albatross", "010.Red_winged_Blackbird"]
    images, labels, splits = [], [], []
    for number in range(1, 9):
        label = 1 if number <= 4 else 2
        path = f"{classes[label - 1]}/Bird_{number:04d}_18.jpg"
        jpeg(root / "images" / path)
        images.append(f"{number} {path}")
        labels.append(f"{number} {label}")
        splits.append(f"{number} {number % 2}")
    write(root / "images.txt", *images)
    write(root / "image_class_labels.txt", *labels)
    write(root / "train_test_split.txt", *splits)
    write(root / "classes.txt", *(f"{n} {name}" for n, name in enumerate(classes, start=1)))
    write(root / "bounding_boxes.txt", "1 60.0 27.0 325.0 304.0")
    return root


def flowers(root: Path) -> Path:
    """Twelve images of labels 1 and 77: two for training, two for validation, eight for test."""
    for number in range(1, 13):
        jpeg(root / f"jpg/image_{number:05d}.jpg")
    for name in ("imagelabels.mat", "setid.mat"):
        shutil.copy(FLOWER_FILES / name, root / name)
    return root


def birdsnap(root: Path, folder_name: str = "images") -> Path:
    """Two species, three images each, the last for test; tab-separated with column names."""
    species = {"1": ("Cooper's Hawk", "Coopers_Hawk"), "2": ("Blue Jay", "Blue_Jay")}
    parts = ["bb_x1", "bb_y1", "bb_x2", "bb_y2", "back_x", "back_y"]
    images, tests = ["\t".join(["url", "md5", "path", "species_id", *parts])], ["path"]
    for number, (_, folder) in species.items():
        for image in (561, 629, 717):
            path = f"{folder}/{image:04d}.jpg"
            jpeg(root / folder_name / path)
            address = f"http://farm6.staticflickr.com/{image}_o.jpg"
            boxes = ["153", "57", "288", "401", "", ""]
            images.append("\t".join([address, "0f" * 16, path, number, *boxes]))
            if image == 717:
                tests.append(path)
    write(root / "images.txt", *images)
    write(root / "test_images.txt", *tests)
    write(
        root / "species.txt",
        "id\tcommon\tscientific\tdir",
        *(f"{n}\t{common}\tLatin name\t{folder}" for n, (common, folder) in species.items()),
    )
    return root


def food(root: Path, *, as_json: bool = False) -> Path:
    """Two dishes, three images each for training, one for test."""
    lists: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for dish in ("apple_pie", "pho"):
        for number in (1005649, 1014775, 1026328, 134):
            jpeg(root / f"images/{dish}/{number}.jpg")
            split = lists["test" if number == 134 else "train"]
            split.setdefault(dish, []).append(f"{dish}/{number}")
    for name, by_dish in lists.items():
        if as_json:
            write(root / f"meta/{name}.json", json.dumps(by_dish))
        else:
            write(
                root / f"meta/{name}.txt", *(path for paths in by_dish.values() for path in paths)
            )
    write(root / "meta/classes.txt", "apple_pie", "pho")
    write(root / "meta/labels.txt", "Apple pie", "Pho")
    return root


def imagenet(root: Path, *, classes: int = 100, more: tuple[str, ...] = ()) -> Path:
    """Two training images and one validation image for each of some of the 100 classes."""
    for wordnet_id in (*imagenet100_ids()[:classes], *more):
        jpeg(root / f"train/{wordnet_id}/{wordnet_id}_10026.JPEG")
        jpeg(root / f"train/{wordnet_id}/{wordnet_id}_9.JPEG")
        jpeg(root / f"val/{wordnet_id}/ILSVRC2012_val_0{wordnet_id[1:]}.JPEG")
    return root
