"""Records from JSON that somebody else may have written: every key and every type is checked."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from gendataagent.core import files
from gendataagent.core.errors import RunFolderError

Record = TypeVar("Record")

_WORDS = {
    bool: "true or false", int: "an integer", float: "a number", str: "text",
    type(None): "null", list: "a list", dict: "an object",
}  # fmt: skip
_SHOWN = 40  # characters of a value in a message
_LARGEST = 1 << 63  # of integers: a larger one is no number of ours, nor part of a file's name


class RowError(ValueError):
    """A JSON value is not what a record needs; the message names the key."""


def fit(cls: type[Record], row: Any, *, ignore_unknown: bool = False) -> Record:
    """Return `row` as a record of the dataclass `cls`: lists become tuples, objects records.

    Args:
        ignore_unknown: leave out keys that the record does not have.

    Raises:
        RowError: a key is missing, unknown, or of another type.
    """
    if ignore_unknown and isinstance(row, Mapping):
        names = {field.name for field in dataclasses.fields(typing.cast(Any, cls))}
        row = {name: value for name, value in row.items() if name in names}
    return typing.cast(Record, _record(cls, row, ""))


def read_record(cls: type[Record], path: Path) -> Record:
    """Return the record in a JSON file; raise `RunFolderError` naming file and key."""
    return _named(cls, files.read_json(path), str(path))


def read_records(cls: type[Record], path: Path) -> list[Record]:
    """Return the records of a JSONL file; raise `RunFolderError` naming file, line and key."""
    return [
        _named(cls, row, f"{path}, line {number}")
        for number, row in enumerate(files.read_jsonl(path), start=1)
    ]


def read_mapping(path: Path, kind: Any = Any) -> dict[str, Any]:
    """Return the object of a JSON file whose values are of type `kind`.

    Raises:
        RunFolderError: the file cannot be read, or holds something else; names file and key.
    """
    value = files.read_json(path)
    try:
        return typing.cast(dict[str, Any], _fit(Mapping[str, kind], value, ""))
    except RowError as error:
        raise RunFolderError(_sentence(str(path), error)) from error


def read_columns(path: Path, columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the objects of a JSONL file, each with at least these keys: name -> type.

    Raises:
        RunFolderError: naming file, line and key.
    """
    rows = files.read_jsonl(path)
    for number, row in enumerate(rows, start=1):
        try:
            for name, kind in columns.items():
                if name not in row:
                    raise RowError(f"{name} is missing")
                _fit(kind, row[name], name)
        except RowError as error:
            raise RunFolderError(_sentence(f"{path}, line {number}", error)) from error
    return rows


def _named(cls: type[Record], row: Any, where: str) -> Record:
    try:
        return fit(cls, row)
    except RowError as error:
        raise RunFolderError(_sentence(where, error)) from error


def _sentence(where: str, error: RowError) -> str:
    return (
        f"{where} is not as gendataagent writes it: {error}. Put the file back from a copy, or "
        "start a new run"
    )


@functools.cache
def _hints(cls: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _record(cls: type[Any], row: Any, key: str) -> Any:
    if not isinstance(row, Mapping):
        raise RowError(_wrong(key, "an object", row))
    known = {field.name: field for field in dataclasses.fields(cls) if field.init}
    prefix = f"{key}." if key else ""
    if unknown := sorted(str(name) for name in row.keys() - known.keys()):
        raise RowError(f"unknown key {prefix}{_cut(unknown[0])}")
    for name, field in known.items():
        optional = (field.default, field.default_factory) != (dataclasses.MISSING,) * 2
        if name not in row and not optional:
            raise RowError(f"{prefix}{name} is missing")
    hints = _hints(typing.cast(Hashable, cls))
    return cls(**{name: _fit(hints[name], value, f"{prefix}{name}") for name, value in row.items()})


def _fit(kind: Any, value: Any, key: str) -> Any:
    """Return a JSON value as `kind`; raise `RowError` if it is of another type."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _one_of(inside, value, key)
    if dataclasses.is_dataclass(kind):
        return _record(typing.cast(type[Any], kind), value, key)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise RowError(_wrong(key, "a list", value))
        return tuple(_fit(inside[0], one, f"{key}[{i}]") for i, one in enumerate(value))
    if origin is not None:  # Mapping[str, X] or dict[str, X]
        if not isinstance(value, Mapping):
            raise RowError(_wrong(key, "an object", value))
        prefix = f"{key}." if key else ""
        return {name: _fit(inside[1], one, f"{prefix}{_cut(name)}") for name, one in value.items()}
    is_kind = isinstance(value, int | float) if kind is float else isinstance(value, kind)
    if not is_kind or (isinstance(value, bool) and kind is not bool):
        raise RowError(_wrong(key, _WORDS.get(kind, str(kind)), value))
    if isinstance(value, int) and abs(value) >= _LARGEST:
        raise RowError(_wrong(key, "an integer of 64 bits", value))
    return value


def _one_of(kinds: tuple[Any, ...], value: Any, key: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    rest = [kind for kind in kinds if kind is not type(None)]
    for kind in rest[:-1]:
        try:
            return _fit(kind, value, key)
        except RowError:
            continue
    return _fit(rest[-1], value, key)


def _wrong(key: str, wanted: str, value: Any) -> str:
    got = _WORDS.get(type(value), type(value).__name__)
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        got = _cut(repr(value))
    return f"{key or 'it'} must be {wanted}, got {got}"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
