"""Names given by number, as data sets and models list their classes: {"0": "cat", "1": "dog"}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NUMBERS_SHOWN = 20


def names_by_number(names: Mapping[Any, Any]) -> list[str]:
    """Return the names in {"0": "cat", "1": "dog"} in order; raise `ValueError` at a gap."""
    by_number = {int(number): str(name) for number, name in names.items()}
    if len(by_number) < len(names) or sorted(by_number) != list(range(len(names))):
        numbers = ", ".join(map(str, sorted(by_number)[:_NUMBERS_SHOWN]))
        raise ValueError(f"it names the numbers {numbers}; needed are 0 to {len(names) - 1}")
    return [by_number[number] for number in range(len(names))]


def names_of_outputs(id2label: Mapping[Any, Any], label2id: Mapping[str, Any] | None) -> list[str]:
    """Return the names of a model's outputs, in order.

    Raises:
        ValueError: id2label does not name each output once, or label2id contradicts it.
    """
    names = names_by_number(id2label)
    numbers = label2id or {}
    if moved := [name for number, name in enumerate(names) if numbers.get(name, number) != number]:
        raise ValueError(f"label2id and id2label give {moved[0]!r} different numbers")
    return names
