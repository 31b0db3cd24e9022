"""The .mat files of Flowers-102: what is read from them, and damaged or unsuitable ones."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csc_matrix

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError
from gendataagent.data import load_data
from gendataagent.data.official import flowers
from tests.data import official_trees as trees


def load(root: Path) -> None:
    load_data(DataConfig(path=str(root), layout="flowers"), seed=0)


@pytest.mark.parametrize("options", [{}, {"do_compression": True}, {"format": "4"}])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float64])
def test_integers_of_any_numeric_type_in_matlab_order(
    tmp_path: Path, options: dict[str, Any], kind: type
) -> None:
    values: np.ndarray[Any, Any] = np.array([[1, 3], [2, 102]], dtype=kind)
    path = tmp_path / "a.mat"
    savemat(path, {"labels": values}, **options)
    assert flowers._integers(path, "labels", 102) == [1, 2, 3, 102]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"labels": np.array([1, 103])}, r"labels must hold integers in 1\.\.102, got 1\.\.103"),
        ({"labels": np.array([0, 1])}, r"integers in 1\.\.102, got 0\.\.1"),
        ({"labels": np.array([1.5, 2.0])}, r"integers in 1\.\.102, got 1\.5\.\.2"),
        ({"labels": np.array([np.nan])}, r"integers in 1\.\.102, got nan"),
        (
            {"labels": np.array([1, 2])},
            r"trnid must hold integers in 1\.\.2, got 2\.\.8; are imagel",
        ),
        ({"other": np.array([1])}, "has the variables other, but no labels; download"),
        ({}, r"has the variables \(none\), but no labels"),
        ({"labels": "text"}, "labels must be a numeric array, got <U4"),
        ({"labels": np.array([1 + 2j])}, "labels must be a numeric array, got complex128"),
        ({"labels": {"a": 1}}, "labels must be a numeric array, got .*'a'"),
        ({"labels": np.array([1, "x"], dtype=object)}, "must be a numeric array, got object"),
        ({"labels": csc_matrix(np.eye(3))}, "labels must be a numeric array, got"),
    ],
)
def test_variables_that_are_not_the_expected_integers(
    tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    root = trees.flowers(tmp_path)
    savemat(root / "imagelabels.mat", values)
    with pytest.raises(DataError, match=message):
        load(root)


def _cut_off(content: bytes) -> bytes:
    return content[:-20]


def _bit_flipped_in_the_compressed_part(content: bytes) -> bytes:
    return content[:150] + bytes([content[150] ^ 0xFF]) + content[151:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut_off, ""),
        (_bit_flipped_in_the_compressed_part, ""),
        (lambda content: b"", "truncated"),
        (lambda content: b"<html>404 Not Found</html>" * 20, "Unknown mat file type"),
        (lambda content: b"MATLAB 7.3".ljust(124) + b"\x00\x02IM" + content[128:], "HDF"),
        (lambda content: content + bytes(flowers.MAX_BYTES), "larger than 256 kB"),
    ],
)
def test_damaged_files_are_named_with_the_reason_and_the_next_step(
    tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    root = trees.flowers(tmp_path)
    path = root / "imagelabels.mat"
    savemat(path, {"labels": np.arange(1, 100)}, do_compression=True)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        DataError, match=rf"cannot read .*imagelabels\.mat: .*{message}.*\. Download the official"
    ):
        load(root)


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    root = trees.flowers(tmp_path)
    path = root / "imagelabels.mat"
    savemat(path, {"labels": np.ones(300 << 20, dtype=np.uint8)}, do_compression=True)
    assert path.stat().st_size > flowers.MAX_BYTES
    with pytest.raises(DataError, match="larger than 256 kB"):
        load(root)
    assert len(zlib.compress(bytes(flowers.MAX_BYTES * 1032))) >= flowers.MAX_BYTES * 0.99
