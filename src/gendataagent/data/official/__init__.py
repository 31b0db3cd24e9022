"""The six data sets of the paper in the layout of their official archives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gendataagent.config import AUTO
from gendataagent.core.errors import DataError
from gendataagent.data.index import PaperCounts
from gendataagent.data.official import birds, flowers, food, imagenet, pets
from gendataagent.data.official.archive import Archive, index_archive

__all__ = ["ARCHIVES", "PAPER", "find_archive", "index_archive", "missing_files_error"]

# Table 5 [S]
PAPER = {
    "pets": PaperCounts("Oxford-IIIT Pets", train=3_680, test=3_669, classes=37),
    "cub": PaperCounts("CUB-200-2011", train=5_994, test=5_794, classes=200),
    "flowers": PaperCounts("Flowers-102", train=2_040, test=6_149, classes=102),
    "birdsnap": PaperCounts("Birdsnap", train=47_386, test=2_443, classes=500),
    "food": PaperCounts("Food-101", train=75_750, test=25_250, classes=101),
    "in100": PaperCounts("ImageNet-100", train=126_689, test=5_000, classes=100),
}

ARCHIVES = {
    archive.key: archive
    for archive in (
        Archive(
            key="pets",
            counts=PAPER["pets"],
            files=("images/", *pets.LISTS.values()),
            unpack="Unpack images.tar.gz and annotations.tar.gz side by side",
            read=pets.read,
        ),
        Archive(
            key="cub",
            counts=PAPER["cub"],
            files=("images/", *birds.CUB_LISTS),
            unpack="Unpack CUB_200_2011.tgz and give the folder CUB_200_2011",
            read=birds.read_cub,
        ),
        Archive(
            key="flowers",
            counts=PAPER["flowers"],
            files=("jpg/", flowers.LABELS, flowers.SETS),
            unpack="Unpack 102flowers.tgz and put imagelabels.mat and setid.mat beside jpg/",
            read=flowers.read,
        ),
        Archive(
            key="birdsnap",
            counts=PAPER["birdsnap"],
            files=birds.BIRDSNAP_LISTS,
            unpack=(
                "Unpack birdsnap.tgz (version 1.1), fetch the images with its get_birdsnap.py "
                "and put them into images/ beside the lists"
            ),
            read=birds.read_birdsnap,
            recognise=birds.is_birdsnap,
            losses=" Many Birdsnap images are no longer on the web.",
        ),
        Archive(
            key="food",
            counts=PAPER["food"],
            files=(
                "images/",
                food.CLASSES,
                "meta/train.txt|meta/train.json",
                "meta/test.txt|meta/test.json",
            ),
            unpack="Unpack food-101.tar.gz and give the folder food-101",
            read=food.read,
        ),
        Archive(
            key="in100",
            counts=PAPER["in100"],
            files=("train/", "val/"),
            unpack=(
                "Unpack ILSVRC2012_img_train.tar to train/nXXXXXXXX/*.JPEG and "
                "ILSVRC2012_img_val.tar to val/, or unpack Kaggle's ImageNet archive"
            ),
            read=imagenet.read,
            recognise=imagenet.is_imagenet100,
            places=("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC"),
        ),
    )
}


def find_archive(root: Path, layout: str) -> tuple[Archive, Path] | None:
    """Return the archive at `root` or one level below and its folder; None if there is none.

    Args:
        layout: "auto" to recognise one by its files, a key of `ARCHIVES`, else none is.

    Raises:
        DataError: more than one archive.
    """
    if layout != AUTO and layout not in ARCHIVES:
        return None
    wanted = list(ARCHIVES.values()) if layout == AUTO else [ARCHIVES[layout]]
    found: list[tuple[Archive, Path]] = []
    for place in _places(root):
        for archive in wanted:
            for base in _bases(archive, place):
                if archive.is_in(base) and (layout != AUTO or archive.recognise(base)):
                    found.append((archive, base))
        if found and place == root:
            break
    if len(found) > 1:
        places = ", ".join(f"{base} ({archive.counts.title})" for archive, base in found)
        raise DataError(
            f"{root} holds more than one data set: {places}. Give one of them as data.path"
        )
    return found[0] if found else None


def missing_files_error(root: Path, layout: str) -> DataError:
    """Return the error naming the files missing at the location closest to the archive."""
    archive = ARCHIVES[layout]
    bases = [base for place in _places(root) for base in _bases(archive, place)]
    nearest = min(bases, key=lambda base: len(list(archive.missing(base))))
    missing = ", ".join(name.replace("|", " or ") for name in archive.missing(nearest))
    return DataError(
        f"data.layout is {archive.key}, but {missing} of {archive.counts.title} is missing in "
        f"{nearest} (sub-folders of {root} were searched too). {archive.unpack}, or set "
        "data.layout=folder for one folder a class"
    )


def _bases(archive: Archive, place: Path) -> list[Path]:
    return [place, *(place / below for below in archive.places)]


def _places(root: Path) -> Iterator[Path]:
    """Yield the folder and then its sub-folders, by name."""
    yield root
    with os.scandir(root) as found:
        names = sorted(e.name for e in found if not e.name.startswith("."))
    yield from (root / name for name in names if os.path.isdir(root / name))
