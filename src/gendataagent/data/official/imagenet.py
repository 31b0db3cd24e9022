"""ImageNet-100 (Tian et al. 2020): 100 classes from ImageNet's official folders.

Train is train/nXXXXXXXX/*.JPEG. Test is the official validation set: val/nXXXXXXXX/*.JPEG, or the
flat val/ILSVRC2012_val_00000001.JPEG with a list of its classes beside it.
"""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

from gendataagent.core.errors import DataError
from gendataagent.data.decoding.images import SUFFIXES
from gendataagent.data.imagenet_classes import imagenet100_ids, imagenet_names
from gendataagent.data.index import TEST, TRAIN
from gendataagent.data.official.archive import Contents, Entry
from gendataagent.data.official.lists import Line, read_lines

KAGGLE_LIST = "LOC_val_solution.csv"
LINE_LISTS = (
    "imagenet_2012_validation_synset_labels.txt",
    "ILSVRC2012_validation_ground_truth.txt",
)
# ILSVRC/Data/CLS-LOC is three levels below where Kaggle's archive puts its list
_LEVELS_UP = 3
_WORDNET_ID = re.compile(r"n\d{8}")


def read(base: Path) -> Contents:
    """Return the classes that have a train folder, ordered by WordNet id."""
    names = imagenet_names()
    wanted = imagenet100_ids()
    here = [wordnet_id for wordnet_id in wanted if (base / "train" / wordnet_id).is_dir()]
    if not here:
        raise DataError(
            f"{base / 'train'} has no folder of any ImageNet-100 class (the first is {wanted[0]}); "
            "unpack ILSVRC2012_img_train.tar, and each class in it into a folder named by its "
            "WordNet id"
        )
    entries = [
        Entry(f"train/{wordnet_id}/{name}", names[wordnet_id], TRAIN)
        for wordnet_id in here
        for name in _images(base / "train" / wordnet_id)
    ]
    entries += _test_entries(base, here)
    notes = []
    if absent := len(wanted) - len(here):
        notes.append(f"{absent} of the 100 classes of ImageNet-100 have no folder in train.")
    return Contents(entries=entries, class_names=tuple(names[i] for i in here), notes=tuple(notes))


def is_imagenet100(base: Path) -> bool:
    """Return whether train holds exactly the 100 classes, not all of ImageNet."""
    try:
        with os.scandir(base / "train") as found:
            folders = {entry.name for entry in found if not entry.name.startswith(".")}
    except OSError:  # no permission
        return False
    return folders == set(imagenet100_ids())


def _images(folder: Path) -> list[str]:
    with os.scandir(folder) as found:
        return sorted(
            entry.name
            for entry in found
            if not entry.name.startswith(".")
            and os.path.splitext(entry.name)[1].lower() in SUFFIXES
        )


def _test_entries(base: Path, wordnet_ids: list[str]) -> list[Entry]:
    names = imagenet_names()
    sorted_in = [i for i in wordnet_ids if (base / "val" / i).is_dir()]
    if sorted_in:
        return [
            Entry(f"val/{wordnet_id}/{name}", names[wordnet_id], TEST)
            for wordnet_id in sorted_in
            for name in _images(base / "val" / wordnet_id)
        ]
    class_of = _classes_of_flat(base)
    chosen = set(wordnet_ids)
    return [
        Entry(f"val/{image}.JPEG", names[wordnet_id], TEST, line)
        for image, (wordnet_id, line) in sorted(class_of.items())
        if wordnet_id in chosen
    ]


def _classes_of_flat(base: Path) -> dict[str, tuple[str, Line]]:
    """Return {image: (WordNet id, line)} of the validation set from a list beside or above it."""
    for folder in (base, *base.resolve().parents[:_LEVELS_UP]):
        if (folder / KAGGLE_LIST).is_file():
            return _kaggle_list(folder)
        for place in ("", "val", "data", "ILSVRC2012_devkit_t12/data"):
            for name in LINE_LISTS:
                if (folder / place / name).is_file():
                    return _line_list(folder / place, name)
    raise DataError(
        f"the images in {base / 'val'} are not in class folders, and no list of their classes was "
        f"found beside them. Put {KAGGLE_LIST} (Kaggle) or {LINE_LISTS[0]} there, or move the "
        "images into val/nXXXXXXXX/"
    )


def _kaggle_list(folder: Path) -> dict[str, tuple[str, Line]]:
    """Return the classes of a csv with ImageId and PredictionString ("n01978287 85 1 499 272")."""
    found = {}
    form = "ImageId,PredictionString with a WordNet id first, as n01978287 85 1 499 272"
    lines = read_lines(folder, KAGGLE_LIST)
    header = next(lines, Line(KAGGLE_LIST, 1, ""))
    if header.text.split(",")[:2] != ["ImageId", "PredictionString"]:
        raise header.fault("the column names ImageId,PredictionString")
    for line in lines:
        cells = next(csv.reader([line.text]))
        words = cells[1].split() if len(cells) > 1 else []
        if not words or not _WORDNET_ID.fullmatch(words[0]):
            raise line.fault(form)
        found[cells[0]] = (words[0], line)
    return found


def _line_list(folder: Path, name: str) -> dict[str, tuple[str, Line]]:
    """Return the classes of a list with one WordNet id a line, in the order of the images."""
    found = {}
    for line in read_lines(folder, name):
        wordnet_id = line.text.strip()
        if wordnet_id.isdigit():
            raise DataError(
                f"{line}: the class numbers of the development kit are not supported; put "
                f"{KAGGLE_LIST} or {LINE_LISTS[0]} (one WordNet id a line) beside val instead"
            )
        if not _WORDNET_ID.fullmatch(wordnet_id):
            raise line.fault("one WordNet id such as n01978287")
        found[f"ILSVRC2012_val_{line.number:08d}"] = (wordnet_id, line)
    return found
