"""How large the tables are, by the footers of their files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def table_sizes(version: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """For each table: files, rows, bytes on disk, least and most rows of a file, row groups and the bytes of
    the largest one in memory.
    """
    return {name: _sizes(version / name) for name in names}


def shown_sizes(sizes: Mapping[str, Mapping[str, Any]]) -> str:
    """One line for the screen."""
    return ", ".join(
        f"{name} {about['rows']:,} rows in {about['files']} files of {about['bytes'] / 1e6:,.1f} MB"
        for name, about in sizes.items()
        if about["rows"]
    )


def _sizes(table: Path) -> dict[str, Any]:
    files = sorted(table.glob("*.parquet"))
    footers = [pq.read_metadata(file) for file in files]
    rows = [footer.num_rows for footer in footers]
    groups = [footer.row_group(number) for footer in footers for number in range(footer.num_row_groups)]
    return {
        "files": len(files),
        "rows": sum(rows),
        "bytes": sum(file.stat().st_size for file in files),
        "rows_in_file": [min(rows, default=0), max(rows, default=0)],
        "row_groups": len(groups),
        "largest_row_group_bytes": max((group.total_byte_size for group in groups), default=0),
    }
