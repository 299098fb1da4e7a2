"""Which data set an impression log is of: its name in the file, and what the newest tables know of it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from recsys.schema import Column, FeedbackTable, Impression, InputError, Table


def with_origin(table: pa.Table, dataset: str) -> pa.Table:
    """`table` with the data set's name in its metadata, which goes into a Parquet file with it."""
    return table.replace_schema_metadata({FeedbackTable.DATASET: dataset.encode()})


def check_origin(path: Path, dataset: str) -> None:
    """InputError where a Parquet file names another data set; other files, and older ones, name none."""
    if path.suffix.lower() != ".parquet":
        return
    named = (pq.read_schema(path).metadata or {}).get(FeedbackTable.DATASET)
    if named is not None and named != dataset.encode():
        raise InputError(
            f"{path} holds impressions of data set {named.decode()}, not of {dataset}; "
            f"hand it in with dataset={named.decode()}"
        )


def check_known(impressions: pa.Table, tables_dir: Path, *, source: str) -> None:
    """InputError where the newest tables know no user or no item of it; tables may be missing."""
    for column, folder in (
        (Impression.USER_KEY, tables_dir / Table.HISTORIES),
        (Impression.ITEM_ID, tables_dir / Table.ITEM_FEATURES),
    ):
        if folder.is_dir() and not _any_in(folder, column, impressions[column]):
            what = "users" if column == Column.USER_KEY else "items"
            raise InputError(
                f"{source}: none of its {what} is known to {tables_dir}; "
                "hand it in for the data set it is of, or build the tables under the same key first"
            )


def _any_in(folder: Path, column: str, values: pa.ChunkedArray) -> bool:
    """Whether one of the values stands in the column of the Parquet files; stops at the first."""
    known = pc.field(column).isin(pc.unique(values))
    try:
        found: pa.Table = ds.dataset(folder, format="parquet").scanner(columns=[column], filter=known).head(1)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{folder} cannot be read ({reason}); build the feature tables again") from None
    return bool(found.num_rows)
