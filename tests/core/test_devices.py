"""Devices and dtypes by name, and batches that shrink when memory runs out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from gendataagent.core import devices
from gendataagent.core.devices import (
    BatchSize,
    adaptation_precision,
    has_bfloat16_units,
    image_dtype_name,
    repeatable_kernels,
    resolve_device,
    resolve_dtype,
    training_precision,
)
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


@pytest.mark.parametrize("units", [True, False])
def test_bfloat16_is_chosen_on_a_cpu_with_units_for_it(
    units: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "has_bfloat16_units", lambda: units)
    assert image_dtype_name("auto", "cpu") == ("bfloat16" if units else "float32")
    assert training_precision("auto", torch.device("cpu")) == ("bf16" if units else "no")
    assert adaptation_precision("auto", "cpu") == ("bf16" if units else "no")
    assert resolve_dtype("auto", "cpu") is torch.float32  # of captioner and language model
    for named in ("float32", "float16"):
        assert image_dtype_name(named, "cpu") == named
    assert (training_precision("no", "cpu"), training_precision("fp16", "cpu")) == ("no", "fp16")
    assert (image_dtype_name("auto", "mps"), training_precision("auto", "mps")) == ("float16", "no")


@pytest.mark.parametrize(("units", "precision"), [(True, "bf16"), (False, "fp16")])
def test_precision_on_a_gpu_follows_its_units(
    units: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda emulated: units or emulated)
    assert training_precision("auto", "cuda:1") == precision
    assert adaptation_precision("auto", "cuda:1") == "fp16"
    assert image_dtype_name("auto", "cuda:1") == "float16"


@pytest.mark.parametrize(
    ("amx", "avx512", "limit", "expected"),
    [
        (True, False, "", True),
        (False, True, "", True),
        (False, False, "", False),
        (True, True, "AVX512_CORE", False),
        (True, True, "avx512_core_bf16", True),
        (True, True, "ALL", True),
        (True, True, "AVX2", False),
    ],
)
def test_units_are_seen_by_their_instructions(
    amx: bool, avx512: bool, limit: str, expected: bool, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(devices, "CPU_FILE", file)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert has_bfloat16_units() is expected  # by torch
    named = " ".join(["fpu"] + ["amx_bf16"] * amx + ["avx512_bf16"] * avx512)
    file.write_text(f"processor\t: 0\nflags\t\t: {named}\nbugs\t\t:\n")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: not amx)
    assert has_bfloat16_units() is expected  # by Linux


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


def test_repeatable_kernels_keep_cudnn_in_use_and_tf32_out() -> None:
    cudnn = torch.backends.cudnn
    before = (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32)
    torch.set_float32_matmul_precision("high")
    try:
        with repeatable_kernels():
            assert (cudnn.enabled, cudnn.benchmark, cudnn.deterministic) == (True, False, True)
            assert not cudnn.allow_tf32
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32) == before


def test_the_workspace_of_cublas_is_fixed_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    assert resolve_device("auto") == "cuda"
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    resolve_device("cpu")
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    resolve_device("cuda:1")
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
