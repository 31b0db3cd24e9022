"""Parquet files and data sets saved by Hugging Face `datasets`, read with pyarrow alone.

Images stay on disk in a memory-mapped Arrow table. A parquet file cannot be read row by row, so a
large one is unpacked once into the cache folder; small ones are held in memory.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from gendataagent.core.cache import cache_folder
from gendataagent.core.errors import DataError, ImageUnreadableError
from gendataagent.core.files import (
    atomic_writer,
    file_sha256,
    open_regular,
    read_cached,
    write_cached,
)
from gendataagent.data.formats.image_paths import ImagePaths
from gendataagent.data.index import TRAIN, split_of, split_of_file

IN_MEMORY_BYTES = 256 << 20
_ROWS_PER_BATCH = 256


@dataclass(frozen=True, slots=True)
class TableFile:
    """One parquet or Arrow stream file.

    Args:
        name: its path relative to the data set.
        info: the JSON file beside it that states its features, if there is one.
    """

    path: str
    name: str
    split: str
    info: str | None = None

    @property
    def is_parquet(self) -> bool:
        """Whether it is parquet, else an Arrow stream."""
        return self.path.lower().endswith(".parquet")

    def schema(self) -> Any:
        """Return the pyarrow schema; raise `DataError` if the file is broken."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            open_regular(self.path).close()
            if self.is_parquet:
                return pq.read_schema(self.path)
            with pa.memory_map(self.path) as source:
                return pa.ipc.open_stream(source).schema
        except (OSError, ValueError, pa.ArrowException) as error:
            raise DataError(
                f"cannot read {self.path}: {error}. Download or save it again"
            ) from error

    def read(self, columns: Sequence[str]) -> Any:
        """Return these columns as a pyarrow table; an Arrow file is memory-mapped."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            open_regular(self.path).close()
            if self.is_parquet:
                table = pq.ParquetFile(self.path).read(columns=list(columns))
            else:
                stream = pa.ipc.open_stream(pa.memory_map(self.path))
                table = stream.read_all().select(list(columns))
            table.validate(full=True)  # offsets inside the data, text in UTF-8
            return table
        except (OSError, ValueError, LookupError, pa.ArrowException) as error:
            raise DataError(
                f"cannot read {self.path}: {error}. Download or save it again"
            ) from error


class TableStore:
    """The concatenated image columns of several tables, reopened in each process.

    Args:
        paths: where paths lead, for tables that hold paths instead of bytes.
        unpacked: the files that are read in their place, where another process has unpacked them.
    """

    def __init__(
        self,
        files: Sequence[TableFile],
        column: str,
        paths: ImagePaths,
        unpacked: Sequence[TableFile] = (),
    ) -> None:
        self._files, self._column, self._paths = tuple(files), column, paths
        self._hashes: dict[int, str] = {}
        size = sum(os.path.getsize(file.path) for file in files if file.is_parquet)
        large = size > IN_MEMORY_BYTES
        self._unpacked = tuple(unpacked) or tuple(
            _unpacked(file, column, self._hash(number)) if large and file.is_parquet else file
            for number, file in enumerate(files)
        )
        self._chunks: list[Any] = []
        rows_per_file = []
        for file in self._unpacked:
            table = file.read([column])
            rows_per_file.append(table.num_rows)
            self._chunks.extend(table.column(column).chunks)
        self._chunk_ends = list(accumulate(len(chunk) for chunk in self._chunks))
        self._file_ends = list(accumulate(rows_per_file))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._files, self._column, self._paths, self._unpacked)

    def _hash(self, number: int) -> str:
        """Return the SHA-256 of a file; raise OSError if it is missing."""
        if number not in self._hashes:
            self._hashes[number] = file_sha256(Path(self._files[number].path))
        return self._hashes[number]

    def rows_of(self, number: int) -> int:
        """Return how many rows file `number` has."""
        return int(self._file_ends[number] - (self._file_ends[number - 1] if number else 0))

    def check_paths(self) -> None:
        """Raise `DataError` naming the first row whose path leads outside the allowed folder."""
        start = 0
        for chunk in self._chunks:
            for row, path in enumerate(_paths_of(chunk), start):
                if path is not None:
                    self._paths.check(path, self.name(row))
            start += len(chunk)

    def named_files(self) -> list[tuple[str, Path]]:
        """Return the images that rows name by path: as written, and where that leads."""
        names = (path for chunk in self._chunks for path in _paths_of(chunk))
        found = [(name, self._paths.resolve(name)) for name in dict.fromkeys(names) if name]
        return [(name, Path(file)) for name, file in found if os.path.isfile(file)]

    def open(self, row: int) -> BinaryIO:
        chunk = bisect_right(self._chunk_ends, row)
        start = self._chunk_ends[chunk - 1] if chunk else 0
        value = self._chunks[chunk][row - start].as_py()
        content, path = value, None
        if isinstance(value, dict):
            content, path = value.get("bytes"), value.get("path")
        elif isinstance(value, str):
            content, path = None, value
        if isinstance(content, bytes):
            return io.BytesIO(content)
        if content is not None:
            raise ImageUnreadableError(
                f"the cell holds a {type(content).__name__}, not an encoded image"
            )
        if isinstance(path, str) and path and "\0" not in path:
            self._paths.check(path, self.name(row))
            return open_regular(self._paths.resolve(path))
        raise ImageUnreadableError("the row has no image")

    @property
    def location(self) -> str:
        """The absolute paths of the files, and the column."""
        return json.dumps([*(os.path.realpath(file.path) for file in self._files), self._column])

    def state(self, row: int) -> str:
        """Return the SHA-256 of the file with a row; "" if the image is a file of its own.

        Files that are exchanged may have the same name, size and times.
        """
        chunk = bisect_right(self._chunk_ends, row)
        value = self._chunks[chunk][row - (self._chunk_ends[chunk - 1] if chunk else 0)]
        if isinstance(value, Mapping):
            value = value.get("bytes")
        if value is None or not value.is_valid or isinstance(value.as_py(), str):
            return ""
        return self._hash(bisect_right(self._file_ends, row))

    def name(self, row: int) -> str:
        """Return `file#row`, rows counted from 0 in each file."""
        number = bisect_right(self._file_ends, row)
        start = self._file_ends[number - 1] if number else 0
        return f"{self._files[number].name}#{row - start}"


def _paths_of(chunk: Any) -> list[str | None]:
    """Return the path in each cell of an image column that holds no image itself, else None."""
    import pyarrow.compute as compute
    import pyarrow.types as kinds

    if kinds.is_string(chunk.type) or kinds.is_large_string(chunk.type):
        return list(chunk.to_pylist())
    if not kinds.is_struct(chunk.type) or chunk.type.get_field_index("path") < 0:
        return []
    paths = compute.struct_field(chunk, "path")
    if chunk.type.get_field_index("bytes") < 0:
        return list(paths.to_pylist())
    empty = compute.is_null(compute.struct_field(chunk, "bytes")).to_pylist()
    return [
        path if missing and isinstance(path, str) else None
        for path, missing in zip(paths.to_pylist(), empty, strict=True)
    ]


def _unpacked(file: TableFile, column: str, content: str) -> TableFile:
    """Return an Arrow stream file in the cache with one column of a parquet file.

    It is found by the content of the parquet file, and used only while its own SHA-256 is that of
    the file beside it.

    Args:
        content: SHA-256 of the parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = hashlib.blake2b(json.dumps([content, column]).encode(), digest_size=16).hexdigest()
    target = cache_folder() / "parquet" / f"{name}.arrow"
    seal = target.with_suffix(".sha256")
    if not (target.is_file() and read_cached(seal) == file_sha256(target).encode()):
        parquet = pq.ParquetFile(file.path)
        schema = pa.schema([parquet.schema_arrow.field(column)])
        with atomic_writer(target) as stream, pa.ipc.new_stream(stream, schema) as writer:
            for batch in parquet.iter_batches(_ROWS_PER_BATCH, columns=[column]):
                writer.write_batch(batch)
        write_cached(seal, file_sha256(target).encode())
    return TableFile(str(target), file.name, file.split)


