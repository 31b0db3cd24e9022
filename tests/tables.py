"""Parquet files as plain rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a parquet file, in order."""
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows
