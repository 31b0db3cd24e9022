"""Many records of one dataclass in columns: a fraction of the memory, and one parquet file.

A round may have a million candidates: 1.2 KB each as objects, about 300 bytes here. The records are
built when they are read, a batch at a time, so that code which takes a sequence works unchanged.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import operator
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar, overload

import pyarrow as pa
import pyarrow.parquet as pq

from gendataagent.core.errors import RunFolderError
from gendataagent.core.files import open_regular

Record = TypeVar("Record")

# Rows that are built at once, and rows of a row group: each has a dictionary of its own words.
BATCH_ROWS = 16_384
_TEXT = pa.dictionary(pa.int32(), pa.string())
_TYPES = {str: _TEXT, int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_DAMAGED = (OSError, ValueError, TypeError, KeyError, pa.ArrowException)


class RecordTable(Sequence[Record], Generic[Record]):
    """An immutable sequence of records of the dataclass `kind`, kept in Arrow columns.

    Every field of `kind` is text, an integer, a number or a truth value, or one of these or None.
    Iterating is fast; a single record by its position is not (about 0.1 ms).

    Args:
        table: with the columns of `schema_of(kind)`.
    """

    def __init__(self, kind: type[Record], table: pa.Table) -> None:
        self._kind, self._table = kind, table

    @classmethod
    def of(cls, kind: type[Record], records: Iterable[Record]) -> RecordTable[Record]:
        """Return a table of the records; they are consumed a batch at a time."""
        return cls(kind, _columns_of(schema_of(kind), records))

    @classmethod
    def read(
        cls, kind: type[Record], path: Path, *, ignore_unknown: bool = False
    ) -> RecordTable[Record]:
        """Return the records of a parquet file.

        Args:
            ignore_unknown: leave out columns that the record does not have.

        Raises:
            RunFolderError: the file cannot be read, or a column is missing, unknown, of another
                type or lacks values; names file and column.
        """
        try:
            with open_regular(path) as stream:
                table = _read(schema_of(kind), stream, ignore_unknown)
        except FileNotFoundError as error:
            raise RunFolderError(f"cannot read {path}: {error.strerror}") from error
        except _DAMAGED as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise RunFolderError(
                f"{path} is not as gendataagent writes it: {reason}. Put the file back from a "
                "copy, or start a new run"
            ) from error
        return cls(kind, table)

    def write(self, stream: BinaryIO) -> None:
        """Write the records as parquet; the same records give the same bytes."""
        pq.write_table(self._table, stream, row_group_size=BATCH_ROWS)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[Record]:
        names = self._table.column_names
        for batch in self._table.to_batches(max_chunksize=BATCH_ROWS):
            for row in zip(*map(_values, batch.columns), strict=True):
                yield self._kind(**dict(zip(names, row, strict=True)))

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        if isinstance(index, int):
            position = range(len(self))[index]
            names, columns = self._table.column_names, self._table.columns
            values = [column[position].as_py() for column in columns]
            return self._kind(**dict(zip(names, values, strict=True)))
        start, stop, step = index.indices(len(self))
        if step != 1:
            return [self[position] for position in range(start, stop, step)]
        part = self._table.slice(start, max(0, stop - start))
        return RecordTable(self._kind, part)

    def column(self, name: str) -> list[Any]:
        """Return one field of all records."""
        found: list[Any] = []
        for chunk in self._table.column(name).chunks:
            found += _values(chunk)
        return found

    def with_column(self, name: str, values: Sequence[Any]) -> RecordTable[Record]:
        """Return the records with one field exchanged; the other columns are shared."""
        field = self._table.schema.field(name)
        starts = range(0, len(values), BATCH_ROWS)
        chunks = [_array(values[start : start + BATCH_ROWS], field.type) for start in starts]
        return self._with(pa.table([pa.chunked_array(chunks, field.type)], pa.schema([field])))

    def with_fields_of(self, changed: Iterable[Record], *names: str) -> RecordTable[Record]:
        """Return the records with fields of changed copies of them; other columns are shared.

        Args:
            changed: as many records, in the same order; consumed a batch at a time.
        """
        schema = pa.schema([self._table.schema.field(name) for name in names])
        return self._with(_columns_of(schema, changed))

    def _with(self, columns: pa.Table) -> RecordTable[Record]:
        table = self._table
        for field, column in zip(columns.schema, columns.columns, strict=True):
            table = table.set_column(table.schema.get_field_index(field.name), field, column)
        return RecordTable(self._kind, table)


def iterate_rows(
    path: Path, columns: Sequence[str] | None = None, count: int | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of any parquet file, a batch at a time.

    Args:
        columns: names; None = all.
        count: how many rows; None = all.

    Raises:
        RunFolderError: the file cannot be read, or a column is unknown.
    """
    try:
        with open_regular(path) as stream:
            file = pq.ParquetFile(stream)
            names = file.schema_arrow.names
            if unknown := [name for name in columns or () if name not in names]:
                raise RunFolderError(
                    f"{path} has no column {unknown[0]!r}; its columns are {', '.join(names)}"
                )
            batches = file.iter_batches(batch_size=BATCH_ROWS, columns=columns)
            rows = (row for batch in batches for row in batch.to_pylist())
            yield from itertools.islice(rows, count)
    except _DAMAGED as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [""])[0]
        raise RunFolderError(f"{path} cannot be read as parquet: {reason}") from error


