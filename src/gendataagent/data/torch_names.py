"""Class names of torch data sets, also inside `Subset` and `ConcatDataset`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from gendataagent.core.errors import DataError
from gendataagent.data.index import first_few
from gendataagent.data.labels import both_lists, is_unlabelled, list_classes, unsigned_minus_one

_MOST_NUMBERED = 99_999


def leaves_of(data_set: Any, rows: Sequence[int] | None = None) -> list[tuple[Any, Sequence[int]]]:
    """Return the data sets inside `Subset` and `ConcatDataset`, each with the rows used of it."""
    rows = range(len(data_set)) if rows is None else rows
    if hasattr(data_set, "dataset") and hasattr(data_set, "indices"):
        return leaves_of(data_set.dataset, [int(data_set.indices[row]) for row in rows])
    if not isinstance(data_set, torch.utils.data.ConcatDataset):
        return [(data_set, rows)]
    parts: list[Any] = list(data_set.datasets)
    starts = np.cumsum([0, *map(len, parts)])
    found: list[tuple[Any, Sequence[int]]] = []
    for part, start, end in zip(parts, starts[:-1], starts[1:], strict=True):
        inside = [int(row - start) for row in rows if start <= row < end]
        found += leaves_of(part, inside) if inside else []
    return found


def class_names_of(
    given: Sequence[str] | None, leaves: Sequence[Any], labels: Sequence[int]
) -> tuple[str, ...]:
    """Return the names of the labels, which a training loop sees as numbers.

    The data sets inside one must agree on the name of each number, since the loop cannot tell from
    which of them an image comes. Names `given` may replace those of a data set, but not move them.
    """
    lists = [
        (f"the {type(leaf).__name__} at place {place}", names)
        for place, leaf in enumerate(leaves)
        if (names := _own_names(leaf)) is not None
    ]
    if max(labels) > _MOST_NUMBERED and (given is None and not lists):
        raise DataError(
            f"the train set has the label {max(labels)}, of classes without names; allowed are 0 "
            f"to {_MOST_NUMBERED:,}. Number the classes 0, 1, 2..., or give the data set `classes`"
        )
    if isinstance(given, str) or len(set(given or ())) < len(given or ()):
        raise DataError(
            f"class_names must be a list of different names, one a class; got {given!r:.200}"
        )
    if given is None and not lists:
        if missing := unsigned_minus_one(labels):
            raise DataError(
                f"items of the train set have the label {max(missing)}, which is -1 as an unsigned "
                f"number: no label. Leave them out, for example with torch.utils.data.Subset; if "
                "it is a class, give the data set `classes`"
            )
        return tuple(str(label) for label in range(max(labels) + 1))
    source, chosen = max(lists, key=lambda one: len(one[1]), default=("", ()))
    if given is not None:
        source, chosen = "class_names", tuple(given)
    if nameless := sorted({n for n in labels if n < len(chosen) and is_unlabelled(chosen[n])}):
        raise DataError(
            f"items of the train set have the label {nameless[0]}, whose name "
            f"{chosen[nameless[0]]!r} says that there is none. Leave them out, for example with "
            "torch.utils.data.Subset, or give the class a name"
        )
    for other, names in lists:
        pairs = [(one, name) for one, name in zip(chosen, names, strict=False) if one != name]
        if pairs and (given is None or set(chosen) & {name for _, name in pairs}):
            raise DataError(
                "the labels of the train set have two meanings: "
                f"{both_lists(source, chosen, other, names)}. Use one list in one order"
            )
    return chosen


def names_its_classes(data_set: Any) -> bool:
    """Return whether a data set, or one inside `Subset` and `ConcatDataset`, has class names."""
    return any(_own_names(leaf) is not None for leaf, _ in leaves_of(data_set))


def _own_names(data_set: Any) -> tuple[str, ...] | None:
    """Return the names of labels 0, 1, 2... by `classes` and `class_to_idx`; None without any."""
    numbers: Any = getattr(data_set, "class_to_idx", None)
    # torchvision's ImageNet has several names for each class
    names = tuple(
        str(name[0] if isinstance(name, list | tuple) and name else name)
        for name in getattr(data_set, "classes", None) or ()
    )
    if not isinstance(numbers, Mapping) or not numbers:
        return names or None
    if names and all(numbers.get(name, label) == label for label, name in enumerate(names)):
        return names
    if sorted(numbers.values()) == list(range(len(numbers))):
        return tuple(str(name) for name in sorted(numbers, key=lambda name: int(numbers[name])))
    listed = first_few([f"{name}: {label}" for name, label in numbers.items()], at_most=20)
    raise DataError(
        f"`classes` of the train set ({list_classes(names)}) does not fit its `class_to_idx` "
        f"({listed}); correct one of them"
    )
