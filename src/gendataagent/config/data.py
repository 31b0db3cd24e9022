"""[data]: the real images and how they are split."""

from __future__ import annotations

from dataclasses import dataclass

from gendataagent.config.settings import setting
from gendataagent.core.devices import AUTO

_LAYOUTS = (
    "folder", "table", "webdataset", "coco", "voc",
    "pets", "cub", "flowers", "birdsnap", "food", "in100",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Where the real images are and how they are split."""

    path: str = setting(
        "bundled:cifar10",
        "folder of images (class/*.jpg, or train|validation|test/class/*), a table (.csv, .tsv, "
        ".jsonl, .parquet) or a folder with tables, a folder saved by Hugging Face datasets, the "
        "unpacked official archive of one of the paper's six data sets, hub:NAME (downloads), or "
        "bundled:cifar10 (docs/data.md has all)",
        path=True,
    )
    layout: str = setting(
        AUTO,
        "layout of a folder: folder (one folder a class), table (labels in a .csv, .tsv or .jsonl "
        "beside the images), webdataset (.tar shards), coco or voc (boxes, each an image of "
        "its own), or the official archive of one of the "
        "paper's data sets; auto = by its files",
        choices=(AUTO, *_LAYOUTS),
    )
    class_folder: str = setting(
        AUTO,
        "which folder of animals/cat/1.jpg is the class: first (animals), last (cat), or path "
        "(animals/cat); auto = first, unless it is the only one and holds others; a note says "
        "where others may be meant",
        choices=(AUTO, "first", "last", "path"),
        switch=True,
    )
    class_pattern: str = setting(
        "",
        "regular expression for the paths of images whose names say the class, its first bracket: "
        "([^/]*?)[-_. ]*[0-9]+[.] reads cat of cat_0001.jpg; images that it does not fit are left "
        "out and counted; empty = classes are folders or in a table",
        switch=True,
    )
    revision: str = setting("", "hub revision of a hub: data set; empty = the newest")
    image_column: str = setting(
        AUTO,
        "column of a table with the images, or their paths, names or ids; auto = the one that "
        "leads to images",
    )
    label_column: str = setting(AUTO, "column of a table with the class; auto = by its name")
    split_column: str = setting(
        AUTO,
        "column of a table (CSV, TSV, JSONL) that says train, validation or test; auto = by its "
        "name; empty = none",
        switch=True,
    )
    image_root: str = setting(
        "",
        "folder of the images that a table names by path: relative paths start there, and no path "
        "or link may lead out of it; empty = the folder of the table",
        path=True,
    )
    box_margin: float = setting(
        0.1,
        "COCO and VOC: share of a box's width and height that is added on each side before it is "
        "cut out",
        at_least=0,
        at_most=2,
        switch=True,
    )
    box_min_px: int = setting(
        16,
        "COCO and VOC: boxes whose shorter side is smaller are left out and counted",
        unit="px",
        at_least=1,
        switch=True,
    )
    train_per_class: int = setting(
        0, "training images used of each class, drawn at random by seed; 0 = all", at_least=0
    )
    validation_share: float = setting(
        0.15,
        "share of each class set aside when no validation split is given",
        above=0,
        at_most=0.5,
    )
    test_share: float = setting(
        0.15, "share of each class set aside when no test split is given", above=0, at_most=0.5
    )
    group_by: str = setting(
        AUTO,
        "images of one group stay in one split when a split is drawn: the name of a table's column "
        "(video, patient), or a regular expression for the ids, of which the first bracket names "
        "the group: (.*)_frame. auto = augmented copies by Roboflow's names; empty = none. "
        "Near-duplicates stay together in any case",
    )
    max_megapixels: float = setting(
        178.0,
        "larger images are quarantined without being decoded (Pillow's own limit is 178.9)",
        unit="megapixel",
        above=0,
        at_most=178,
    )
    near_duplicates: str = setting(
        "remove",
        "near-duplicates of a validation or test image in train, of a test image in validation: "
        "remove takes them out, report keeps them; both list them in data/near_duplicates.jsonl "
        "and reject synthetic near-duplicates of validation or test images. off = no check. The "
        "test split is never changed",
        choices=("remove", "report", "off"),
    )
