"""Text lists of official archives; every error names file and line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gendataagent.core.errors import DataError
from gendataagent.core.files import read_bytes
from gendataagent.core.text import whole_number


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a list; its str is its location: "images.txt, line 7"."""

    file: str
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.number}"

    def fault(self, expected: str) -> DataError:
        """Return the error for a line that does not have the form `expected`."""
        return DataError(
            f"{self}: expected {expected}, got {self.text[:100]!r}; the list is damaged or not the "
            "official one, unpack the archive again"
        )

    def whole_number(self, text: str, expected: str) -> int:
        """Return `text`, a part of this line, as a non-negative integer."""
        number = whole_number(text)
        if number is None:
            raise self.fault(expected)
        return number


def read_lines(base: Path, name: str) -> Iterator[Line]:
    """Yield the non-empty lines of a list, without trailing white space.

    Raises:
        DataError: the list cannot be read or is not UTF-8 text.
    """
    try:
        text = read_bytes(base / name).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {base / name}: {error}; unpack the archive again") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield Line(name, number, line.rstrip())


def read_pairs(base: Path, name: str, expected: str) -> dict[str, tuple[str, Line]]:
    """Return {first word: (rest of the line, the line)} of a list of "key value" lines."""
    pairs: dict[str, tuple[str, Line]] = {}
    for line in read_lines(base, name):
        key, _, value = line.text.strip().partition(" ")
        if not value.strip():
            raise line.fault(expected)
        if key in pairs:
            raise DataError(
                f"{line}: {key} is already in {pairs[key][1]}; unpack the archive again"
            )
        pairs[key] = (value.strip(), line)
    return pairs


def read_table(base: Path, name: str, columns: tuple[str, ...]) -> Iterator[tuple[list[str], Line]]:
    """Yield the named columns of a tab-separated list with a header line."""
    lines = read_lines(base, name)
    header = next(lines, Line(name, 1, ""))
    names = header.text.split("\t")
    if missing := [column for column in columns if column not in names]:
        raise header.fault(f"tab-separated column names with {' and '.join(missing)}")
    places = [names.index(column) for column in columns]
    for line in lines:
        cells = line.text.split("\t")
        if len(cells) <= max(places) or not all(cells[place].strip() for place in places):
            raise line.fault(f"tab-separated cells for {', '.join(columns)}")
        yield [cells[place].strip() for place in places], line
