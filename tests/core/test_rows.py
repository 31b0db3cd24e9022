"""Records from JSON: flipped keys, other types and other values are refused by name."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendataagent.core.errors import RunFolderError
from gendataagent.core.records import Candidate, EpochMetrics, Evaluation, RoundRecord, RunManifest
from gendataagent.core.rows import RowError, fit, read_mapping, read_record, read_records


@dataclass(frozen=True, kw_only=True)
class Inner:
    x: float


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    count: int
    share: float | None
    inner: Inner | None = None
    tags: tuple[str, ...] = ()
    grid: tuple[tuple[int, ...], ...] = ()
    counts: dict[str, int] = field(default_factory=dict)


ROW: dict[str, Any] = {
    "name": "n", "count": 3, "share": 1, "inner": {"x": 2.5}, "tags": ["a"], "grid": [[1], [2, 3]],
    "counts": {"k": 1},
}  # fmt: skip

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=10,
)


def test_lists_become_tuples_and_objects_records() -> None:
    expected = Outer(
        name="n", count=3, share=1, inner=Inner(x=2.5), tags=("a",), grid=((1,), (2, 3)),
        counts={"k": 1},
    )  # fmt: skip
    assert fit(Outer, ROW) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nbme": "n"}, "unknown key nbme"),
        ({"count": 3.5}, "count must be an integer, got 3.5"),
        ({"count": True}, "count must be an integer, got true or false"),
        ({"count": "3"}, "count must be an integer, got '3'"),
        ({"count": 10**300}, "count must be an integer of 64 bits, got 1000"),
        ({"share": -(1 << 63)}, "share must be an integer of 64 bits, got -9223"),
        ({"share": []}, "share must be a number, got a list"),
        ({"name": None}, "name must be text, got null"),
        ({"inner": {"x": "2"}}, "inner.x must be a number, got '2'"),
        ({"inner": {}}, "inner.x is missing"),
        ({"tags": "a"}, "tags must be a list, got 'a'"),
        ({"grid": [[1], ["2"]]}, r"grid\[1\]\[0\] must be an integer"),
        ({"counts": {"k": None}}, "counts.k must be an integer, got null"),
        ({"counts": []}, "counts must be an object, got a list"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError, match=message):
        fit(Outer, {**ROW, **change})


def test_a_missing_key_is_named() -> None:
    with pytest.raises(RowError, match=r"^count is missing$"):
        fit(Outer, {"name": "n", "share": None})


def test_the_file_and_the_line_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW) + "\n" + json.dumps({**ROW, "count": None}) + "\n")
    with pytest.raises(RunFolderError, match=r"rows.jsonl, line 2 is not as .*: count must be an"):
        read_records(Outer, path)
    path.write_text("[]")
    with pytest.raises(RunFolderError, match=r"rows.jsonl is not as .*: it must be an object"):
        read_record(Outer, path)
    path.write_text('{"train": "x"}')
    with pytest.raises(RunFolderError, match=r"train must be a number, got 'x'"):
        read_mapping(path, float)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, '{"a": NaN}', "\xff\xfe", "", "{", "nul"],
    ids=["deep list", "deep object", "5,000 digits", "NaN", "binary", "empty", "torn", "no word"],
)
def test_a_file_that_is_not_json_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(RunFolderError, match=r"file\.json"):
        read_record(Outer, path)
    if text:
        with pytest.raises(RunFolderError, match=r"file\.json"):
            read_records(Outer, path)


@given(JSON)
def test_any_json_is_a_record_or_a_misfit(row: Any) -> None:
    for cls in (Outer, Candidate, EpochMetrics, Evaluation, RoundRecord, RunManifest):
        with pytest.raises(RowError):
            fit(cls, row)


@given(st.sampled_from(sorted(ROW)), JSON)
def test_any_value_at_any_key_is_a_record_or_a_misfit(key: str, value: Any) -> None:
    with contextlib.suppress(RowError):
        assert getattr(fit(Outer, {**ROW, key: value}), key) is not None or value is None
