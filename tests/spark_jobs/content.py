"""What a version of the tables says, whatever its files are: a hash of each table's sorted rows."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow.parquet as pq

from spark_jobs.publish import TABLES


def content(version: Path) -> dict[str, str]:
    """SHA-256 of the sorted rows, by table."""
    return {name: rows_hash(version / name) for name in TABLES}


def rows_hash(table: Path) -> str:
    """Of every row with its column names; neither the order of rows nor that of columns counts."""
    rows = sorted(repr(sorted(row.items())) for row in pq.read_table(table).to_pylist())
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()
