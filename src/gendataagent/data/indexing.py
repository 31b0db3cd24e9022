"""`index_data`: from data.path to the index of what is there, in whichever form it is."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from gendataagent.config import AUTO, DataConfig
from gendataagent.core.errors import DataError
from gendataagent.core.files import expand, open_regular
from gendataagent.core.suggestions import closest
from gendataagent.data.bundled import ASSETS
from gendataagent.data.class_names import with_readable_class_names
from gendataagent.data.decoding.images import SUFFIXES
from gendataagent.data.formats.boxes import Annotations, index_boxes
from gendataagent.data.formats.coco import COCO, coco_files, read_coco
from gendataagent.data.formats.folder import FOLDER, index_folder
from gendataagent.data.formats.hub import HUB_PREFIX, index_hub
from gendataagent.data.formats.image_paths import ImagePaths
from gendataagent.data.formats.list_folder import index_listed_folder
from gendataagent.data.formats.list_index import index_lists
from gendataagent.data.formats.named_files import index_named_files
from gendataagent.data.formats.table_index import index_tables
from gendataagent.data.formats.tables import TableFile, parquet_files, saved_files
from gendataagent.data.formats.text_tables import TEXT_SUFFIXES
from gendataagent.data.formats.tiny_imagenet import with_annotated_validation
from gendataagent.data.formats.unpacking import is_archive, unpacked
from gendataagent.data.formats.voc import VOC, photos_of, read_voc, voc_files
from gendataagent.data.formats.walk import TABLE_SUFFIX, Found, find_files
from gendataagent.data.formats.webdataset import (
    SHARD_SUFFIX,
    WEBDATASET,
    index_webdataset,
    is_webdataset,
)
from gendataagent.data.formats.yolo import refuse_yolo
from gendataagent.data.index import (
    TRAIN,
    DatasetIndex,
)
from gendataagent.data.official import (
    ARCHIVES,
    find_archive,
    index_archive,
    missing_files_error,
)

BUNDLED_PREFIX = "bundled:"
BUNDLED = ("cifar10",)
_HINTS = (
    ((".xlsx", ".xls", ".ods"), "Save the sheet as CSV in UTF-8 and give that. "),
    (
        (".json", ".xml"),
        "For COCO or Pascal VOC give the folder with the annotations and the photographs; records "
        "in JSON are read one a line (.jsonl). ",
    ),
    ((".yaml", ".yml"), "Give the folder of the images. "),
    (tuple(SUFFIXES), "It is one image; give the folder above its class folder. "),
)
_ADDRESS = re.compile("[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def index_data(config: DataConfig, *, need_train: bool = True) -> DatasetIndex:
    """Return the index of the data set at the path, class names in words; decodes no image.

    Args:
        need_train: whether splits without a train split are an error.

    Raises:
        DataError: nothing usable at the path.
    """
    if config.path.startswith(HUB_PREFIX):
        return with_readable_class_names(index_hub(config, need_train=need_train))
    check_path(config)
    path = _resolve(config.path)
    if path.is_file() and is_archive(path):
        if config.layout in (AUTO, WEBDATASET) and is_webdataset(path):
            index = index_webdataset(path.parent, [path.name], config, need_train=need_train)
            return with_readable_class_names(index)
        folder, notes = unpacked(path)
        try:
            index = _index_path(folder, config, need_train)
        except DataError as error:  # say what the user named
            raise DataError(str(error).replace(str(folder), str(path))) from error
        return replace(index, notes=(*notes, *index.notes))
    return _index_path(path, config, need_train)


def _index_path(path: Path, config: DataConfig, need_train: bool) -> DatasetIndex:
    index = _index_tables(path, config, need_train)
    if index is None and (archive := find_archive(path, config.layout)):
        return index_archive(*archive)
    return with_readable_class_names(index or _index_folder(path, config, need_train))


def check_path(config: DataConfig) -> None:
    """Raise `DataError` if the path is empty or does not exist; reads no file, no network."""
    if not config.path:
        raise DataError(_no_path(config.layout))
    if not config.path.startswith(HUB_PREFIX):
        _resolve(config.path)


def _no_path(layout: str) -> str:
    """Return the message for an empty path, which would mean the current folder."""
    if layout in ARCHIVES:
        archive = ARCHIVES[layout]
        return f"data.path is empty: give --data DIR, {archive.counts.title}. {archive.unpack}"
    return "data.path is empty: give --data DIR, a folder of images with one folder a class"


def _index_tables(path: Path, config: DataConfig, need_train: bool) -> DatasetIndex | None:
    """Return the index of a table, or of a folder saved by `datasets`, else None."""
    if path.is_file():
        return _index_file(path, config, need_train)
    if not path.is_dir():
        raise DataError(
            f"{path} is neither a folder nor a regular file; give a folder of images or a table"
        )
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        files, notes = saved_files(path, need_train=need_train)
        notes = [*_layout_notes(config), *notes]
        return index_tables(path, files, config, notes, need_train=need_train)
    return None


def _index_file(path: Path, config: DataConfig, need_train: bool) -> DatasetIndex:
    name, notes = path.name.lower(), _layout_notes(config)
    if name.endswith(TEXT_SUFFIXES):
        base = _image_root(path.parent, config)
        index = index_lists(
            path.parent, [path.name], base, find_files(base).images, config, need_train=need_train
        )
        return replace(index, notes=(*notes, *index.notes))
    if name.endswith(TABLE_SUFFIX):
        table = TableFile(str(path), path.name, TRAIN)
        return index_tables(
            path.parent, [table], config, notes, need_train=need_train, named_by_row=True
        )
    hint = next((hint for suffixes, hint in _HINTS if name.endswith(suffixes)), "")
    raise DataError(
        f"{path} is not a supported file. {hint}Give a table (.csv, .tsv, .jsonl, .parquet), an "
        "archive (.zip, .tar, .tar.gz), or a folder of images, of tables, or saved by Hugging Face "
        "datasets"
    )


def _image_root(folder: Path, config: DataConfig) -> Path:
    """Return the folder in which the paths of text tables start."""
    return Path(ImagePaths.of(folder, config.image_root).folder) if config.image_root else folder


def _layout_notes(config: DataConfig) -> list[str]:
    if config.layout not in (*ARCHIVES, FOLDER):
        return []
    return [f"data.layout = {config.layout} is for folders and was ignored; the data is a table."]


def _index_folder(path: Path, config: DataConfig, need_train: bool) -> DatasetIndex:
    """Return the index of a folder of images or of tables."""
    found = find_files(path)
    if config.class_pattern:
        return index_named_files(path, found, config, need_train=need_train)
    if found.tables and not found.images:
        files, notes = parquet_files(path, found.tables, need_train=need_train)
        notes = [*_layout_notes(config), *notes]
        return index_tables(path, files, config, notes, need_train=need_train)
    if config.layout == WEBDATASET or (config.layout == AUTO and not found.images):
        if shards := _shards(path, found):
            return index_webdataset(path, shards, config, need_train=need_train)
        if config.layout == WEBDATASET:
            raise DataError(
                f"data.layout is webdataset, but {path} holds no .tar file with samples (an image "
                "and its label: 0017.jpg, 0017.cls or 0017.json)"
            )
    boxes = _index_boxes(path, found, config, need_train)
    if boxes is not None:
        return boxes
    if config.layout in ARCHIVES:
        raise missing_files_error(path, config.layout)
    if config.layout != FOLDER:
        base = _image_root(path, config)
        images = found.images if base == path else find_files(base).images
        index = index_listed_folder(path, base, found, images, config, need_train=need_train)
        if index is not None:
            return index
    if config.layout == AUTO:
        refuse_yolo(path, found)
    found.others += found.tables
    index = index_folder(path, found, config.class_folder, need_train=need_train)
    return with_annotated_validation(index, path, found.others)


def _index_boxes(
    root: Path, found: Found, config: DataConfig, need_train: bool
) -> DatasetIndex | None:
    """Return the boxes that annotations of COCO or VOC beside images name; None without any."""
    if config.layout not in (AUTO, COCO, VOC) or not found.images:
        return None
    images, annotations = found.images, list[Annotations]()
    if config.layout != VOC:
        annotations = read_coco(root, coco_files(found.others), need_train=need_train)
    if config.layout != COCO and not annotations and (names := voc_files(root, found.others)):
        images = photos_of(images)
        annotations = read_voc(root, names, need_train=need_train)
    if annotations:
        index = index_boxes(root, images, annotations, config)
        bad = (*found.quarantined, *index.quarantined)
        return replace(index, quarantined=bad)
    if config.layout == AUTO:
        return None
    raise DataError(
        f"data.layout is {config.layout}, but {root} holds no annotations beside its images; "
        "expected annotations/instances_*.json (coco) or Annotations/*.xml (voc)"
    )


def _shards(root: Path, found: Found) -> list[str]:
    """Return the tar files below a folder, if the first is one of a WebDataset."""
    shards = sorted(name for name in found.others if name.lower().endswith(SHARD_SUFFIX))
    return shards if shards and is_webdataset(root / shards[0]) else []


def _resolve(text: str) -> Path:
    if text.startswith(BUNDLED_PREFIX):
        name = text.removeprefix(BUNDLED_PREFIX)
        if name not in BUNDLED:
            raise DataError(
                f"data.path: no bundled data set {name!r}; choose "
                + ", ".join(BUNDLED_PREFIX + known for known in BUNDLED)
            )
        path = ASSETS / name
    else:
        path = expand(text)
    if _ADDRESS.match(text):
        raise DataError(
            f"data.path {text} is an address, and nothing is downloaded from there; download it "
            "and give the file or folder. Only hub:NAME loads a data set by name"
        )
    try:
        if path.is_dir():
            return path
        with open_regular(path):
            return path
    except FileNotFoundError:
        pass
    except OSError as error:
        raise DataError(
            f"data.path {path} cannot be read: {error.strerror or error}. Give a folder or a file"
        ) from error
    close = closest(path.name, _names_in(path.parent))
    hint = f" (did you mean {path.parent / close[0]}?)" if close else ""
    raise DataError(
        f"data.path {path} does not exist{hint}. Give a folder of images (class/*.jpg), a table "
        "(.csv, .tsv, .jsonl, .parquet) or a folder of tables, an archive (.zip, .tar), a folder "
        "saved by Hugging Face datasets, hub:NAME for a data set on the Hub, or bundled:cifar10"
    )


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # no such folder, or no permission
        return []
