"""WebDataset: tar files in which the files of one name, `0017.jpg` and `0017.cls`, are one sample.

Shards are read where they are: a tar file holds its images unchanged, one after another.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError, ImageUnreadableError
from gendataagent.core.files import file_state, open_regular, parse_others_json
from gendataagent.core.text import as_name, counted, reason_of
from gendataagent.data.decoding.images import SUFFIXES
from gendataagent.data.formats.class_lists import class_list_for, read_class_list
from gendataagent.data.formats.list_columns import labels_of, other_columns, splits_of
from gendataagent.data.formats.table_index import without_missing_columns
from gendataagent.data.formats.tables import TableFile, with_splits
from gendataagent.data.formats.text_tables import ListFile
from gendataagent.data.formats.unpacking import BROKEN, Forward, decompressed
from gendataagent.data.index import (
    DatasetIndex,
    Item,
    first_few,
    normalise_name,
    split_of_file,
)
from gendataagent.data.labels import LabelColumn, are_explained_by, name_labels, unlabelled_notes
from gendataagent.data.synthetic_marks import marked_rows

WEBDATASET = "webdataset"  # as data.layout
SHARD_SUFFIX = ".tar"
# Of the last part of a suffix (label.txt), as the package webdataset decodes them.
_TEXTS = frozenset({"cls", "class", "label", "index", "id", "txt", "text"})
_JSON = frozenset({"json", "jsn"})
_LOOK_AT = 50  # members
_MOST_TEXT = 1 << 20


@dataclass(frozen=True, slots=True)
class TarStore:
    """Images in tar files.

    Args:
        shards: paths of the files.
        places: of each image: number of its shard, offset and size in bytes.
        names: of each image, after that of its shard.
    """

    shards: tuple[str, ...]
    places: tuple[tuple[int, int, int], ...] = field(repr=False)
    names: tuple[str, ...] = field(repr=False)

    def open(self, row: int) -> BinaryIO:
        shard, offset, size = self.places[row]
        with open_regular(self.shards[shard]) as stream:
            stream.seek(offset)
            content = stream.read(size)
        if len(content) < size:
            raise ImageUnreadableError(f"{self.shards[shard]} was cut off")
        return io.BytesIO(content)

    def name(self, row: int) -> str:
        return self.names[row]

    @property
    def location(self) -> str:
        """The absolute paths of the shards."""
        return json.dumps([os.path.realpath(shard) for shard in self.shards])

    def state(self, row: int) -> str:
        """Return size and times of the shard with an image."""
        return file_state(self.shards[self.places[row][0]])


@dataclass(slots=True)
class _Sample:
    """The files of one name; `images` has the place of each by suffix, `values` what they say."""

    shard: int
    key: str
    images: dict[str, tuple[int, int]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


def is_webdataset(path: Path) -> bool:
    """Return whether a tar file begins with samples: an image, and a label file of its name.

    Raises:
        DataError: it does, but is compressed.
    """
    names: list[str] = []
    compressed = False
    # what is damaged is reported where it is read
    with contextlib.suppress(OSError, DataError, *BROKEN), open_regular(path) as stream:
        content = decompressed(stream)
        compressed = content is not stream
        for member in itertools.islice(_members(Forward(content, path, 1 << 30)), _LOOK_AT):
            names.append(member.name)
    parts = [_split_name(name) for name in names]
    keys = {key for key, suffix in parts if suffix in SUFFIXES}
    if not any(key in keys for key, suffix in parts if _last(suffix) in _TEXTS | _JSON):
        return False
    if compressed:
        raise DataError(
            f"{path} is a compressed WebDataset; shards are read in place, so decompress it to a "
            "plain .tar (gunzip), or set data.layout=folder to unpack it as a folder"
        )
    return True


def index_webdataset(
    root: Path, names: Sequence[str], config: DataConfig, *, need_train: bool = True
) -> DatasetIndex:
    """Return the images of shards, in their order; ids are shard and name.

    Splits are those of the shards' names (train-000000.tar), else of their folders. The label is
    that in `.cls` or a key of `.json`; the class names of numbers are in the list nearest to each
    shard (`class_lists`).

    Raises:
        DataError: a shard is damaged or holds a name twice, or no label could be chosen.
    """
    shards, notes = with_splits(
        root,
        [(name, str(root / name), split_of_file(name)) for name in names],
        need_train=need_train,
    )
    samples = [s for n, file in enumerate(shards) for s in _samples(n, file.path, file.name)]
    whole = [sample for sample in samples if sample.images]
    if len(whole) < len(samples):
        notes.append(
            f"Left out {counted(len(samples) - len(whole), 'sample', 'samples')} without an image."
        )
    if not whole:
        raise DataError(f"no images in {first_few([file.path for file in shards])}")
    if not need_train:
        known = dict.fromkeys(name for s in whole for name in (*s.images, *s.values))
        config, column_notes = without_missing_columns(list(known), config)
        notes += column_notes
    suffix_of = [_image_of(sample, shards[sample.shard].name, config) for sample in whole]
    columns = dict.fromkeys(name for sample in whole for name in sample.values)
    table = ListFile(
        str(root),
        shards[0].name,
        {name: [sample.values.get(name) for sample in whole] for name in columns},
        [f"{shards[sample.shard].name}/{sample.key}" for sample in whole],
    )
    chosen = other_columns(table, "", config)
    class_of, class_names, label_notes = _labels(
        root, table, chosen.label, [shards[sample.shard] for sample in whole]
    )
    splits = splits_of(table, chosen.split) or [shards[s.shard].split for s in whole]
    ids = [f"{p}{suffix}" for p, suffix in zip(table.places, suffix_of, strict=True)]
    notes += label_notes
    notes += unlabelled_notes(class_of, splits, ids.__getitem__, need_train=need_train)
    groups = table.columns.get(config.group_by, [])
    return DatasetIndex(
        store=TarStore(
            tuple(file.path for file in shards),
            tuple((s.shard, *s.images[suffix]) for s, suffix in zip(whole, suffix_of, strict=True)),
            tuple(ids),
        ),
        items=tuple(
            Item(row, ids[row], name, splits[row])
            for row, name in enumerate(class_of)
            if name is not None
        ),
        class_names=class_names,
        notes=tuple(notes),
        groups={ids[row]: str(group) for row, group in enumerate(groups) if group is not None},
        group_column=config.group_by if config.group_by in table.columns else "",
        synthetic=frozenset(ids[row] for row in marked_rows(table.columns)),
    )


def _labels(
    root: Path, table: ListFile, column: str | tuple[str, ...] | None, shards: Sequence[TableFile]
) -> tuple[list[str | None], tuple[str, ...], list[str]]:
    """Return the class of each row, all class names in label order, and notes.

    Args:
        shards: the shard of each row.
    """
    folder_of = {path: Path(path).parent for path in dict.fromkeys(s.path for s in shards)}
    lists = {folder: class_list_for(root, folder) for folder in dict.fromkeys(folder_of.values())}
    names_in = {path: read_class_list(path) for path in dict.fromkeys(lists.values()) if path}
    parts: dict[tuple[Path | None, str], list[int]] = {}
    for row, shard in enumerate(shards):
        parts.setdefault((lists[folder_of[shard.path]], shard.split), []).append(row)
    labelled: list[LabelColumn] = []
    used: list[Path] = []
    for (path, split), rows in parts.items():
        part = replace(
            table,
            name=shards[rows[0]].name,
            columns={name: [cells[row] for row in rows] for name, cells in table.columns.items()},
            places=[table.places[row] for row in rows],
        )
        own = replace(labels_of(part, column, split), where=part.places.__getitem__)
        if path and are_explained_by(own.values, names_in[path]):
            own = replace(own, names=names_in[path])
            used.append(path)
        labelled.append(own)
    named = name_labels(labelled)
    class_of: list[str | None] = [None] * len(shards)
    for rows, classes in zip(parts.values(), named.labels, strict=True):
        for row, name in zip(rows, classes, strict=True):
            class_of[row] = name
    notes = [
        f"Read the names of {counted(len(names_in[path]), 'class', 'classes')} in "
        f"{os.path.relpath(path, root)}."
        for path in dict.fromkeys(used)
    ]
    return class_of, named.class_names, [*notes, *named.notes]


def _samples(number: int, path: str, name: str) -> list[_Sample]:
    found: dict[str, _Sample] = {}
    try:
        with open_regular(path) as stream:
            forward = Forward(stream, Path(path), os.path.getsize(path), skips=True)
            for member in _members(forward):
                key, suffix = _split_name(member.name)
                if not suffix or os.path.basename(key).startswith(("__", ".")):
                    continue
                sample = found.setdefault(key, _Sample(number, normalise_name(key)))
                if suffix in sample.images or suffix[1:] in sample.values:
                    raise DataError(f"{name} holds {as_name(member.name)} twice; make it again")
                if suffix in SUFFIXES:
                    sample.images[suffix] = (member.offset_data, member.size)
                elif _last(suffix) in _TEXTS | _JSON:
                    sample.values |= _values(suffix, forward, member)
    except (OSError, *BROKEN) as error:
        raise DataError(f"cannot read {path}: {reason_of(error)}. Download it again") from error
    return list(found.values())


def _members(forward: Forward) -> Iterator[tarfile.TarInfo]:
    """Yield the regular files of a tar file; raise `tarfile.ReadError` if it is cut off."""
    with tarfile.open(fileobj=forward, mode="r:") as archive:  # type: ignore[call-overload]
        while (member := archive.next()) is not None:
            archive.members = []  # else it keeps them all in memory
            if member.isreg() and not member.issparse():
                yield member
    forward.require_end()


def _split_name(name: str) -> tuple[str, str]:
    """Return the key of a sample, and the suffix in lower case: from the first dot on."""
    folder, base = os.path.split(name.removeprefix("./"))
    stem, dot, suffix = base.partition(".")
    return os.path.join(folder, stem), (dot + suffix).lower()


def _last(suffix: str) -> str:
    return suffix.rpartition(".")[2]


def _values(suffix: str, forward: Forward, member: tarfile.TarInfo) -> dict[str, Any]:
    if member.size > _MOST_TEXT:
        raise ValueError(f"{member.name} has {member.size:,} bytes, which is no label")
    forward.seek(member.offset_data)
    content = forward.read(member.size)
    if _last(suffix) in _JSON:
        value = parse_others_json(content)
        if not isinstance(value, dict):
            return {suffix[1:]: value}
        return {str(key): one for key, one in value.items()}
    return {suffix[1:]: content.decode().strip()}


def _image_of(sample: _Sample, shard: str, config: DataConfig) -> str:
    suffixes = list(sample.images)
    wanted = "." + config.image_column.removeprefix(".").lower()
    if wanted in suffixes:
        return wanted
    if len(suffixes) == 1:
        return suffixes[0]
    raise DataError(
        f"{shard}/{sample.key} has several images: {', '.join(suffixes)}. Set data.image_column to "
        f"one of them, as in data.image_column={suffixes[0][1:]}"
    )
