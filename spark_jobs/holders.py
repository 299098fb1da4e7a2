"""Every place where the commands leave a data set's `user_key`: versions of the tables, feedback, outputs.

What takes people out of these or gives them other pseudonyms walks over them here.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq

from recsys.disk import whole_folder
from recsys.schema import Column, FeedbackTable, Recommendation, Table
from spark_jobs.publish import SUCCESS, is_alive
from spark_jobs.settings import JobSettings

LOGS = (FeedbackTable.IMPRESSIONS, FeedbackTable.OUTCOMES)
_NAMES = r"\d{8}T\d{6}Z-[0-9a-f]{8}|recommendations|[^.-]+\.\w+"  # of versions, folders and files
_UNFINISHED = re.compile(
    rf"\.(?P<what>building|replaced|unfinished)-(?:(?P<name>{_NAMES})-)?(?P<process>\d+)"
)


def versions(root: Path) -> list[Path]:
    """Folders of all versions, oldest first."""
    folders = sorted(path.parent for path in root.glob(f"[!.]*/{Table.METADATA}"))
    return [folder for folder in folders if not folder.is_symlink()]


def table_files(version: Path) -> list[Path]:
    """Parquet files of a version that name people by pseudonym."""
    return [file for file in sorted(version.glob("*/*.parquet")) if _has_keys(file)]


def feedback_files(settings: JobSettings, log: str) -> list[Path]:
    return sorted((Path(settings.feedback_dir) / settings.dataset.name / log).glob("*.parquet"))


def output_files(settings: JobSettings) -> list[Path]:
    """Recommendations that name people: Parquet, and the CSV of the best items."""
    folder = Path(settings.outputs_dir) / settings.dataset.name
    files = sorted(folder.glob("*/recommendations/*"))
    tables = [file for file in files if file.suffix == ".parquet" and _has_keys(file)]
    return [*tables, *[file for file in files if file.name == f"{Recommendation.TOP_K}.csv"]]


def _has_keys(file: Path) -> bool:
    return Column.USER_KEY in pq.read_schema(file).names


@contextmanager
def remade(
    version: Path, copy: Callable[[Path, Path], None], *, without: Collection[str] = ()
) -> Iterator[Path]:
    """A folder to change documents in that takes the version's place at the end, whole or not at all.

    `copy` gets each Parquet file of its tables and the path to write to; the rest is there as it was, but for
    documents in `without`.
    """
    with whole_folder(version) as building:
        for path in sorted(version.iterdir()):
            if path.is_dir():
                _remake_table(path, building / path.name, copy)
            elif path.name not in without:
                shutil.copy2(path, building / path.name)
        yield building


def _remake_table(table: Path, target: Path, copy: Callable[[Path, Path], None]) -> None:
    target.mkdir()
    for file in sorted(table.iterdir()):
        if file.suffix == ".parquet":
            copy(file, target / file.name)
        elif file.name == SUCCESS:
            shutil.copy2(file, target / file.name)


def forget_caches(version: str, settings: JobSettings) -> None:
    """Readers make them anew."""
    for cache in Path(settings.cache_dir).glob(f"{version}*"):
        shutil.rmtree(cache, ignore_errors=True)


def clear_unfinished(settings: JobSettings) -> None:
    """What processes that died have left half written goes; a folder that one of them had moved aside and
    not yet replaced comes back. Parts of unfinished recommendations are of the tables as they were: no run
    goes on with them.
    """
    name = settings.dataset.name
    outputs = Path(settings.outputs_dir) / name
    for path in outputs.glob("*/.parts-*"):
        shutil.rmtree(path)
    for folder, pattern in (
        (Path(settings.features_dir), f"{name}/.*"),
        (Path(settings.feedback_dir), f"{name}/*/.*"),
        (outputs, "*/.*-recommendations-*"),
        (outputs, "*/recommendations/.*"),
    ):
        for path in sorted(folder.glob(pattern)):
            found = _UNFINISHED.fullmatch(path.name)
            if found is None or is_alive(found["process"]):
                continue
            before = path.with_name(found["name"] or found["what"])
            if found["what"] == "replaced" and not before.exists():
                os.replace(path, before)
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
