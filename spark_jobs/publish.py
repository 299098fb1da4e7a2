"""A version folder that appears whole or not at all, and the `latest` link that is switched by rename."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame

from recsys.schema import SCHEMA_VERSION, InputError, Table

BUILDING = ".building-"
SUCCESS = "_SUCCESS"
LOCK = ".publishing"
TABLES = (
    Table.QUARANTINE,
    Table.ITEM_FEATURES,
    Table.USER_FEATURES,
    Table.HISTORIES,
    Table.EXAMPLES,
    Table.VALUE_TARGETS,
    Table.IMPRESSIONS,
    Table.SEALED,
)


def uri(path: Path) -> str:
    """A local folder as Spark names it, whatever file system is its default."""
    return f"file://{path.resolve()}"


@contextmanager
def building(root: Path) -> Iterator[Path]:
    """A folder to write into, gone again if the body fails. Left-overs of dead processes go first."""
    root.mkdir(parents=True, exist_ok=True)
    ours = f"{BUILDING}{platform.node()}-"  # another machine's processes cannot be looked up from here
    for left in root.glob(f"{ours}*"):
        if not is_alive(left.name.rpartition("-")[2]):
            shutil.rmtree(left, ignore_errors=True)
    folder = root / f"{ours}{os.urandom(4).hex()}-{os.getpid()}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def discard(folder: Path) -> None:
    """Gone at once; what a process that dies meanwhile leaves goes with the next one's `building`."""
    with building(folder.parent) as place:
        os.rename(folder, place / folder.name)


@contextmanager
def alone(root: Path, *, after: Path | None) -> Iterator[None]:
    """One run at a time publishes. InputError where another one did since this one read version `after`: both
    have given out the same new indices, each for something else.
    """
    with (root / LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        found = latest_version(root)
        newest = found[0] if found else None
        if newest != after:
            raise InputError(
                f"another run published {newest} while this one was under way; run this one again"
            )
        yield


def publish(folder: Path, version: str) -> Path:
    """Rename a complete building folder to its version and point `latest` at it."""
    for table in TABLES:
        if not (folder / table / SUCCESS).exists():
            raise RuntimeError(f"table {table} was not written to its end in {folder}")
    for document in (Table.METADATA, Table.VOCABULARIES, Table.QUALITY, Table.PROFILE):
        json.loads((folder / document).read_text(encoding="utf-8"))
    final = folder.parent / version
    os.rename(folder, final)
    link = folder.parent / f".{Table.LATEST}-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(version)
    os.replace(link, folder.parent / Table.LATEST)
    return final


def write_table(frame: DataFrame, folder: Path, name: str, *, row_group_mb: float) -> None:
    """With dictionaries and statistics, by which a reader passes over row groups."""
    options = {
        "parquet.block.size": str(int(row_group_mb * 2**20)),
        "parquet.enable.dictionary": "true",
        "parquet.column.statistics.enabled": "true",
    }
    frame.write.mode("errorifexists").options(**options).parquet(uri(folder / name))


def keep_files(before: Path, folder: Path) -> None:
    """The Parquet files of a table of an earlier version beside those in `folder`, as links where it can be:
    nothing changes a file in place, so that two versions may share it.
    """
    for file in sorted(before.glob("*.parquet")):
        try:
            os.link(file, folder / file.name)
        except OSError:
            shutil.copy2(file, folder / file.name)


def write_document(content: dict[str, Any], folder: Path, name: str) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / name).write_text(text + "\n", encoding="utf-8")


def read_document(folder: Path, name: str) -> dict[str, Any]:
    """InputError where it is missing or no JSON."""
    try:
        content: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder / name} is missing or damaged; move {folder.parent} away to start anew"
        ) from error
    return content


def latest_version(root: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest version's folder and metadata; None before the first one.

    InputError where it was written under another schema version: its indices could not be kept.
    """
    link = root / Table.LATEST
    if not (link / Table.METADATA).exists():
        return None
    metadata = json.loads((link / Table.METADATA).read_text(encoding="utf-8"))
    if metadata.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{link} has schema version {metadata.get('schema_version')} and this program writes"
            f" {SCHEMA_VERSION}; move {root} away to start anew"
        )
    return link.resolve(), metadata


def is_alive(process_id: str) -> bool:
    try:
        os.kill(int(process_id), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError):
        return True
    return True
