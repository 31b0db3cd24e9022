"""Numbers out of .mat files as MATLAB and scipy write them, and files that are none."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError
from gendataagent.data import load_data
from gendataagent.data.official import matfile
from gendataagent.data.official.matfile import read_numbers
from tests.data import official_trees as trees

# data types and array classes of the format's description
INT8, UINT8, INT32, UINT16, UINT32, MATRIX, COMPRESSED = 1, 2, 5, 4, 6, 14, 15
CHAR, DOUBLE = 4, 6


def element(kind: int, data: bytes, order: str) -> bytes:
    """One element: small if it fits into four bytes, as MATLAB does."""
    if 0 < len(data) <= 4:
        return struct.pack(f"{order}I", len(data) << 16 | kind) + data.ljust(4, b"\0")
    return struct.pack(f"{order}II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def matrix(
    name: str, kind: int, data: bytes, shape: tuple[int, int], *, order: str, flags: int = DOUBLE
) -> bytes:
    parts = (
        element(UINT32, struct.pack(f"{order}II", flags, 0), order),
        element(INT32, struct.pack(f"{order}ii", *shape), order),
        element(INT8, name.encode(), order),
        element(kind, data, order),
    )
    return element(MATRIX, b"".join(parts), order)


def mat_file(path: Path, *parts: bytes, order: str = "<") -> Path:
    mark = b"IM" if order == "<" else b"MI"
    header = b"MATLAB 5.0 MAT-file, Platform: GLNX86".ljust(124)
    path.write_bytes(header + struct.pack(f"{order}H", 0x0100) + mark + b"".join(parts))
    return path


def numbers(path: Path) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in read_numbers(path).items()}


def test_files_of_scipy() -> None:
    assert numbers(trees.FLOWER_FILES / "imagelabels.mat") == {"labels": [1] * 6 + [77] * 6}
    assert numbers(trees.FLOWER_FILES / "setid.mat") == {
        "trnid": [2, 8], "valid": [1, 7], "tstid": [3, 4, 5, 6, 9, 10, 11, 12]
    }  # fmt: skip


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
def test_doubles_that_matlab_stores_in_fewer_bytes(
    tmp_path: Path, order: str, compressed: bool
) -> None:
    parts = [
        matrix("labels", UINT8, bytes([77, 1, 102]), (1, 3), order=order),
        matrix("tstid", UINT16, struct.pack(f"{order}5H", 1, 2, 300, 4, 8189), (5, 1), order=order),
        matrix("text", UINT16, struct.pack(f"{order}2H", 65, 66), (1, 2), order=order, flags=CHAR),
    ]
    if compressed:
        packed = [zlib.compress(part) for part in parts]
        parts = [struct.pack(f"{order}II", COMPRESSED, len(part)) + part for part in packed]
    path = mat_file(tmp_path / "a.mat", *parts, order=order)
    assert numbers(path) == {"labels": [77, 1, 102], "tstid": [1, 2, 300, 4, 8189]}


def test_files_that_are_broken_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matfile, "_MOST_BYTES", 1000)
    whole = matrix("labels", UINT8, bytes(range(50)), (1, 50), order="<")
    packed = zlib.compress(whole)
    bomb = zlib.compress(b"\0" * (1001))
    for content, message in (
        ([whole[:-20]], "it is cut off"),
        ([struct.pack("<II", COMPRESSED, len(packed) - 9) + packed[:-9]], "is cut off or far"),
        ([struct.pack("<II", COMPRESSED, len(bomb)) + bomb], "far too large"),
        ([struct.pack("<II", COMPRESSED, 40) + b"x" * 40], "incorrect header check"),
        ([matrix("labels", UINT8, b"12345", (1, 6), order="<")], "labels holds 5 of 6 numbers"),
    ):
        path = mat_file(tmp_path / "a.mat", *content)
        with pytest.raises(DataError, match=f"cannot read .*a.mat: .*{message}"):
            read_numbers(path)
    (tmp_path / "page.mat").write_text("<html>404</html>")
    with pytest.raises(DataError, match=r"no header of a MATLAB 5 file\. Download it again"):
        read_numbers(tmp_path / "page.mat")


def test_flowers_with_files_that_do_not_belong_together(tmp_path: Path) -> None:
    root = trees.flowers(tmp_path)
    for name, variable, values, message in (
        (
            "imagelabels.mat",
            "labels",
            bytes([1, 103]),
            r"labels must hold .* in 1\.\.102, got 1\.\.",
        ),
        ("imagelabels.mat", "labels", bytes([1, 2]), r"trnid must hold .* in 1\.\.2, got 2\.\.8"),
        ("imagelabels.mat", "other", bytes([1, 2]), "holds other, but no labels"),
    ):
        mat_file(root / name, matrix(variable, UINT8, values, (1, len(values)), order="<"))
        with pytest.raises(DataError, match=message):
            load_data(DataConfig(path=str(root)), seed=0)
