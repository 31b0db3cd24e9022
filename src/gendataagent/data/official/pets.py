"""Oxford-IIIT Pets: images/Abyssinian_100.jpg, annotations/trainval.txt and test.txt.

A line of a list is "Abyssinian_100 1 1 1": image, class 1..37, species, breed within the species.
"""

from __future__ import annotations

from pathlib import Path

from gendataagent.core.errors import DataError
from gendataagent.data.class_names import readable_class_name
from gendataagent.data.index import TEST, TRAIN
from gendataagent.data.official.archive import Contents, Entry
from gendataagent.data.official.lists import read_lines

LISTS = {TRAIN: "annotations/trainval.txt", TEST: "annotations/test.txt"}
_FORM = 'an image and three numbers such as "Abyssinian_100 1 1 1"'


def read(base: Path) -> Contents:
    """Return trainval as train and test; classes in the order of their official numbers.

    Names keep the spelling of the archive: cats capitalised ("Maine Coon"), dogs not ("yorkshire
    terrier").
    """
    names: dict[int, str] = {}
    entries = []
    for split, name in LISTS.items():
        for line in read_lines(base, name):
            if line.text.startswith("#"):
                continue
            words = line.text.split()
            breed, _, number = words[0].rpartition("_")
            if len(words) != 4 or not breed or not number.isdigit():
                raise line.fault(_FORM)
            class_name = readable_class_name(breed)
            label = line.whole_number(words[1], _FORM)
            if names.setdefault(label, class_name) != class_name:
                raise DataError(
                    f"{line}: class {label} is {class_name!r} here and {names[label]!r} before; "
                    "unpack annotations.tar.gz again"
                )
            entries.append(Entry(f"images/{words[0]}.jpg", class_name, split, line))
    return Contents(entries=entries, class_names=tuple(names[label] for label in sorted(names)))
