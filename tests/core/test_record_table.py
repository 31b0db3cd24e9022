"""Records in columns: the same records come back, and a file of something else is a sentence."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gendataagent.cli import app
from gendataagent.core.errors import RunFolderError
from gendataagent.core.record_table import BATCH_ROWS, RecordTable, iterate_rows, schema_of
from gendataagent.core.records import Candidate, Scored

MANY = 2 * BATCH_ROWS + 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    name: str
    number: int
    value: float
    told: bool
    word: str | None = None
    score: float | None = None


def things(count: int) -> list[Thing]:
    return [
        Thing(
            name=f"ä{i}", number=2**63 - 1 - i, value=i / 3, told=i % 3 == 0,
            word=None if i % 2 else f"word {i % 7}", score=None if i % 5 else -i / 7,
        )
        for i in range(count)
    ]  # fmt: skip


def written(records: RecordTable[Thing], path: Path) -> Path:
    with path.open("wb") as stream:
        records.write(stream)
    return path


@pytest.mark.parametrize("count", [0, 1, BATCH_ROWS, MANY])
def test_the_same_records_come_back_from_memory_and_from_disk(count: int, tmp_path: Path) -> None:
    records = things(count)
    table = RecordTable.of(Thing, iter(records))
    read = RecordTable.read(Thing, written(table, tmp_path / "t.parquet"))
    for one in (table, read):
        assert len(one) == count
        assert list(one) == records
        assert one.column("word") == [record.word for record in records]


def test_one_record_and_parts_of_them() -> None:
    records = things(MANY)
    table = RecordTable.of(Thing, records)
    assert (table[0], table[-1], table[BATCH_ROWS]) == (
        records[0],
        records[-1],
        records[BATCH_ROWS],
    )
    assert list(table[BATCH_ROWS - 2 : BATCH_ROWS + 2]) == records[BATCH_ROWS - 2 : BATCH_ROWS + 2]
    assert list(table[5:2]) == []
    assert list(table[10:0:-3]) == records[10:0:-3]
    with pytest.raises(IndexError):
        table[MANY]


def test_one_field_is_exchanged() -> None:
    records = things(MANY)
    words = [f"new {i}" if i % 3 else None for i in range(MANY)]
    changed = RecordTable.of(Thing, records).with_column("word", words)
    expected = [replace(r, word=word) for r, word in zip(records, words, strict=True)]
    assert list(changed) == expected
    from_records = RecordTable.of(Thing, records).with_fields_of(iter(expected), "word", "told")
    assert list(from_records) == expected
    with pytest.raises(ValueError):
        RecordTable.of(Thing, records).with_fields_of(expected[1:], "word")


def test_the_same_records_are_the_same_bytes() -> None:
    contents = []
    for _ in range(2):
        stream = io.BytesIO()
        RecordTable.of(Thing, things(100)).write(stream)
        contents.append(stream.getvalue())
    assert contents[0] == contents[1]


def test_any_parquet_tool_reads_the_file(tmp_path: Path) -> None:
    path = written(RecordTable.of(Thing, things(3)), tmp_path / "t.parquet")
    assert pq.read_table(path).to_pylist()[1] == {
        "name": "ä1", "number": 2**63 - 2, "value": 1 / 3, "told": False, "word": None,
        "score": None,
    }  # fmt: skip


@pytest.mark.parametrize("kind", [Candidate, Scored])
def test_every_field_of_the_records_of_a_round_is_a_column(kind: type) -> None:
    assert set(schema_of(kind).names) == set(kind.__slots__)  # type: ignore[attr-defined]


def test_a_narrow_table_of_another_program_is_read(tmp_path: Path) -> None:
    rows = [{"name": "a", "number": 3, "value": 2.0, "told": True, "word": None, "score": None}]
    narrow = pa.Table.from_pylist(rows).append_column("more", pa.array([1]))
    narrow = narrow.set_column(1, "number", narrow.column("number").cast(pa.int16()))
    pq.write_table(narrow, tmp_path / "t.parquet")
    (read,) = RecordTable.read(Thing, tmp_path / "t.parquet", ignore_unknown=True)
    assert read == Thing(name="a", number=3, value=2.0, told=True)
    with pytest.raises(RunFolderError, match="unknown column more"):
        RecordTable.read(Thing, tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": None}, "column name lacks 1 values"),
        ({"number": "x"}, "number must be int64, got string"),
        ({"word": 3.5}, "word must be text, got double"),
        ({}, "column told is missing"),
    ],
)
def test_columns_that_do_not_fit_are_named(
    changed: dict[str, object], said: str, tmp_path: Path
) -> None:
    row = {"name": "a", "number": 3, "value": 2.0, "told": True, "word": "b", "score": 1.0}
    row |= changed
    if not changed:
        del row["told"]
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "t.parquet")
    with pytest.raises(RunFolderError, match=rf"t\.parquet is not as gendataagent .*{said}"):
        RecordTable.read(Thing, tmp_path / "t.parquet")


def test_rows_of_any_file_as_the_command_prints_them(tmp_path: Path) -> None:
    path = written(RecordTable.of(Thing, things(MANY)), tmp_path / "t.parquet")
    assert len(list(iterate_rows(path))) == MANY
    assert list(iterate_rows(path, ["word", "number"], 1)) == [
        {"word": "word 0", "number": 2**63 - 1}
    ]
    with pytest.raises(RunFolderError, match=r"no column 'words'; its columns are name, number"):
        list(iterate_rows(path, ["words"]))
    (tmp_path / "a.jsonl").write_text("{}")
    for name in ("a.jsonl", "none"):
        with pytest.raises(RunFolderError, match=rf"{name} cannot be read as parquet: \w+"):
            list(iterate_rows(tmp_path / name))
    printed = CliRunner().invoke(app, ["rows", str(path), "--columns", "name,told", "-n", "2"])
    assert [json.loads(line) for line in printed.output.splitlines()] == [
        {"name": "ä0", "told": True}, {"name": "ä1", "told": False},
    ]  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all"])
def test_a_damaged_file_is_a_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(RunFolderError, match=r"t\.parquet is not as gendataagent writes it"):
        RecordTable.read(Thing, tmp_path / "t.parquet")
    with pytest.raises(RunFolderError, match=r"cannot read .*none"):
        RecordTable.read(Thing, tmp_path / "none.parquet")
