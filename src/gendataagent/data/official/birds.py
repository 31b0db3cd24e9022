"""CUB-200-2011 and Birdsnap, each by its own lists."""

from __future__ import annotations

import re
from pathlib import Path

from gendataagent.core.errors import DataError
from gendataagent.data.class_names import readable_class_name
from gendataagent.data.index import TEST, TRAIN
from gendataagent.data.official.archive import Contents, Entry
from gendataagent.data.official.lists import read_lines, read_pairs, read_table

CUB_LISTS = ("images.txt", "image_class_labels.txt", "classes.txt", "train_test_split.txt")
BIRDSNAP_LISTS = ("images.txt", "species.txt", "test_images.txt")
# where get_birdsnap.py, part of the archive, puts images, and where users move them
BIRDSNAP_FOLDERS = ("images", "download/images", "download")


def read_cub(base: Path) -> Contents:
    """Return CUB-200-2011; every list holds "id value" lines, 1 in train_test_split.txt = train."""
    classes = {
        number: readable_class_name(re.sub(r"^\d+\.", "", name))
        for number, (name, _) in read_pairs(base, "classes.txt", '"1 001.Some_Bird"').items()
    }
    labels = read_pairs(base, "image_class_labels.txt", "image and class number")
    splits = read_pairs(base, "train_test_split.txt", "image number and 0 or 1")
    entries = []
    for number, (path, line) in read_pairs(base, "images.txt", "number and path").items():
        for other, name in ((labels, "image_class_labels.txt"), (splits, "train_test_split.txt")):
            if number not in other:
                raise DataError(
                    f"{line}: image {number} is not in {name}; unpack the archive again"
                )
        label, label_line = labels[number]
        if label not in classes:
            raise label_line.fault(f"a class of classes.txt ({len(classes)} classes)")
        split, split_line = splits[number]
        if split not in ("0", "1"):
            raise split_line.fault("image number and 0 or 1")
        entries.append(
            Entry(f"images/{path}", classes[label], TRAIN if split == "1" else TEST, line)
        )
    return Contents(entries=entries, class_names=tuple(classes.values()))


def read_birdsnap(base: Path) -> Contents:
    """Return Birdsnap 1.1; images that test_images.txt does not name are train.

    species.txt has the columns id, common, scientific, dir; images.txt among others path and
    species_id; test_images.txt path.
    """
    species = {
        number: readable_class_name(common)
        for (number, common), _ in read_table(base, "species.txt", ("id", "common"))
    }
    rows = list(read_table(base, "images.txt", ("path", "species_id")))
    known = {path for (path, _), _ in rows}
    tested = set()
    for (path,), line in read_table(base, "test_images.txt", ("path",)):
        if path not in known:
            raise line.fault("a path of images.txt")
        tested.add(path)
    folder = _birdsnap_folder(base, [path for (path, _), _ in rows])
    entries = []
    for (path, number), line in rows:
        if number not in species:
            raise line.fault(f"a species_id of species.txt ({len(species)} species)")
        split = TEST if path in tested else TRAIN
        entries.append(Entry(f"{folder}/{path}", species[number], split, line))
    return Contents(entries=entries, class_names=tuple(species.values()))


def _birdsnap_folder(base: Path, paths: list[str]) -> str:
    """Return the folder of the species folders, of which most may be missing."""
    tops = sorted({path.partition("/")[0] for path in paths})
    for folder in BIRDSNAP_FOLDERS:
        if any((base / folder / top).is_dir() for top in tops):
            return folder
    return BIRDSNAP_FOLDERS[0]


def is_birdsnap(base: Path) -> bool:
    """Return whether images.txt is Birdsnap's: CUB's has no header line."""
    first = next(read_lines(base, "images.txt"), None)
    return first is not None and "species_id" in first.text.split("\t")
