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

from recsys.disk import is_in_use, whole_folder
from recsys.schema import Column, FeedbackTable, InputError, Recommendation, Table
from spark_jobs.publish import SUCCESS, is_alive
from spark_jobs.settings import JobSettings

LOGS = (FeedbackTable.IMPRESSIONS, FeedbackTable.OUTCOMES)
REPLACED = "replaced"
_NAMES = r"\d{8}T\d{6}Z-[0-9a-f]{8}|recommendations|[^.-]+\.\w+"  # of versions, folders and files
_UNFINISHED = re.compile(
    rf"\.(?P<what>building|{REPLACED}|unfinished)-(?:(?P<name>{_NAMES})-)?(?P<process>\d+)"
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


def check_nothing_recommended(settings: JobSettings) -> None:
    """InputError while `recommend` is under way: it would write people down as they were when it began."""
    for path in _parts(settings):
        if is_in_use(path):
            raise InputError(
                f"recommendations are being written into {path.parent}; let recommend end, then run this"
                " again"
            )


def bring_back(settings: JobSettings) -> None:
    """A file or folder that a process had moved aside when it died, and not yet replaced."""
    for what, path, before in _left_by_the_dead(settings):
        if what == REPLACED and not before.exists():
            os.replace(path, before)


def clear_unfinished(settings: JobSettings) -> None:
    """What processes that died have left half written goes, but for what can be brought back. Parts of
    unfinished recommendations are of the tables as they were: no run goes on with them.
    """
    for path in _parts(settings):
        if not is_in_use(path):
            shutil.rmtree(path)
    for what, path, before in _left_by_the_dead(settings):
        if what == REPLACED and not before.exists():
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _parts(settings: JobSettings) -> list[Path]:
    return sorted((Path(settings.outputs_dir) / settings.dataset.name).glob("*/.parts-*"))


def _left_by_the_dead(settings: JobSettings) -> Iterator[tuple[str, Path, Path]]:
    """(what it is, where it lies, the place that it was meant for or comes from)."""
    name = settings.dataset.name
    outputs = Path(settings.outputs_dir) / name
    for folder, pattern in (
        (Path(settings.features_dir), f"{name}/.*"),
        (Path(settings.feedback_dir), f"{name}/*/.*"),
        (outputs, "*/.*-recommendations-*"),
        (outputs, "*/recommendations/.*"),
    ):
        for path in sorted(folder.glob(pattern)):
            found = _UNFINISHED.fullmatch(path.name)
            if found is not None and not is_alive(found["process"]):
                yield found["what"], path, path.with_name(found["name"] or found["what"])
