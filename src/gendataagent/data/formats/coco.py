"""COCO: one JSON file with images, categories and boxes for each split."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gendataagent.core.errors import DataError
from gendataagent.core.files import parse_others_json, read_bytes
from gendataagent.core.text import reason_of
from gendataagent.data.formats.boxes import Annotations, Box, finite
from gendataagent.data.formats.tables import with_splits
from gendataagent.data.formats.walk import posix_path
from gendataagent.data.index import split_of_file
from gendataagent.data.labels import class_name_of
from gendataagent.data.synthetic_marks import GENERATOR, SOURCE, marked_rows

COCO = "coco"  # as data.layout
_KEYS = ("images", "annotations", "categories")


def coco_files(names: Sequence[str]) -> list[str]:
    """Return which files may be annotations of COCO, by their names.

    Beside instances_*.json, those of key points and captions name the same boxes or none.
    """
    found = []
    for name in names:
        folder, base = os.path.split(name.lower())
        parts = ("annotation", "instances", "coco")
        if base.endswith(".json") and (
            any(part in base for part in parts) or os.path.basename(folder).startswith("annotation")
        ):
            found.append(name)
    instances = [name for name in found if os.path.basename(name).startswith("instances")]
    return sorted(instances or found)


def read_coco(root: Path, names: Sequence[str], *, need_train: bool = True) -> list[Annotations]:
    """Return the annotations of the files that are COCO's; [] if none is.

    Raises:
        DataError: a file is damaged; names the entry.
    """
    contents = {name: content for name in names if (content := _read(root / name)) is not None}
    if not contents:
        return []
    files, _ = with_splits(
        root,
        [(name, str(root / name), split_of_file(name)) for name in contents],
        need_train=need_train,
    )
    return [_annotations(file.name, file.split, contents[file.name]) for file in files]


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        content = parse_others_json(read_bytes(path))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {reason_of(error)}. Download it again") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in _KEYS):
        return None
    return content


def _annotations(name: str, split: str, content: Mapping[str, Any]) -> Annotations:
    categories = sorted(_entries(name, content, "categories"), key=lambda entry: entry["id"])
    classes = {entry["id"]: number for number, entry in enumerate(categories)}
    images = _entries(name, content, "images")
    photos = {entry["id"]: number for number, entry in enumerate(images)}
    columns = {key: [entry.get(key) for entry in images] for key in (SOURCE, GENERATOR)}
    boxes = []
    left_out = Counter[str]()
    for entry in _entries(name, content, "annotations"):
        if entry.get("iscrowd"):
            left_out["of crowds (iscrowd)"] += 1
        elif not entry.get("bbox"):
            left_out["without a bbox"] += 1
        else:
            boxes.append(_box(name, entry, photos, classes))
    return Annotations(
        name=posix_path(name),
        folder=posixpath.dirname(posix_path(name)),
        split=split,
        photos=[_text(name, "images", entry, "file_name") for entry in images],
        sizes=[_size(entry) for entry in images],
        boxes=boxes,
        class_names=tuple(
            class_name_of(_text(name, "categories", entry, "name")) for entry in categories
        ),
        left_out=left_out,
        synthetic=frozenset(marked_rows(columns) if any(columns[GENERATOR]) else ()),
    )


def _entries(name: str, content: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """Return the entries of a list; all have an id, an integer, and no two the same."""
    entries: list[dict[str, Any]] = content[key]
    ids = set()
    for number, entry in enumerate(entries):
        id_ = entry.get("id") if isinstance(entry, dict) else None
        if isinstance(id_, bool) or not isinstance(id_, int) or id_ in ids:
            raise DataError(
                f"{name}: {key}[{number}] has the id {id_!r}, allowed are integers, each once"
            )
        ids.add(id_)
    return entries


def _text(name: str, key: str, entry: Mapping[str, Any], field: str) -> str:
    value = entry.get(field)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{name}: {key} with the id {entry['id']} has the {field} {value!r}")
    return value


def _size(entry: Mapping[str, Any]) -> tuple[int, int]:
    width, height = entry.get("width"), entry.get("height")
    if isinstance(width, int) and isinstance(height, int):
        return width, height
    return 0, 0


def _box(
    name: str,
    entry: Mapping[str, Any],
    photos: Mapping[Any, int],
    classes: Mapping[Any, int],
) -> Box:
    try:
        left, top, width, height = map(finite, entry["bbox"])
        return Box(
            photos[entry["image_id"]],
            classes[entry["category_id"]],
            entry["id"],
            left,
            top,
            left + width,
            top + height,
        )
    except (ValueError, TypeError, LookupError) as error:
        raise DataError(
            f"{name}: the annotation with the id {entry['id']} is none "
            f"({type(error).__name__}: {reason_of(error)}); it needs image_id, category_id and a "
            "bbox of four numbers"
        ) from error
