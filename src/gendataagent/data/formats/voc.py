"""Pascal VOC: one XML file with boxes for each photograph, read without entities."""

from __future__ import annotations

import os
import posixpath
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from gendataagent.core.errors import DataError
from gendataagent.core.files import open_regular, read_bytes
from gendataagent.core.text import reason_of, whole_number
from gendataagent.data.formats.boxes import Annotations, Box, finite
from gendataagent.data.formats.tables import with_splits
from gendataagent.data.formats.walk import posix_path
from gendataagent.data.index import TEST, TRAIN, VALIDATION, split_of_file
from gendataagent.data.labels import class_name_of, is_unlabelled

VOC = "voc"  # as data.layout
_LISTS = "ImageSets/Main"
_MOST_BYTES, _DEEPEST = 16 << 20, 50
_MASKS = ("SegmentationClass", "SegmentationObject")


def voc_files(root: Path, names: Sequence[str]) -> list[str]:
    """Return the XML files below a folder, if the first is an annotation of VOC."""
    found = sorted(name for name in names if name.lower().endswith(".xml"))
    try:
        if found and _parse(root / found[0]).tag == "annotation":
            return found
    except DataError:
        pass
    return []


def photos_of(images: Sequence[str]) -> list[str]:
    """Return the images that are no masks: VOC has masks of the same names."""
    return [image for image in images if not any(mask in image for mask in _MASKS)]


def read_voc(root: Path, names: Sequence[str], *, need_train: bool = True) -> list[Annotations]:
    """Return the annotations of XML files, one `Annotations` a split.

    Splits are those of ImageSets/Main (train, val and test, or trainval and test), else of the
    folders; photographs that no list names are left out.

    Raises:
        DataError: a file is no annotation, declares entities, or has a box without four numbers.
    """
    listed = _listed(root, names)
    by_split: dict[str, list[str]] = defaultdict(list)
    if listed:
        for name in names:
            if split := listed.get(Path(name).stem):
                by_split[split].append(name)
    else:
        found: list[tuple[str, str, str | None]] = [
            (name, str(root / name), split_of_file(name)) for name in names
        ]
        for file in with_splits(root, found, need_train=need_train)[0]:
            by_split[file.split].append(file.name)
    return [_annotations(root, split, own) for split, own in by_split.items()]


def _listed(root: Path, names: Sequence[str]) -> Mapping[str, str]:
    """Return photograph -> split by the lists beside the annotations; {} without any."""
    for base in dict.fromkeys((root, *(root / Path(name).parent.parent for name in names[:1]))):
        folder = base / _LISTS
        lists = (("test", TEST), ("train", TRAIN), ("val", VALIDATION))
        if not (folder / "train.txt").is_file():
            lists = (("test", TEST), ("trainval", TRAIN), ("val", VALIDATION))
        found: dict[str, str] = {}
        for name, split in lists:
            path = folder / f"{name}.txt"
            if not path.is_file():
                continue
            try:
                lines = read_bytes(path).decode("utf-8-sig").splitlines()
            except (OSError, ValueError) as error:
                raise DataError(f"cannot read {path}: {reason_of(error)}") from error
            for line in lines:
                if words := line.split():
                    found.setdefault(words[0], split)
        if found:
            return found
    return {}


def _annotations(root: Path, split: str, names: Sequence[str]) -> Annotations:
    photos, sizes, boxes = [], [], []
    left_out = Counter[str]()
    for number, name in enumerate(names):
        element = _parse(root / name)
        if element.tag != "annotation":
            raise DataError(f"{root / name} is no annotation of VOC, but <{element.tag}>")
        photos.append(Path(name).stem)
        sizes.append(_size(element))
        for place, thing in enumerate(element.iter("object")):
            box = thing.find("bndbox")
            label = class_name_of(thing.findtext("name") or "")
            if box is None:
                left_out["without a bndbox"] += 1
            elif is_unlabelled(label):
                left_out["without a name"] += 1
            else:
                boxes.append(_box(root / name, number, label, place, box))
    folder = os.path.commonpath([os.path.dirname(name) for name in names])
    return Annotations(
        name=posix_path(folder) or posixpath.curdir,
        folder=posix_path(folder),
        split=split,
        photos=photos,
        sizes=sizes,
        boxes=boxes,
        left_out=left_out,
    )


def _size(element: ElementTree.Element) -> tuple[int, int]:
    texts = element.findtext("size/width") or "", element.findtext("size/height") or ""
    width, height = (whole_number(text) or 0 for text in texts)
    return width, height


def _box(path: Path, photo: int, label: str, number: int, box: ElementTree.Element) -> Box:
    try:
        left, top, right, bottom = (
            finite((box.findtext(key) or "").strip()) for key in ("xmin", "ymin", "xmax", "ymax")
        )
    except ValueError as error:
        raise DataError(
            f"{path}: object {number + 1} ({label}) has a bndbox without four numbers "
            f"({reason_of(error)})"
        ) from error
    return Box(photo, label, number, left - 1, top - 1, right, bottom)  # VOC counts from 1


def _parse(path: Path) -> ElementTree.Element:
    """Return the root of an XML file without a document type, so without entities.

    Raises:
        DataError: it cannot be read, declares a document type, or is nested too deeply.
    """
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> None:
        raise ValueError("it declares a document type, which an annotation never needs")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        with open_regular(path) as stream:
            content = stream.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES:,} bytes")
        parser.Parse(content, True)
        return builder.close()
    except (OSError, ValueError, LookupError, AssertionError, expat.ExpatError) as error:
        raise DataError(f"cannot read {path}: {reason_of(error)}. Write it again") from error