def schema_of(kind: type[Any]) -> pa.Schema:
    """Return the columns of a dataclass: text by dictionary, 64-bit numbers, truth values."""
    hints = typing.get_type_hints(kind)
    fields = []
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
        kinds = typing.get_args(hint) if is_union else (hint,)
        (plain,) = [one for one in kinds if one is not type(None)]
        fields.append(pa.field(field.name, _TYPES[plain], nullable=type(None) in kinds))
    return pa.schema(fields)


def _columns_of(schema: pa.Schema, records: Iterable[Any]) -> pa.Table:
    """Return attributes of the records as columns."""
    readers = [operator.attrgetter(name) for name in schema.names]
    iterator, batches = iter(records), []
    while rows := list(itertools.islice(iterator, BATCH_ROWS)):
        arrays = [
            _array(list(map(reader, rows)), type_)
            for reader, type_ in zip(readers, schema.types, strict=True)
        ]
        batches.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return pa.Table.from_batches(batches, schema)


def _array(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    if all(value is None for value in values):
        return _nulls(len(values), type_)
    return pa.array(values, type_)


@functools.lru_cache(maxsize=64)
def _nulls(count: int, type_: pa.DataType) -> pa.Array:
    """Return an array without values, shared by all columns that have none (yet)."""
    return pa.nulls(count, type_)


def _read(schema: pa.Schema, stream: BinaryIO, ignore_unknown: bool) -> pa.Table:
    words = [field.name for field in schema if field.type == _TEXT]
    file = pq.ParquetFile(stream, read_dictionary=words)
    there = file.schema_arrow.names
    for name in schema.names:
        if name not in there:
            raise ValueError(f"the column {name} is missing")
    if not ignore_unknown and (unknown := sorted(set(there) - set(schema.names))):
        raise ValueError(f"unknown column {unknown[0]}")
    table = file.read(columns=schema.names).select(schema.names)
    columns = []
    for field in schema:
        column = table.column(field.name)
        if column.null_count and not field.nullable:
            raise ValueError(f"the column {field.name} lacks {column.null_count} values")
        try:
            columns.append(column.cast(field.type))
        except pa.ArrowException as error:
            wanted = "text" if field.type == _TEXT else field.type
            raise ValueError(f"{field.name} must be {wanted}, got {column.type}") from error
    whole = pa.Table.from_arrays(columns, schema=schema)
    whole.validate(full=True)  # also that text is UTF-8
    return whole


def _values(array: pa.Array) -> list[Any]:
    """Return the values of an array; equal words of a dictionary are one object."""
    if array.null_count == len(array):
        return [None] * len(array)
    if pa.types.is_dictionary(array.type):
        words = [*array.dictionary.to_pylist(), None]
        places = array.indices.fill_null(len(words) - 1).to_numpy(zero_copy_only=False)
        return [words[place] for place in places.tolist()]
    if array.null_count:
        return typing.cast(list[Any], array.to_pylist())
    return typing.cast(list[Any], array.to_numpy(zero_copy_only=False).tolist())
