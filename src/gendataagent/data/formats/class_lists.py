"""Files that list class names beside the data, of the numbers 0, 1, 2... of its labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gendataagent.core.errors import DataError
from gendataagent.core.files import parse_others_json, read_bytes
from gendataagent.core.text import reason_of, remove_invisible
from gendataagent.data.labels import both_lists, class_name_of
from gendataagent.data.numbered_names import names_by_number

_FILES = ("classes.json", "classnames.txt", "classes.txt")
_NUMBERED = re.compile(r"(\d{1,6})(?:[:,;=]\s*|\s+)(\S.*)", re.ASCII)


def class_list_for(root: Path, folder: Path) -> Path | None:
    """Return the list of class names nearest to the files of a folder: in it, or above it.

    The highest folder is `root`, or the one above it for the files of `root` itself.

    Raises:
        DataError: a folder has lists that differ.
    """
    folders = [folder]
    while folders[-1] != root and folders[-1].is_relative_to(root):
        folders.append(folders[-1].parent)
    if len(folders) == 1:
        folders.append(root.parent)
    for folder in folders:
        paths = [folder / name for name in _FILES]
        inside = folder.resolve()
        paths = [p for p in paths if p.is_file() and p.resolve().is_relative_to(inside)]
        for path in paths[1:]:
            if (first := read_class_list(paths[0])) != (other := read_class_list(path)):
                lists = both_lists(paths[0].name, first, path.name, other)
                raise DataError(f"{folder} has two lists of classes: {lists}. Remove one")
        if paths:
            return paths[0]
    return None


def read_class_list(path: Path) -> tuple[str, ...]:
    """Return the names of the numbers 0, 1, 2... that a file lists.

    Text has one name a line, or number and name in each; JSON is a list, {"0": "cat", "1": "dog"}
    or {"cat": 0, "dog": 1}.

    Raises:
        DataError: it cannot be read, or does not name each number once; says where.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
        names = _in_text(text) if path.suffix == ".txt" else _in_json(parse_others_json(text))
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read the class names in {path}: {reason_of(error)}. Correct or remove it"
        ) from error
    return tuple(map(class_name_of, names))


def _in_text(text: str) -> Sequence[str]:
    # not splitlines(), which also divides at characters that may be part of a name
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    while lines and _is_blank(lines[-1]):
        lines.pop()
    if blank := next((n for n, line in enumerate(lines, 1) if _is_blank(line)), None):
        raise ValueError(
            f"line {blank} is blank, so that the numbers of the classes after it are uncertain"
        )
    found = [_NUMBERED.fullmatch(line.strip()) for line in lines]
    numbered = {match[1]: match[2] for match in found if match}
    if len(lines) > 1 and len(numbered) == len(lines):
        try:
            return names_by_number(numbered)
        except ValueError:  # "7 dwarfs", "101 dalmatians"
            return lines
    return lines


def _in_json(value: Any) -> Sequence[str]:
    if isinstance(value, dict) and all(type(number) is int for number in value.values()):
        inverse = {number: name for name, number in value.items()}
        if len(inverse) < len(value):
            raise ValueError("it gives two names the same number")
        value = inverse
    if isinstance(value, dict):
        value = names_by_number(value)
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("it is no list of names")
    if blank := next((str(n) for n, name in enumerate(value) if _is_blank(name)), ""):
        raise ValueError(f"the name of number {blank} is empty")
    return value


def _is_blank(name: str) -> bool:
    return not remove_invisible(name).strip()
