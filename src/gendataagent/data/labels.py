"""Labels by name: the one place where the number or text of a label becomes a class.

A number means nothing outside the file, data set or model whose class names it indexes. So files,
splits, saved data sets, models and runs exchange labels by name; what has no name that the other
side knows is refused, with both lists of names.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gendataagent.core.errors import DataError
from gendataagent.core.text import counted, normalize_whitespace, remove_invisible, whole_number
from gendataagent.data.class_names import name_key, name_keys
from gendataagent.data.index import TRAIN, first_few, normalise_name
from gendataagent.data.sets import LabelledImages

UNLABELLED = "-1"
# -1 stored without a sign: in 64 and 32 bits, also rounded up as float64 and float32 do
_UNSIGNED = frozenset({2**64 - 1, 2**64, 2**32 - 1, 2**32})
_SMALL_UNSIGNED = (2**16 - 1, 2**8 - 1)  # in 16 and 8 bits, which may be a class too
_NAMES_SHOWN = 20
_MISSING = frozenset(
    {"none", "na", "null", "n/a", "#n/a", "<na>", "undefined", "unlabelled", "unlabeled"}
)


@dataclass(frozen=True, slots=True)
class LabelColumn:
    """The labels of one file.

    Args:
        source: the file, for messages.
        split: the order of class names is that of the train files.
        values: as stored, one per row.
        names: of the integers 0, 1, 2..., if the file has them.
        column: its name.
        where: row -> where a user finds it; None = source and number.
    """

    source: str
    split: str
    values: Sequence[Any]
    names: tuple[str, ...] | None = None
    column: str = "label"
    where: Callable[[int], str] | None = None


@dataclass(frozen=True, slots=True)
class NamedLabels:
    """The labels of several files by name.

    Args:
        class_names: every class that a file names, in label order.
        labels: class name of each row, None where it is unlabelled; one list per file.
        notes: sentences for the user.
    """

    class_names: tuple[str, ...]
    labels: tuple[list[str | None], ...]
    notes: tuple[str, ...]


def is_unlabelled(value: Any) -> bool:
    """Return whether a label says that there is none: null, NaN, -1, or empty text.

    -1 is recognised as an unsigned number of 32 or 64 bits, too; text is the number it reads as.
    Words such as "null" may be classes: see `name_notes`.
    """
    if isinstance(value, str):
        text = remove_invisible(value).strip()
        if not text:
            return True
        try:
            value = float(text.replace("\u2212", "-"))  # the typographic minus sign
        except ValueError:
            return False
    if isinstance(value, int | float):
        return value == -1 or value in _UNSIGNED or math.isnan(value)
    return value is None


def unsigned_minus_one(numbers: Iterable[float], names: int = 0) -> frozenset[int]:
    """Return which of 255 and 65535 are -1 without a sign among the labels of a data set.

    They are unless they have a name, or follow on the number before or have larger ones beside
    them, as the numbers of that many classes do.

    Args:
        names: how many numbers have one: 0, 1, 2...
    """
    found = set(numbers) - _UNSIGNED
    top = max((number for number in found if number not in _SMALL_UNSIGNED), default=-1)
    return frozenset(
        number for number in _SMALL_UNSIGNED if number in found and max(top + 1, names - 1) < number
    )


def class_name_of(text: str) -> str:
    """Return the text of a label as a class name: in NFC, without white space or invisible
    characters around it.
    """
    name = normalise_name(text).strip()
    while name and "Cf" in map(unicodedata.category, (name[0], name[-1])):
        name = (remove_invisible(name[0]) + name[1:-1] + remove_invisible(name[-1:])).strip()
    return name


def list_classes(names: Sequence[str]) -> str:
    """Return class names for a message: the first twenty, and how many more there are."""
    return first_few([repr(name) for name in names], at_most=_NAMES_SHOWN) or "none"


def both_lists(one: str, names: Sequence[str], other: str, other_names: Sequence[str]) -> str:
    """Return two lists of class names for a message, and the first place where they differ."""
    text = f"{one} has {list_classes(names)}; {other} has {list_classes(other_names)}"
    pairs = enumerate(zip(names, other_names, strict=False))
    place = next((i for i, (a, b) in pairs if a != b), None)
    if place is None or place < _NAMES_SHOWN:
        return text
    return f"{text} (class {place}: {names[place]!r}, {other_names[place]!r})"


def name_labels(columns: Sequence[LabelColumn]) -> NamedLabels:
    """Return the labels of files by name; integers are read with the class names of their file.

    Integers of a file without class names are read with those of the other files, if these agree
    on what each integer is. Where no file has class names, an integer is a class of that name.

    Raises:
        DataError: a label that is no class, or that another file's classes do not explain.
    """
    ordered = sorted(columns, key=lambda column: column.split != TRAIN)
    for column in columns:
        _require_unique(column)
    lists = {column.names: column.source for column in reversed(ordered) if column.names}
    common = _common_list(tuple(lists))
    labels = []
    unsigned = unsigned_minus_one(v for c in columns for v in c.values if _is_integer(v))
    borrowed: list[str] = []
    for column in columns:
        if lists and column.names is None and any(_is_integer(value) for value in column.values):
            if common is None:
                raise DataError(_ambiguous(column, ordered))
            borrowed.append(column.source)
        names = column.names or common
        missing = unsigned_minus_one(_SMALL_UNSIGNED, len(names)) if names else unsigned
        labels.append([_name(column, names, row, missing) for row in range(len(column.values))])
    if lists:
        for column in columns:
            _require_no_numerals(column, lists)
    else:
        _require_one_kind(columns)
    notes = []
    if common is None and lists:
        notes.append("Class names are ordered differently in each file; labels are read by name.")
    if borrowed and common is not None:
        notes.append(
            f"{first_few(borrowed)} has labels without class names; they are read as those of "
            f"{lists[common]}: {list_classes(common)}."
        )
    return NamedLabels(_all_names(ordered, labels), tuple(labels), tuple(notes))


def _require_unique(column: LabelColumn) -> None:
    names = [name for name in column.names or () if not is_unlabelled(name)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(
            f"{column.source} has the same name for two classes: {first_few(twice)}. Class names "
            "must be unique; rename one"
        )


def _common_list(lists: Sequence[tuple[str, ...]]) -> tuple[str, ...] | None:
    """Return the longest list, if all others are its beginning; else None."""
    longest = max(lists, key=len, default=())
    return longest if longest and all(one == longest[: len(one)] for one in lists) else None


def _is_integer(value: Any) -> bool:
    return not is_unlabelled(value) and (
        (isinstance(value, int) and not isinstance(value, bool))
        or (isinstance(value, float) and value.is_integer())
    )


def are_explained_by(values: Sequence[Any], names: Collection[str]) -> bool:
    """Return whether a list beside labels may name them: numbers, or text that is in the list."""
    if any(_is_integer(value) or _is_numeral(value) for value in values):
        return True
    return {class_name_of(str(value)) for value in values if _is_text(value)} <= set(names)


def _name(
    column: LabelColumn, names: tuple[str, ...] | None, row: int, unsigned: Collection[int]
) -> str | None:
    value = column.values[row]
    if is_unlabelled(value):
        return None
    if _is_integer(value):
        if value in unsigned:
            return None
        if names is None and value >= 0:
            return str(int(value))
        if names is not None and 0 <= value < len(names):
            name = names[int(value)]
            return None if is_unlabelled(name) else name
    elif isinstance(value, bool) and (names is None or str(value).lower() in names):
        return str(value).lower()
    elif isinstance(value, str):
        return class_name_of(value)
    allowed = "integers from 0 on, or text"
    if names is not None:
        allowed = f"integers below {len(names)}, for the classes {list_classes(names)}"
    raise DataError(
        f"{_place(column, row)}: the label in column {column.column!r} is {value!r}, allowed are "
        f"{allowed}; fix or drop the row"
    )


def _place(column: LabelColumn, row: int) -> str:
    return column.where(row) if column.where else f"{column.source}#{row}"


def _ambiguous(column: LabelColumn, ordered: Sequence[LabelColumn]) -> str:
    """Return the message for integers that two files with class names would read differently."""
    first, *others = [one for one in ordered if one.names]
    other = next(
        one for one in others if _common_list((first.names or (), one.names or ())) is None
    )
    lists = both_lists(first.source, first.names or (), other.source, other.names or ())
    return (
        f"{column.source} has integers as labels and no class names, and the other files do not "
        f"agree on what an integer is: {lists}. Write the class names as text into {column.source}"
    )


def _require_no_numerals(column: LabelColumn, lists: Mapping[tuple[str, ...], str]) -> None:
    """Raise for text that is an integer where other files have names for integers."""
    known = {name for names in lists for name in names}
    numerals = {v for v in column.values if _is_numeral(v)} - known
    if numerals:
        names, source = list(lists.items())[-1]
        lists_text = both_lists(column.source, sorted(numerals), source, names)
        raise DataError(
            f"the labels of {column.source} are numbers written as text, and no class has such a "
            f"name: {lists_text}. Write the class names, or integers, into {column.source}"
        )


def _require_one_kind(columns: Sequence[LabelColumn]) -> None:
    """Raise if some files have integers and others names, and none says which is which."""
    numbers = {c.source: {str(int(v)) for v in c.values if _is_integer(v)} for c in columns}
    texts = {
        c.source: {str(v) for v in c.values if _is_text(v) and not _is_numeral(v)} for c in columns
    }
    one = next((source for source, values in numbers.items() if values), None)
    other = next((source for source, values in texts.items() if values), None)
    if one is not None and other is not None:
        lists = both_lists(one, sorted(numbers[one], key=int), other, sorted(texts[other]))
        raise DataError(
            f"{one} has integers as labels and {other} has names, and nothing says which integer "
            f"is which class: {lists}. Write the class names as text into {one}"
        )


def _is_text(value: Any) -> bool:
    return isinstance(value, str | bool) and not is_unlabelled(value)


def _is_numeral(value: Any) -> bool:
    return isinstance(value, str) and value.strip().isdecimal()


def _all_names(
    ordered: Sequence[LabelColumn], labels: Sequence[Sequence[str | None]]
) -> tuple[str, ...]:
    """Return the declared names in the order of the train files, then the others, sorted."""
    lists = dict.fromkeys(column.names or () for column in ordered)
    declared = dict.fromkeys(name for names in lists for name in names if not is_unlabelled(name))
    found = {name for column in labels for name in column if name is not None}
    others = found - declared.keys()
    numbers = {name: number for name in others if (number := whole_number(name)) is not None}
    if len(numbers) == len(others):
        return (*declared, *sorted(others, key=lambda name: (numbers[name], name)))
    return (*declared, *sorted(others))


def unlabelled_notes(
    labels: Sequence[str | None],
    splits: Sequence[str],
    name_of: Callable[[int], str],
    *,
    need_train: bool,
) -> list[str]:
    """Return a note on each split without any label, which is left out.

    Args:
        name_of: row -> where a user finds it.
        need_train: whether training images must have labels.

    Raises:
        DataError: a few labels of a split are missing, or all of train.
    """
    total, missing = Counter(splits), Counter[str]()
    rows = [row for row, label in enumerate(labels) if label is None]
    for row in rows:
        missing[splits[row]] += 1
    unlabelled = {split for split in missing if missing[split] == total[split]}
    if need_train:
        unlabelled -= {TRAIN}
    if wrong := [name_of(row) for row in rows if splits[row] not in unlabelled]:
        raise DataError(
            f"{counted(len(wrong), 'row has', 'rows have')} no label (null, NaN, empty text, "
            "or -1, as unsigned number too: 255, 65535, ...): "
            f"{first_few(wrong)}. "
            "Label them or drop the rows"
        )
    return [f"Ignored the {split} split: it has no labels." for split in sorted(unlabelled)]


def match_classes(names: Sequence[str], known: Sequence[str]) -> tuple[int | None, ...]:
    """Return the position of each name in `known`, None for a class that is not there.

    A class is matched by its name, otherwise by what the name reads as ("apple_pie" is "Apple pie",
    "n02123045" is "tabby cat"), if that is one class on each side.
    """
    counts = Counter(known)
    exact = {name: i for i, name in enumerate(known) if counts[name] == 1}
    keys, own_keys = name_keys(known), name_keys(names)
    alike, own_alike = Counter(keys), Counter(own_keys)
    read = {key: i for i, key in enumerate(keys) if alike[key] == 1}
    found = [
        exact.get(name, read.get(key) if own_alike[key] == 1 else None)
        for name, key in zip(names, own_keys, strict=True)
    ]
    return tuple(found)


def same_classes(names: Sequence[str], known: Sequence[str]) -> tuple[int, ...] | None:
    """Return the position of each name in `known` if both are the same classes, else None."""
    found = [place for place in match_classes(names, known) if place is not None]
    complete = len(found) == len(names) == len(known) and len(set(found)) == len(found)
    return tuple(found) if complete else None


def in_order(names: Sequence[str], known: Sequence[str]) -> bool:
    """Return whether both lists name the same classes in the same order."""
    return same_classes(names, known) == tuple(range(len(known)))


def relabelled(images: LabelledImages, class_names: Sequence[str], whose: str) -> LabelledImages:
    """Return `images` with the labels of another list of class names, matched by name.

    Args:
        whose: what has `class_names`, for messages: "the classifier".

    Raises:
        DataError: a class of the images that is not in the list.
    """
    places = match_classes(images.class_names, class_names)
    unknown = [n for n, place in zip(images.class_names, places, strict=True) if place is None]
    if unknown:
        lists = both_lists("the data", images.class_names, whose, class_names)
        raise DataError(
            f"{whose} has no class {first_few(sorted(unknown))}: {lists}. Rename the classes of "
            "the data to those, or leave the other images out"
        )
    numbers = [place for place in places if place is not None]
    return replace(
        images,
        class_names=tuple(class_names),
        labels=tuple(numbers[label] for label in images.labels),
    )


def name_notes(class_names: Iterable[str]) -> list[str]:
    """Return notes on names that prompts or other sources will not read as meant."""
    names = list(class_names)
    notes = []
    if names and all(name.isdecimal() for name in names):
        notes.append("The classes are numbers without names; prompts will contain the numbers.")
    if missing := [name for name in names if name.casefold() in _MISSING]:
        notes.append(
            f"Classes with a name that may mean that the label is missing: {first_few(missing)}; "
            "if so, drop their images."
        )
    alike: dict[str, list[str]] = {}
    for name in names:
        seen = normalize_whitespace(unicodedata.normalize("NFKC", name))
        alike.setdefault(name_key(seen), []).append(name)
    if close := [" and ".join(map(repr, group)) for group in alike.values() if len(group) > 1]:
        notes.append(
            f"Different classes although only case, spaces, underscores or "
            "invisible characters differ: "
            f"{first_few(close)}."
        )
    return notes
