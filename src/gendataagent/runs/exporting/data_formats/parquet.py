"""Parquet: images and all columns in a few large files, as the Hub stores data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gendataagent.runs.exporting.data_formats.columns import IMAGE, schema
from gendataagent.runs.exporting.rows import COLUMNS, Row, by_split, encoded

_SHARD_BYTES = 500 << 20
_GROUP_ROWS, _GROUP_BYTES = 100, 64 << 20


def write(
    folder: Path, rows: Sequence[Row], class_names: Sequence[str], on_row: Callable[[], None]
) -> None:
    """Write `data/SPLIT-00000-of-00001.parquet`; a new file every 500 MiB."""
    columns = schema({IMAGE: "binary", "label": "int64", **COLUMNS}, class_names)
    (folder / "data").mkdir()
    for split, own in by_split(rows).items():
        shards = _write_split(folder / "data", own, columns, on_row)
        for number, path in enumerate(shards):
            name = f"{split}-{number:05d}-of-{len(shards):05d}.parquet"
            path.rename(path.with_name(name))


def _write_split(
    folder: Path, rows: Sequence[Row], columns: pa.Schema, on_row: Callable[[], None]
) -> list[Path]:
    """Write one split to numbered files, and return them; how many is known at the end."""
    shards: list[Path] = []
    writer: pq.ParquetWriter | None = None
    group: list[dict[str, Any]] = []
    in_group = in_shard = 0

    def flush() -> None:
        if writer is not None and group:
            writer.write_table(pa.Table.from_pylist(group, schema=columns))
            group.clear()

    try:
        for row, image in encoded(rows):
            if writer is None:
                shards.append(folder / f"part-{len(shards)}.parquet")
                writer = pq.ParquetWriter(shards[-1], columns)
            stored = {"bytes": image.content, "path": f"{row.name}{image.suffix}"}
            group.append({IMAGE: stored, "label": row.label, **row.values})
            in_group, in_shard = in_group + len(image.content), in_shard + len(image.content)
            if len(group) >= _GROUP_ROWS or in_group >= _GROUP_BYTES:
                flush()
                in_group = 0
            if in_shard >= _SHARD_BYTES:
                flush()
                writer.close()
                writer, in_group, in_shard = None, 0, 0
            on_row()
        flush()
    finally:
        if writer is not None:
            writer.close()
    return shards
