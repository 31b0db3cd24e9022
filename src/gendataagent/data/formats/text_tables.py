"""Tables that list image files by name: CSV, TSV, JSON lines, and the parquet of an image folder.

Whatever is not certain is refused: a broken quotation, a row of another length, text that is not
UTF-8. Reading on would give images the labels of others.
"""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gendataagent.core.errors import DataError
from gendataagent.core.files import open_regular, parse_others_json
from gendataagent.core.text import reason_of
from gendataagent.data.decoding.images import SUFFIXES
from gendataagent.data.formats.tables import TableFile
from gendataagent.data.index import TRAIN, first_few

TEXT_SUFFIXES = (".csv", ".tsv", ".jsonl")
_DELIMITERS = ",\t;|"
_SAMPLE_BYTES = 1 << 16
_SAMPLE_ROWS = 50
_BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True, slots=True, eq=False)
class ListFile:
    """A table whose rows name image files.

    Args:
        path: of the file.
        name: its path relative to the data set, with forward slashes.
        columns: name -> one value per row; text in CSV, None where a row has no such key.
        places: of each row in the file, for messages: "line 7", "row 3".
        class_names: column -> names of its integers, where the file has them.
        folder: in which its paths start, relative to the data set.
    """

    path: str
    name: str
    columns: Mapping[str, list[Any]]
    places: Sequence[str]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    folder: str = ""

    def __len__(self) -> int:
        return len(self.places)

    def where(self, row: int) -> str:
        """Return where a user finds a row: "labels.csv, line 7"."""
        return f"{self.name}, {self.places[row]}"


def is_list(name: str) -> bool:
    """Return whether a file may be such a table, by its name."""
    base = os.path.basename(name).lower()
    return base.endswith(TEXT_SUFFIXES) or base == "metadata.parquet"


def read_list(path: str, name: str, *, rows: int | None = None) -> ListFile:
    """Return a table, or its first `rows` rows.

    Raises:
        DataError: it cannot be read, or is no table; names file and line.
    """
    suffix = os.path.splitext(path)[1].lower()
    try:
        if suffix == ".parquet":
            return _read_parquet(path, name, rows)
        with open_regular(path) as stream:
            mark = _BYTE_ORDER_MARKS.get(stream.read(2), "utf-8-sig")
            stream.seek(0)
            text = io.TextIOWrapper(stream, encoding=mark, newline="")
            read = _read_json_lines if suffix == ".jsonl" else _read_csv
            return read(text, path, name, rows)
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read {path}: {error}. Save it again as UTF-8") from error
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"cannot read {path}: {reason_of(error)}. Correct it, or save it again"
        ) from error


def _read_csv(text: io.TextIOWrapper, path: str, name: str, rows: int | None) -> ListFile:
    sample = text.read(_SAMPLE_BYTES)
    text.seek(0)
    delimiter = _delimiter(sample, tabs=path.lower().endswith(".tsv"))
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    lines: Iterator[tuple[list[str], int]] = (
        (cells, reader.line_num) for cells in reader if any(cells)
    )
    header, first_line = next(lines, ([], 0))
    names = [cell.strip() for cell in header]
    if any(os.path.splitext(cell)[1].lower() in SUFFIXES for cell in names):  # there is no header
        lines = itertools.chain([(header, first_line)], lines)
        names = [str(number) for number, _ in enumerate(header, 1)]
    names = [column or f"column {number}" for number, column in enumerate(names, 1)]
    if len(set(names)) < len(names):
        twice = sorted({column for column in names if names.count(column) > 1})
        raise ValueError(f"it has several columns named {first_few(twice)}")
    values: list[list[Any]] = [[] for _ in names]
    places = []
    for cells, line in itertools.islice(lines, rows):
        if len(cells) < len(names) or any(cells[len(names) :]):
            raise ValueError(
                f"line {line} has {len(cells)} fields, the first line {len(names)} "
                f"(delimiter {delimiter!r})"
            )
        for column, cell in zip(values, cells, strict=False):
            column.append(cell)
        places.append(f"line {line}")
    return ListFile(path, name, dict(zip(names, values, strict=True)), places)


def _delimiter(sample: str, *, tabs: bool) -> str:
    """Return the delimiter that divides the first rows into most columns, as many in each row."""
    best, most = "\t" if tabs else ",", 1
    for delimiter in "\t" + _DELIMITERS if tabs else _DELIMITERS:
        rows = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
        lengths = [len(row) for row in itertools.islice(rows, _SAMPLE_ROWS) if any(row)]
        if len(lengths) > 1 and len(sample) == _SAMPLE_BYTES:
            lengths.pop()  # it may be cut
        if lengths and len(set(lengths)) == 1 and lengths[0] > most:
            best, most = delimiter, lengths[0]
    return best


def _read_json_lines(text: io.TextIOWrapper, path: str, name: str, rows: int | None) -> ListFile:
    found: list[Mapping[str, Any]] = []
    places = []
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        if rows is not None and len(found) == rows:
            break
        try:
            value = parse_others_json(line)
        except ValueError as error:
            raise ValueError(f"line {number} is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise ValueError(f"line {number} is not a JSON object")
        found.append(value)
        places.append(f"line {number}")
    names = dict.fromkeys(key for row in found for key in row)
    return ListFile(path, name, {key: [row.get(key) for row in found] for key in names}, places)


def _read_parquet(path: str, name: str, rows: int | None) -> ListFile:
    from gendataagent.data.formats.table_index import names_in

    file = TableFile(path, name, TRAIN)
    schema = file.schema()
    names = [column.name for column in schema if _is_plain(column.type)]
    table = file.read(names).slice(0, rows)
    columns = {column: table.column(column).to_pylist() for column in names}
    known = {column: found for column in names if (found := names_in(file, column))}
    return ListFile(path, name, columns, [f"row {n}" for n in range(table.num_rows)], known)


def _is_plain(kind: Any) -> bool:
    import pyarrow.types as kinds

    checks = (
        kinds.is_string, kinds.is_large_string, kinds.is_integer, kinds.is_floating,
        kinds.is_boolean, kinds.is_null,
    )  # fmt: skip
    return any(check(kind) for check in checks)
