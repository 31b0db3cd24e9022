"""What columns of a table are called that hold images, labels, ids or splits."""

from __future__ import annotations

import re
from collections.abc import Sequence

# In the order in which they are taken where a table has several.
IMAGE_NAMES = ("image", "img", "picture", "photo", "jpg", "png")
_LABEL_NAMES = ("label", "labels", "class", "target", "fine_label", "category", "class_name")
_PATH_NAMES = (*IMAGE_NAMES, "image_path", "file_name", "filename", "file", "path")

# Column names without case, spaces and signs: "File Name" and file_name are "filename".
IMAGE_KEYS = frozenset({
    "image", "images", "img", "imgs", "picture", "photo", "photos", "file", "files", "filename",
    "filenames", "fname", "path", "paths", "filepath", "filepaths", "imagepath", "imagepaths",
    "imgpath", "imagename", "imgname", "imagefile", "imagefilename", "imagefilepath",
    "photopath", "photoname",
})  # fmt: skip
ID_KEYS = frozenset({
    "id", "imageid", "imgid", "photoid", "uuid", "index", "column1", "unnamed0",
})  # fmt: skip
LABEL_KEYS = frozenset({
    "label", "labels", "class", "classes", "classname", "classlabel", "classid", "labelname",
    "labelid", "labeltext", "target", "targets", "targetid", "category", "categories",
    "categoryname", "categoryid", "finelabel", "breed", "species", "variety", "diagnosis",
    "disease", "y", "cls",
})  # fmt: skip
SPLIT_KEYS = frozenset({
    "split", "splits", "set", "subset", "partition", "dataset", "phase",
})  # fmt: skip
_BOX_KEYS = (
    {"bbox"}, {"box"}, {"boundingbox"}, {"xmin", "ymin"}, {"x1", "y1"}, {"x0", "y0"},
    {"left", "top"}, {"x", "y", "w", "h"}, {"x", "y", "width", "height"}, {"bboxx", "bboxy"},
    {"bboxx1", "bboxy1"}, {"bboxxmin", "bboxymin"}, {"roix1", "roiy1"},
)  # fmt: skip


def key_of(column: str) -> str:
    """Return a column's name without case, spaces and signs."""
    return re.sub(r"[^a-z0-9]", "", column.casefold())


def label_columns(columns: Sequence[str]) -> list[str]:
    """Return the columns that are named like labels; the first of the usual names alone."""
    usual = [name for name in _LABEL_NAMES if name in columns][:1]
    return usual or [column for column in columns if key_of(column) in LABEL_KEYS]


def path_columns(columns: Sequence[str]) -> list[str]:
    """Return the columns that are named like images or their paths, as `label_columns`."""
    usual = [name for name in _PATH_NAMES if name in columns][:1]
    return usual or [column for column in columns if key_of(column) in IMAGE_KEYS]


def box_columns(columns: Sequence[str]) -> list[str]:
    """Return the columns that hold boxes, at least two numbers of each; [] if there are none."""
    keys = {key_of(column): column for column in columns}
    return next(([keys[k] for k in keys if k in box] for box in _BOX_KEYS if box <= set(keys)), [])
