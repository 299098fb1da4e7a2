"""Take people out of everything that the commands have written of a data set, and keep them out.

Order matters: tombstones first, so that a run that dies half way can be repeated and no other run brings them
back; the audit line last, when it is true.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from recsys.disk import whole_file
from recsys.pseudonym import pseudonym
from recsys.schema import Column, InputError, Table
from recsys.tombstones import add_audit_line, add_tombstones, checked_audit, erased_keys
from spark_jobs.holders import (
    LOGS,
    bring_back,
    check_nothing_recommended,
    clear_unfinished,
    feedback_files,
    forget_caches,
    output_files,
    remade,
    versions,
)
from spark_jobs.job import checked_key
from spark_jobs.ledger import rebase
from spark_jobs.metadata import examples_hash
from spark_jobs.publish import TABLES, read_document, uri, write_document
from spark_jobs.quality import FAILED_PAGE
from spark_jobs.raw_files import check_raw, erase_raw, filter_csv, filter_parquet
from spark_jobs.settings import Dataset, JobSettings, SourceTable
from spark_jobs.sizes import table_sizes
from spark_jobs.sources import local_files

RAW, RECOMMENDATIONS = "raw files", "recommendations"


@dataclass
class Erasure:
    """rows: taken out, by table; bundles: trained on tables with one of these people; num_known: people that
    any table held; left: raw sources that still hold them."""

    num_people: int
    num_known: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    versions: list[str] = field(default_factory=list)
    bundles: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def told(self, dataset: str) -> str:
        """Lines for the screen."""
        rows = ", ".join(f"{name} {count:,}" for name, count in self.rows.items() if count) or "none"
        lines = [
            f"{self.num_known:,} of {self.num_people:,} people were known to data set {dataset}",
            f"rows taken out: {rows}",
            f"tables made anew: {', '.join(self.versions) or 'none'}",
        ]
        if self.bundles:
            lines.append(f"bundles trained on them, to be trained again: {', '.join(self.bundles)}")
        if self.left:
            lines.append(
                f"raw files that may still hold them, though no run reads them: {', '.join(self.left)}; "
                "erase_raw=true rewrites local ones"
            )
        return "\n".join(lines)


def read_people(path: str | None) -> frozenset[str]:
    """Raw user ids, one a line; InputError where the file is missing or names nobody."""
    if path is None:
        raise InputError("job=erase needs users_file=FILE, a text file with one raw user id a line")
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"users_file={path} cannot be read ({reason}); name a text file") from None
    people = frozenset(line.strip() for line in lines) - {""}
    if not people:
        raise InputError(f"users_file={path} names nobody; give one raw user id a line")
    return people


def erase(settings: JobSettings, people: frozenset[str], spark: SparkSession) -> Erasure:
    """Raises InputError, with nothing touched, where the key is not that of the tables or the audit log was
    changed, where `erase_raw` cannot be done, and while `recommend` runs.
    """
    root = Path(settings.features_dir) / settings.dataset.name
    key = checked_key(settings)
    checked_audit(root)
    sources = _raw_sources(settings.dataset)
    if settings.erase_raw:
        for source, column in sources:
            check_raw(source, column)
    check_nothing_recommended(settings)
    user_keys = frozenset(pseudonym(person, key) for person in people)
    add_tombstones(root, key.version, user_keys)
    bring_back(settings)
    clear_unfinished(settings)
    num_erased = len(erased_keys(root, key.version))
    done = Erasure(num_people=len(people))
    known: set[str] = set()
    for folder in versions(root):
        found = _erase_version(
            folder, user_keys, num_erased=num_erased, settings=settings, done=done, spark=spark
        )
        known |= found
        if found:
            done.bundles += _trained_on(folder.name, Path(settings.models_dir) / settings.dataset.name)
    done.num_known = len(known)
    (root / FAILED_PAGE).unlink(missing_ok=True)
    rewritten = []
    for log in LOGS:
        for file in feedback_files(settings, log):
            done.rows[f"feedback/{log}"] += _erase_keys(file, user_keys)
            rewritten.append(file)
    for file in output_files(settings):
        done.rows[RECOMMENDATIONS] += _erase_keys(file, user_keys)
    for source, column in sources:
        for file in local_files(source.path) if settings.erase_raw else ():
            done.rows[RAW] += erase_raw(file, source, column, people)
            rewritten.append(file)
    for folder in versions(root):
        rebase(folder, rewritten)
    done.left = [] if settings.erase_raw else sorted({source.path for source, _ in sources})
    add_audit_line(
        root,
        {
            "time": datetime.now(tz=UTC).isoformat(timespec="seconds"),
            "action": "erase",
            "people": done.num_people,
            "people_known": done.num_known,
            "key_version": key.version,
            "rows": dict(done.rows),
            "versions": done.versions,
            "bundles": done.bundles,
            "left": done.left,
        },
    )
    return done


def _erase_version(
    folder: Path,
    user_keys: frozenset[str],
    *,
    num_erased: int,
    settings: JobSettings,
    done: Erasure,
    spark: SparkSession,
) -> set[str]:
    """Rewrite one version without them, whole or not at all; the pseudonyms that it held."""
    known = _indices(folder / Table.HISTORIES, user_keys)
    counts: Counter[str] = Counter()

    def copy(file: Path, target: Path) -> None:
        counts[file.parent.name] += _copy_without(file, target, user_keys, set(known.values()))

    # examples on the page of quality may be of them; the next run makes a new one
    with remade(folder, copy, without=[Table.QUALITY_PAGE]) as building:
        if not counts.total():
            return set()
        metadata = read_document(building, Table.METADATA)
        for name in TABLES:
            metadata["row_counts"][name] -= counts[name]
        metadata["row_counts"]["erased_users"] = num_erased
        metadata["tables"] = table_sizes(building, TABLES)
        metadata["split"]["hash"] = examples_hash(spark.read.parquet(uri(building / Table.EXAMPLES)))
        write_document(metadata, building, Table.METADATA)
    done.rows.update({f"tables/{name}": rows for name, rows in counts.items()})
    done.versions.append(folder.name)
    forget_caches(folder.name, settings)
    return set(known)


def _indices(histories: Path, user_keys: frozenset[str]) -> dict[str, int]:
    """user_key -> user_index of those that a version holds."""
    names = [Column.USER_KEY, Column.USER_INDEX]
    table = pq.read_table(histories, columns=names, filters=[(Column.USER_KEY, "in", user_keys)])
    return dict(zip(*(table[name].to_pylist() for name in names), strict=True))


def _copy_without(file: Path, target: Path, user_keys: frozenset[str], indices: set[int]) -> int:
    """Rows left out. A table names people by pseudonym, by index or by both."""

    def keep(part: pa.Table) -> pa.ChunkedArray:
        if Column.USER_KEY in part.column_names:
            return pc.invert(pc.is_in(part[Column.USER_KEY], pa.array(sorted(user_keys), pa.string())))
        if Column.USER_INDEX in part.column_names:
            return pc.invert(pc.is_in(part[Column.USER_INDEX], pa.array(sorted(indices), pa.int32())))
        return pa.chunked_array([pa.repeat(True, len(part))])

    return filter_parquet(file, target, keep)


def _erase_keys(file: Path, user_keys: frozenset[str]) -> int:
    """Take their rows out of a Parquet or CSV file with a user_key column."""
    if file.suffix == ".csv":
        return filter_csv(file, Column.USER_KEY, lambda value: value in user_keys)
    with whole_file(file) as target:
        return _copy_without(file, target, user_keys, set())


def _trained_on(version: str, models: Path) -> list[str]:
    """Names of the bundles trained on a version."""
    names = []
    for path in sorted(models.glob("*/config.json")):
        trained_on = json.loads(path.read_text(encoding="utf-8")).get("trained_on", {})
        if trained_on.get("version") == version and not path.parent.is_symlink():
            names.append(path.parent.name)
    return names


def _raw_sources(dataset: Dataset) -> list[tuple[SourceTable, str]]:
    """Raw tables that name people, and the column or expression they do it by."""
    sources = [(dataset.events, dataset.columns.user_id)]
    if dataset.join is not None:
        sources.append((dataset.join, dataset.columns.user_id))
    if dataset.users is not None:
        sources.append((dataset.users.source, dataset.users.user_id))
    if dataset.graph is not None:
        sources += [(dataset.graph.source, name) for name in (dataset.graph.user_id, dataset.graph.other_id)]
    return sources
