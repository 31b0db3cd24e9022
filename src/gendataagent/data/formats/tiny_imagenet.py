"""Tiny ImageNet: train/ID/images/*, val/images/* named by val_annotations.txt, unlabelled test/."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gendataagent.core.errors import DataError
from gendataagent.core.files import read_bytes
from gendataagent.core.text import counted, reason_of
from gendataagent.data.formats.walk import posix_path
from gendataagent.data.index import DatasetIndex

ANNOTATIONS = "val_annotations.txt"
_IMAGES = "images"  # the folder of images, as a class


def with_annotated_validation(
    index: DatasetIndex, root: Path, others: Sequence[str]
) -> DatasetIndex:
    """Return the index of folders with validation labelled as the list beside it says.

    Images that it does not name, and those of test/images beside it, have no label: left out.

    Args:
        others: files below `root` that are not images; without a list, `index` is returned.

    Raises:
        DataError: the list cannot be read; names the line.
    """
    names = [name for name in others if posix_path(name).split("/")[-1] == ANNOTATIONS]
    if len(names) != 1 or _IMAGES not in index.class_names:
        return index
    class_of = _classes(root / names[0])
    folder = posixpath.dirname(posix_path(names[0]))
    validation = posixpath.join(folder, _IMAGES, "")
    test = posixpath.join(posixpath.dirname(folder), "test", _IMAGES, "")
    items, unlabelled = [], 0
    for item in index.items:
        name = class_of.get(item.id.removeprefix(validation))
        if item.id.startswith(validation) and name is not None:
            items.append(replace(item, class_name=name))
        elif item.id.startswith((validation, test)):
            unlabelled += 1
        else:
            items.append(item)
    known = {name for name in index.class_names if name != _IMAGES}
    notes = [f"Read the labels of {validation} in {posix_path(names[0])} (Tiny ImageNet)."]
    if unlabelled:
        notes.append(
            f"Left out {counted(unlabelled, 'image', 'images')} without a label: those of {test}, "
            f"and any that {ANNOTATIONS} does not name."
        )
    return replace(
        index,
        items=tuple(items),
        class_names=tuple(sorted(known | {item.class_name for item in items})),
        notes=(*index.notes, *notes),
    )


def _classes(path: Path) -> dict[str, str]:
    """Return {file: class} of a list: file, class and box, separated by tabs."""
    try:
        lines = read_bytes(path).decode("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {reason_of(error)}. Unpack it again") from error
    found = {}
    for number, line in enumerate(lines, start=1):
        file, tab, rest = line.partition("\t")
        if line.strip() and not (tab and rest.split("\t")[0].strip()):
            raise DataError(
                f"{path}, line {number}: {line[:80]!r} is not a file, a tab and its class. Unpack "
                "it again"
            )
        found[file] = rest.split("\t")[0].strip()
    return found
