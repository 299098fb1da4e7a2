"""Another pseudonym key for all that the commands have written of a data set, as if there had been no other.

Order matters: the map of the pseudonyms and a note of what is going on first, so that a run that dies half
way can be repeated and no other run goes on meanwhile; the audit line and the end of the note last.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.disk import whole_file
from recsys.rotating import FOLDER, KEYS, Rotating, rotating
from recsys.schema import InputError, Table
from recsys.tombstones import TOMBSTONES, add_audit_line, tombstone_lines, tombstones
from spark_jobs.faults import in_one_line
from spark_jobs.holders import (
    bring_back,
    check_nothing_recommended,
    clear_unfinished,
    forget_caches,
    remade,
    table_files,
)
from spark_jobs.key_map import IS_FOUND, IS_RAW, NEW, OLD, KeyMap, key_map, keys_in, map_batches, raw_ids
from spark_jobs.ledger import rebase, shape_of
from spark_jobs.publish import (
    TABLES,
    alone,
    building,
    discard,
    latest_version,
    read_document,
    uri,
    write_document,
)
from spark_jobs.renaming import Renaming
from spark_jobs.rotation_checks import Holders, Ready, find_holders, ready_to_rotate
from spark_jobs.session import few_rows
from spark_jobs.settings import JobSettings
from spark_jobs.sizes import table_sizes


@dataclass
class Rotation:
    """num_renamed: people whose raw ids are at hand; num_heirs: the others; num_erased: that stay erased."""

    before: str
    after: str
    num_renamed: int
    num_heirs: int
    num_erased: int = 0
    num_dropped: int = 0
    versions: list[str] = field(default_factory=list)
    num_logs: int = 0
    num_outputs: int = 0

    def told(self, dataset: str) -> str:
        """Lines for the screen."""
        lines = [
            f"data set {dataset} is under key version {self.after!r} now, no more under {self.before!r}",
            f"{self.num_renamed:,} people go on as if nothing had happened",
            f"tables made anew: {', '.join(self.versions) or 'none'}; {self.num_logs:,} files of feedback and"
            f" {self.num_outputs:,} of recommendations",
        ]
        if self.num_heirs:
            lines.append(
                f"{self.num_heirs:,} people are in no raw table: nothing of them is lost, but they begin anew"
                " if they come back"
            )
        if self.num_erased or self.num_dropped:
            dropped = f", {self.num_dropped:,} are not kept out any more" if self.num_dropped else ""
            lines.append(f"{self.num_erased:,} erased people stay erased{dropped}")
        return "\n".join(lines)


def rotate(settings: JobSettings, people: frozenset[str], spark: SparkSession) -> Rotation:
    """`people`: raw ids on top of those in the raw tables.

    Raises InputError, with nothing touched, where a key is not the one that it must be, and where erased
    people could not be kept out any more.
    """
    with in_one_line(settings):
        try:
            return _rotate(settings, people, spark, ready_to_rotate(settings))
        finally:
            spark.catalog.clearCache()


def _rotate(settings: JobSettings, people: frozenset[str], spark: SparkSession, ready: Ready) -> Rotation:
    root, begun = ready.root, rotating(ready.root)
    latest, holders = latest_version(root), find_holders(settings)
    with building(root) as scratch:
        _map_of_all(settings, people, spark, ready, holders).write.parquet(uri(scratch / OLD))
        whole = spark.read.parquet(uri(scratch / OLD))
        done = _counted(whole, ready)
        erased = tombstones(root).get(ready.old.version, frozenset())
        done.num_dropped = len(erased) - _num_raw(whole, erased)
        _check_map(done, settings)
        found = KeyMap(scratch / OLD, scratch=scratch)
        with alone(root, after=latest[0] if latest else None):
            check_nothing_recommended(settings)
            bring_back(settings)
            if find_holders(settings) != holders or rotating(root) != begun:
                raise InputError(f"files of data set {root.name} came or went while this ran; run it again")
            kept = _begin(root, ready, scratch, begun)
            if settings.key_map is not None:
                _leave(kept, Path(settings.key_map))
            clear_unfinished(settings)
            _rename_all(found, settings, ready, holders, done)
            add_audit_line(root, _audited(done))
            discard(root / FOLDER)
    return done


def _map_of_all(
    settings: JobSettings, people: frozenset[str], spark: SparkSession, ready: Ready, holders: Holders
) -> DataFrame:
    """The map of this run, computed when it is written."""
    begun, old, new = rotating(ready.root), ready.old, ready.new
    before = [file for version in holders.versions_of(old.version) for file in table_files(version)]
    after = [file for version in holders.versions_of(new.version) for file in table_files(version)]
    return key_map(
        raw_ids(spark, settings.dataset, people),
        keys_in(spark, [*before, *holders.logs_of(old.version), *holders.outputs]),
        keys_in(spark, [*after, *holders.logs_of(new.version)]),
        old=old,
        new=new,
        begun=spark.read.parquet(uri(ready.root / FOLDER / begun.map)) if begun else None,
    )


def _counted(whole: DataFrame, ready: Ready) -> Rotation:
    row = whole.agg(F.count_if(F.col(IS_RAW) & F.col(IS_FOUND)), F.count_if(~F.col(IS_RAW))).first()
    assert row is not None
    return Rotation(ready.old.version, ready.new.version, num_renamed=row[0], num_heirs=row[1])


def _num_raw(whole: DataFrame, user_keys: frozenset[str]) -> int:
    """How many of these pseudonyms are those of a raw id that is at hand."""
    asked = few_rows(whole.sparkSession, [(key,) for key in sorted(user_keys)], f"{OLD} string")
    return whole.where(IS_RAW).join(F.broadcast(asked), on=OLD, how="left_semi").count()


def _check_map(done: Rotation, settings: JobSettings) -> None:
    name = settings.dataset.name
    if done.num_heirs and not done.num_renamed:
        raise InputError(
            f"none of the {done.num_heirs:,} people in the tables of data set {name} is in its raw tables"
            " under the key in RECSYS_HMAC_PREVIOUS_KEY; see that it is the one the tables were made with and"
            " that columns.user_id is as it was, or give raw ids in users_file=FILE"
        )
    if done.num_dropped and not settings.drop_tombstones:
        raise InputError(
            f"{done.num_dropped:,} erased people are in no raw table, so that nothing would keep them out"
            " under another key; give their raw ids in users_file=FILE, or let these go with"
            " drop_tombstones=true"
        )


def _leave(folder: Path, path: Path) -> None:
    """The map of a folder for other systems that hold pseudonyms: Parquet with a row for each."""
    schema = pa.schema([(OLD, pa.string()), (NEW, pa.string())])
    with whole_file(path) as target, pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for batch in map_batches(folder, [OLD, NEW]):
            writer.write_table(pa.Table.from_batches([batch]).cast(schema))


def _begin(root: Path, ready: Ready, scratch: Path, begun: Rotating | None) -> Path:
    """The folder of the map. From here on no other run goes on, and the next of this job knows the map."""
    number = int(begun.map) + 1 if begun else 1
    note = Rotating(before=ready.old.version, after=ready.new.version, map=str(number))
    if begun is None:
        folder = scratch / FOLDER
        folder.mkdir()
        os.rename(scratch / OLD, folder / note.map)
        (folder / KEYS).write_text(json.dumps(asdict(note)), encoding="utf-8")
        os.rename(folder, root / FOLDER)
        return root / FOLDER / note.map
    shutil.rmtree(root / FOLDER / note.map, ignore_errors=True)  # of a run that died before it noted it
    os.rename(scratch / OLD, root / FOLDER / note.map)
    with whole_file(root / FOLDER / KEYS) as path:
        path.write_text(json.dumps(asdict(note)), encoding="utf-8")
    return root / FOLDER / note.map


def _rename_all(found: KeyMap, settings: JobSettings, ready: Ready, holders: Holders, done: Rotation) -> None:
    dataset, old, new = settings.dataset, ready.old.version, ready.new.version
    renaming = Renaming(found, dataset=dataset.name, key_version=new, aes_key=ready.aes_key)
    _rename_tombstones(found, ready, done)
    for folder in holders.versions_of(old):
        _rename_version(folder, renaming, ready, settings)
        done.versions.append(folder.name)
    for file in holders.logs_of(old):
        renaming.rename_log(file)
    for file in holders.outputs:
        renaming.rename_output(file)
    done.num_logs, done.num_outputs = len(holders.logs_of(old)), len(holders.outputs)
    shapes = {shape_of(dataset, old): shape_of(dataset, new)}
    for folder in holders.versions:
        rebase(folder, list(holders.logs), shapes=shapes)


def _rename_tombstones(found: KeyMap, ready: Ready, done: Rotation) -> None:
    """People under a third key are among those under the old one (`rotation_checks`)."""
    written = tombstones(ready.root)
    if not written:
        return
    names = found.of(written.get(ready.old.version, frozenset()))
    erased = written.get(ready.new.version, frozenset()) | set(names.values())
    with whole_file(ready.root / TOMBSTONES) as path:
        path.write_text(tombstone_lines(ready.new.version, erased), encoding="utf-8")
    done.num_erased = len(erased)


def _rename_version(folder: Path, renaming: Renaming, ready: Ready, settings: JobSettings) -> None:
    with remade(folder, renaming.copy_table) as version:
        metadata = read_document(version, Table.METADATA)
        metadata["pseudonym"] = {"key_version": ready.new.version, "demo": ready.new.is_demo}
        metadata["tables"] = table_sizes(version, TABLES)
        write_document(metadata, version, Table.METADATA)
    forget_caches(folder.name, settings)


def _audited(done: Rotation) -> dict[str, Any]:
    return {
        "time": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "action": "rotate",
        "key_version_before": done.before,
        "key_version": done.after,
        "people": done.num_renamed,
        "people_without_raw_id": done.num_heirs,
        "erased": done.num_erased,
        "erased_let_go": done.num_dropped,
        "versions": done.versions,
        "feedback_files": done.num_logs,
        "recommendation_files": done.num_outputs,
    }
