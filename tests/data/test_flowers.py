"""The .mat files of Flowers-102: what is read from them, and damaged or unsuitable ones."""

from __future__ import annotations

import io
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
from gendataagent.data.official import flowers, matlab
from tests.data import official_trees as trees


def load(root: Path) -> None:
    load_data(DataConfig(path=str(root), layout="flowers"), seed=0)


@pytest.mark.parametrize(
    ("kind", "options"),
    [(np.uint8, {}), (np.uint16, {"do_compression": True}), (np.float64, {"format": "4"})],
)
def test_integers_of_any_numeric_type_in_matlab_order(
    tmp_path: Path, kind: type, options: dict[str, Any]
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
        ({"other": np.array([1])}, "has the numeric variables other, but no labels; download"),
        ({}, r"has the numeric variables \(none\), but no labels"),
        *(
            ({"labels": values}, "but no labels; download")
            for values in (
                "text",
                np.array([1 + 2j]),
                {"a": 1},
                np.array([1, "x"], dtype=object),
                csc_matrix(np.eye(3)),
            )
        ),
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


def _changed_byte(content: bytes) -> bytes:
    return content[:150] + bytes([content[150] ^ 0xFF]) + content[151:]


def _unknown_data_type(_: bytes) -> bytes:
    """Return an uncompressed file whose numbers are of a data type that does not exist."""
    stream = io.BytesIO()
    savemat(stream, {"labels": np.arange(1, 100, dtype=np.float64)})
    content = bytearray(stream.getvalue())
    tag = content.index(b"labels") + 8
    assert content[tag] == 9  # miDOUBLE
    content[tag] = 0x2A
    return bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut_off, ""),
        (_changed_byte, ""),
        (_unknown_data_type, ""),
        (lambda content: b"", "(truncated|empty)"),
        (lambda content: b"<html>404 Not Found</html>" * 20, "Unknown mat file type"),
        (lambda content: b"MATLAB 7.3".ljust(124) + b"\x00\x02IM" + content[128:], "HDF"),
        (lambda content: content + bytes(matlab.MAX_BYTES), "larger than 256 kB"),
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


def test_a_reader_that_never_ends_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matlab, "MAX_SECONDS", 0.001)
    with pytest.raises(DataError, match=r"imagelabels\.mat: scipy did not finish within 0\.001 s"):
        load(trees.flowers(tmp_path))
