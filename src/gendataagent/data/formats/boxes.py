"""Objects in boxes as images of their own, cut out of their photographs when they are read."""

from __future__ import annotations

import io
import math
import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from PIL import Image

from gendataagent.config import AUTO, DataConfig
from gendataagent.core.errors import DataError, ImageUnreadableError
from gendataagent.core.files import file_state, open_regular
from gendataagent.core.text import counted
from gendataagent.data.decoding.damage import check_whole
from gendataagent.data.decoding.images import UPRIGHT, decode, open_image, orientation_of
from gendataagent.data.formats.listed_files import ListedFiles
from gendataagent.data.formats.text_tables import ListFile
from gendataagent.data.index import (
    DatasetIndex,
    Item,
    Quarantined,
    first_few,
    normalise_name,
    split_in,
)
from gendataagent.data.labels import LabelColumn, name_labels

# EXIF orientation -> what turns an upright image back, where this exchanges width and height
_LYING = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_decoded = threading.local()  # the last photograph of each thread: its boxes are read in a row


class Box(NamedTuple):
    """A box in px from the upper left corner of its photograph.

    Args:
        photo: number of the photograph in its `Annotations`.
        label: number or name of its class.
        number: tells it from the other boxes of the photograph.
    """

    photo: int
    label: int | str
    number: int
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Annotations:
    """What one annotation file, or a folder of them, says.

    Args:
        name: of the file or folder, for messages.
        folder: in which the names of photographs start, relative to the data set.
        split: of its photographs.
        photos: names of the photographs, as written.
        sizes: width and height that it states of each, (0, 0) where it does not.
        class_names: of the numbers that boxes have as labels; None where they have names.
        left_out: why boxes were left out -> how many.
        synthetic: numbers of the photographs that it marks as synthetic.
    """

    name: str
    folder: str
    split: str
    photos: Sequence[str]
    sizes: Sequence[tuple[int, int]]
    boxes: Sequence[Box]
    class_names: tuple[str, ...] | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    synthetic: frozenset[int] = frozenset()


class _Cut(NamedTuple):
    file: str
    number: int
    size: tuple[int, int]
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class CropStore:
    """Boxes of photographs below one folder, each an image of its own.

    Args:
        cuts: file, number, stated size of the photograph, and box, of each image.
        margin: share of a box's width and height that is added on each side.
    """

    root: str
    cuts: tuple[_Cut, ...] = field(repr=False)
    margin: float
    max_pixels: float

    def open(self, row: int) -> BinaryIO:
        """Return the crop as PPM: the same bytes wherever the photograph decodes to the same."""
        cut = self.cuts[row]
        photo, orientation = self._photo(cut.file)
        lying = cut.size == photo.size[::-1] != photo.size and orientation in _LYING
        if lying:  # the box is that of the pixels as they are stored
            photo = photo.transpose(_LYING[orientation])
        if cut.size[0] and cut.size[1] and cut.size != photo.size:
            raise ImageUnreadableError(
                f"the annotation is of a photograph of {cut.size[0]} x {cut.size[1]} px, but it "
                f"has {photo.width} x {photo.height} px upright, so the box is elsewhere"
            )
        left, top, right, bottom = cut.box
        wide, high = self.margin * (right - left), self.margin * (bottom - top)
        area = (
            max(0, math.floor(left - wide)),
            max(0, math.floor(top - high)),
            min(photo.width, math.ceil(right + wide)),
            min(photo.height, math.ceil(bottom + high)),
        )
        if area[0] >= area[2] or area[1] >= area[3]:
            raise ImageUnreadableError("the box lies outside of the photograph")
        crop = photo.crop(area)
        stream = io.BytesIO()
        (crop.transpose(UPRIGHT[orientation]) if lying else crop).save(stream, "PPM")
        stream.seek(0)
        return stream

    def name(self, row: int) -> str:
        return f"{normalise_name(self.cuts[row].file.replace(os.sep, '/'))}#{self.cuts[row].number}"

    @property
    def location(self) -> str:
        """The absolute path of the folder, and the margin."""
        return f"{normalise_name(os.path.realpath(self.root))} {self.margin}"

    def state(self, row: int) -> str:
        """Return size and times of the photograph, and the box."""
        cut = self.cuts[row]
        return f"{file_state(os.path.join(self.root, cut.file))} {cut.size} {cut.box}"

    def _photo(self, file: str) -> tuple[Image.Image, int]:
        """Return a photograph upright, and its EXIF orientation as stored."""
        path = os.path.join(self.root, file)
        key = (path, file_state(path), self.max_pixels)
        if getattr(_decoded, "key", None) != key:
            with open_regular(path) as stream:
                image = open_image(stream, self.max_pixels)
                size, kind, orientation = image.size, image.format, orientation_of(image)
                found = decode(image).image
                check_whole(stream, kind, size, found)
            _decoded.key, _decoded.photo = key, (found, orientation)
        photo: tuple[Image.Image, int] = _decoded.photo
        return photo


