"""Devices and dtypes by name, and batches that shrink when memory runs out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from gendataagent.core.devices import BatchSize, resolve_device, resolve_dtype
from gendataagent.core.errors import ConfigError, GenerationError

TOO_LARGE = "not enough memory for one; take less"


@pytest.mark.parametrize(
    ("name", "device", "dtype"),
    [
        ("auto", "cpu", torch.float32),
        ("auto", "cuda:1", torch.float16),
        ("auto", torch.device("mps"), torch.float16),
        ("bfloat16", "cpu", torch.bfloat16),
        ("float32", "cuda", torch.float32),
    ],
)
def test_a_dtype_is_found_by_name(
    name: str, device: str | torch.device, dtype: torch.dtype
) -> None:
    assert resolve_dtype(name, device) is dtype


@pytest.mark.parametrize("name", ["cuda:99", "potato"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"device '{name}' cannot be used here: .*try auto"):
        resolve_device(name)


class Memory:
    """Doubles numbers, `room` at a time at most."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.asked: list[int] = []

    def double(self, batch: Sequence[int]) -> list[int]:
        self.asked.append(len(batch))
        if len(batch) > self.room:
            raise torch.OutOfMemoryError
        return [2 * number for number in batch]


def test_a_batch_is_halved_for_good_and_no_item_is_lost() -> None:
    memory, batch_size = Memory(room=3), BatchSize(8, too_large=TOO_LARGE)
    assert batch_size.map(memory.double, range(11)) == list(range(0, 22, 2))
    assert memory.asked == [8, 4, 2, 2, 2, 2, 2, 1]
    assert batch_size.size == 2
    memory.asked.clear()
    assert batch_size.map(memory.double, [7, 7, 7]) == [14, 14, 14]
    assert memory.asked == [2, 1]
    assert batch_size.map(memory.double, []) == []


def test_room_is_made_before_a_batch_is_halved() -> None:
    memory, tricks = Memory(room=2), [4]

    def make_room() -> bool:
        memory.room = tricks.pop() if tricks else memory.room
        return memory.room == 4 and memory.asked == [6]

    batch_size = BatchSize(6, too_large=TOO_LARGE, make_room=make_room)
    assert batch_size.map(memory.double, range(6)) == [0, 2, 4, 6, 8, 10]
    assert memory.asked == [6, 6, 3, 3]


def test_one_item_that_does_not_fit_is_an_error_with_advice() -> None:
    memory, batch_size = Memory(room=0), BatchSize(2, too_large=TOO_LARGE)
    with pytest.raises(GenerationError, match=TOO_LARGE) as caught:
        batch_size.map(memory.double, [1, 2])
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)
    assert memory.asked == [2, 1]