def parquet_files(
    root: Path, names: Sequence[str], *, need_train: bool = True
) -> tuple[list[TableFile], list[str]]:
    """Return the parquet files `names` below `root` with their splits, and notes.

    The split is a word of the file name (train-00000-of-00002.parquet), else of the nearest folder.
    """
    found = [(name, str(root / name), split_of_file(name)) for name in names]
    return with_splits(root, found, need_train=need_train)


def saved_files(root: Path, *, need_train: bool = True) -> tuple[list[TableFile], list[str]]:
    """Return the Arrow files of a Dataset or DatasetDict saved with `save_to_disk`, and notes."""
    try:
        if (root / "dataset_dict.json").exists():
            splits = _read_json(root / "dataset_dict.json")["splits"]
        else:
            splits = [""]
        found: list[tuple[str, str, str | None]] = []
        for split in splits:
            state = _read_json(root / split / "state.json")
            if state.get("_indices_data_files") or state.get("_indices_files"):
                raise ValueError("it selects rows by a list of its own, as old versions saved it")
            for entry in state["_data_files"]:
                name = f"{split}/{entry['filename']}".lstrip("/")
                if ImagePaths(str(root)).leads_outside(name):
                    raise ValueError(f"it names {name!r}, outside its folder")
                found.append((name, str(root / name), split_of(split)))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{root} is not a complete data set saved by datasets ({error}); save it again with "
            "save_to_disk"
        ) from error
    files, notes = with_splits(root, found, need_train=need_train)
    return [replace(file, info=_info_beside(file.path)) for file in files], notes


def _info_beside(path: str) -> str | None:
    """Return the file in which `save_to_disk` states the features of an Arrow file."""
    info = os.path.join(os.path.dirname(path), "dataset_info.json")
    return info if os.path.isfile(info) else None


def _read_json(path: Path) -> Any:
    with open_regular(path) as stream:
        return json.loads(stream.read())


def with_splits(
    root: Path, found: list[tuple[str, str, str | None]], *, need_train: bool = True
) -> tuple[list[TableFile], list[str]]:
    """Return the files sorted by name, and notes; if none names a split, all are train.

    Raises:
        DataError: there are splits, `need_train`, and none is train.
    """
    found = sorted(found, key=lambda entry: entry[0])
    notes: list[str] = []
    splits = {split for _, _, split in found}
    if len(splits) == 1:
        if need_train and splits - {None, TRAIN}:
            notes.append(f"The only split, {splits.pop()}, is used for training.")
        return [TableFile(path, name, TRAIN) for name, path, _ in found], notes
    if found and need_train and TRAIN not in splits:
        raise DataError(
            f"{root} holds no train split, got {', '.join(name for name, _, _ in found)}; name "
            "the training part train, as in train.parquet"
        )
    if ignored := [name for name, _, split in found if split is None]:
        notes.append(f"Ignored tables that name no split: {', '.join(ignored)}.")
    return [TableFile(path, name, split) for name, path, split in found if split], notes