def index_boxes(
    root: Path, images: Sequence[str], annotations: Sequence[Annotations], config: DataConfig
) -> DatasetIndex:
    """Return the boxes of photographs as images; ids are the photograph and the box's number.

    Boxes whose shorter side has less than data.box_min_px are left out and counted. Boxes of one
    photograph stay in one split.

    Args:
        images: the image files below `root`.

    Raises:
        DataError: no box is left, a photograph is meant by a name that several have, or (with
            data.layout = auto) the photographs are in folders that may be classes.
    """
    files = ListedFiles(root, images)
    cuts: list[_Cut] = []
    rows: list[tuple[str, str, str]] = []  # id, photograph, split
    columns: list[LabelColumn] = []
    quarantined: list[Quarantined] = []
    synthetic: set[str] = set()
    left_out = Counter[str]()
    for part in annotations:
        table = ListFile(
            str(root / part.name),
            part.name,
            {"file_name": list(part.photos)},
            [f"photograph {name!r}" for name in part.photos],
            folder=part.folder,
        )
        found = files.resolve(table, "file_name", [part.split] * len(part.photos))
        left_out.update(part.left_out)
        kept = []
        for number, box in enumerate(part.boxes):
            if min(box.right - box.left, box.bottom - box.top) < config.box_min_px:
                left_out[f"smaller than {config.box_min_px} px (data.box_min_px)"] += 1
            elif (photo := found[box.photo]) is not None:
                kept.append(number)
                place = (box.left, box.top, box.right, box.bottom)
                cuts.append(_Cut(files.file(photo), box.number, part.sizes[box.photo], place))
                rows.append((f"{photo}#{box.number}", photo, part.split))
                if box.photo in part.synthetic:
                    synthetic.add(rows[-1][0])
        for name in (name for name, photo in zip(part.photos, found, strict=True) if not photo):
            reason = f"{part.name} names it, but there is no such image"
            quarantined.append(Quarantined(normalise_name(name), reason))
        values = [part.boxes[number].label for number in kept]
        columns.append(LabelColumn(part.name, part.split, values, part.class_names, "category"))
    if not rows:
        raise DataError(
            f"no boxes are left of {first_few([part.name for part in annotations])} in {root}"
            f"{_counts(left_out)}; photographs that are missing: {len(quarantined)}"
        )
    if config.layout == AUTO:
        _require_no_class_folders(root, [photo for _, photo, _ in rows])
    if twice := [id_ for id_, count in Counter(id_ for id_, _, _ in rows).items() if count > 1]:
        raise DataError(
            f"several annotations name the same box: {first_few(twice)}. Keep one annotation file "
            "for each photograph"
        )
    labels = name_labels(columns)
    named = [name for column in labels.labels for name in column]
    if unlabelled := named.count(None):
        left_out["without a class"] = unlabelled
    photos = {photo for _, photo, _ in rows}
    notes = [
        f"Cut {counted(len(rows), 'box', 'boxes')} out of "
        f"{counted(len(photos), 'photograph', 'photographs')}, each an image of its own "
        f"(data.box_margin = {config.box_margin:g})."
    ]
    if left_out:
        notes.append(f"Left out boxes{_counts(left_out)}.")
    if others := len(files.paths) - len(photos):
        notes.append(f"Left out {counted(others, 'image', 'images')} without a box.")
    return DatasetIndex(
        store=CropStore(str(root), tuple(cuts), config.box_margin, config.max_megapixels * 1e6),
        items=tuple(
            Item(row, id_, name, split)
            for row, ((id_, _, split), name) in enumerate(zip(rows, named, strict=True))
            if name is not None
        ),
        class_names=labels.class_names,
        quarantined=tuple(quarantined),
        notes=(*notes, *labels.notes),
        photos={id_: photo for id_, photo, _ in rows},
        synthetic=frozenset(synthetic),
    )


def _counts(left_out: Mapping[str, int]) -> str:
    return "".join(f"; {count:,} {why}" for why, count in sorted(left_out.items())).replace(
        ";", ":", 1
    )


def _require_no_class_folders(root: Path, photos: Sequence[str]) -> None:
    folders = {os.path.dirname(photo) for photo in photos}
    others = sorted(f for f in folders if not any(map(split_in, f.split("/"))))
    if len(others) > 1:
        raise DataError(
            f"{root} has annotations of boxes, and the photographs are in several folders "
            f"({first_few(others)}), which may be classes. Set data.layout=coco or voc to cut out "
            "the boxes, or data.layout=folder to use the folders"
        )


def finite(value: Any) -> float:
    """Return a number of an annotation; raise `ValueError` if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is no number")
    try:
        number = float(value)
    except OverflowError:  # an integer of more than 308 digits
        number = math.inf
    if not math.isfinite(number) or abs(number) > 1e9:
        raise ValueError(f"{str(value)[:40]!r} is no place in an image")
    return number
