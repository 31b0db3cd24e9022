"""Food-101: images/apple_pie/1005649.jpg, meta/train.json and test.json (or .txt), classes.txt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gendataagent.core.errors import DataError
from gendataagent.core.files import parse_json, read_bytes
from gendataagent.data.class_names import readable_class_name
from gendataagent.data.index import TEST, TRAIN
from gendataagent.data.official.archive import Contents, Entry
from gendataagent.data.official.lists import Line, read_lines

CLASSES, LABELS = "meta/classes.txt", "meta/labels.txt"
_FORM = 'class/number such as "apple_pie/1005649"'


def read(base: Path) -> Contents:
    """Return train and test; classes in the order of classes.txt, with the names of labels.txt.

    Without labels.txt a class is named after its folder ("apple pie").
    """
    folders = [line.text.strip() for line in read_lines(base, CLASSES)]
    names = dict(zip(folders, _names(base, folders), strict=True))
    entries = []
    for split, stem in ((TRAIN, "train"), (TEST, "test")):
        for path, line in _listed(base, stem):
            folder, _, number = path.partition("/")
            if folder not in names or not number:
                raise line.fault(f"{_FORM}, with a class of {CLASSES}")
            entries.append(Entry(f"images/{path}.jpg", names[folder], split, line))
    return Contents(entries=entries, class_names=tuple(names.values()))


def _names(base: Path, folders: list[str]) -> list[str]:
    if not (base / LABELS).is_file():
        return [readable_class_name(folder) for folder in folders]
    labels = [line.text.strip() for line in read_lines(base, LABELS)]
    if len(labels) != len(folders):
        raise DataError(
            f"{base / LABELS} names {len(labels)} classes, {CLASSES} {len(folders)}; their lines "
            "must correspond. Unpack food-101.tar.gz again"
        )
    return [readable_class_name(label) for label in labels]


def _listed(base: Path, stem: str) -> Iterator[tuple[str, Line]]:
    """Yield the paths of meta/STEM.txt, or of meta/STEM.json without that file."""
    if (base / f"meta/{stem}.txt").is_file():
        for line in read_lines(base, f"meta/{stem}.txt"):
            yield line.text.strip(), line
        return
    name = f"meta/{stem}.json"
    try:
        content = parse_json(read_bytes(base / name))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {base / name}: {error}; unpack it again") from error
    if not isinstance(content, dict):
        raise DataError(f"{base / name} must hold lists of paths by class; unpack it again")
    for folder, paths in content.items():
        for place, path in enumerate(paths if isinstance(paths, list) else [paths], start=1):
            line = Line(f"{name} ({folder})", place, str(path))
            if not isinstance(path, str):
                raise line.fault(_FORM)
            yield path, line
