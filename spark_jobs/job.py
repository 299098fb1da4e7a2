"""One run: read, clean, judge, compute, publish. The only place of spark_jobs that reads and writes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.pseudonym import Key, load_key
from recsys.rotating import check_not_rotating
from recsys.schema import FeedbackTable, InputError, SplitKind, Table
from recsys.tombstones import erased_keys
from spark_jobs import gate
from spark_jobs.columns import Event
from spark_jobs.counts import row_counts
from spark_jobs.drift import profile
from spark_jobs.dropped import prior_without, without_dropped
from spark_jobs.faults import in_one_line
from spark_jobs.features.cuts import Cuts, find_cuts
from spark_jobs.features.tables import FeatureTables, build_tables
from spark_jobs.feedback import impressions_with_responses
from spark_jobs.ingest import attributes, earlier_batches, follows, ingest
from spark_jobs.keys import check_key
from spark_jobs.leaks.detector import find_leaks
from spark_jobs.ledger import Plan, plan
from spark_jobs.metadata import describe, examples_hash, vocabularies
from spark_jobs.numbering import indexed_events
from spark_jobs.observation import check_gaps, seen_days
from spark_jobs.previous import highest_indices, prior_fit, prior_indices, profile_of
from spark_jobs.progress import Stages, say
from spark_jobs.publish import (
    TABLES,
    alone,
    building,
    keep_files,
    latest_version,
    publish,
    uri,
    write_document,
    write_table,
)
from spark_jobs.quality import judged, judged_leaks, quality_page, thresholds_of
from spark_jobs.session import few_rows, pin, together
from spark_jobs.settings import Dataset, JobSettings, SourceTable
from spark_jobs.shards import SORTED_BY, equal_shards
from spark_jobs.sizes import table_sizes
from spark_jobs.sources import fingerprints, local_files, newest_mark, read_table
from spark_jobs.steps.pseudonymise import without_erased
from spark_jobs.steps.sensitive import SEALED_SCHEMA
from spark_jobs.steps.sort import Sorted, sort_out

NUM_STAGES = 7


def build(settings: JobSettings, spark: SparkSession, *, show_progress: bool = False) -> Path:
    """Run the job and return the published version's folder.

    Raises InputError for bad input, QualityError where the gate fails, OSError for a full disk; then nothing
    is published and nothing half written is left.
    """
    describe_jobs = spark.sparkContext.setJobDescription  # Spark's own pages and event log name the stage
    stages = Stages(num_stages=NUM_STAGES, shown=show_progress, tell=describe_jobs)
    with in_one_line(settings):
        try:
            return _build(settings, spark, stages)
        finally:
            stages.close()
            spark.catalog.clearCache()


def _build(settings: JobSettings, spark: SparkSession, stages: Stages) -> Path:
    dataset = without_dropped(settings.dataset)
    settings = replace(settings, dataset=dataset)
    root = Path(settings.features_dir) / dataset.name
    previous = latest_version(root)
    key = checked_key(settings)
    erased = erased_keys(root, key.version)
    outcomes = _handed_back(settings, FeedbackTable.OUTCOMES)
    impressions = _handed_back(settings, FeedbackTable.IMPRESSIONS)
    _note_missing_targets(dataset)
    with stages("reading"):
        mark = newest_mark(spark, dataset.events)
        now_s = int(time.time())
        taken = plan(settings, previous, outcomes, key_version=key.version, now=now_s, mark=mark)
        item_table, user_table, sealed_table = attributes(spark, dataset, key)
        edges = follows(spark, dataset, key, erased=erased)
        flagged = ingest(spark, dataset, taken, outcomes=outcomes, key=key, erased=erased)
        told = without_erased(read_table(spark, outcomes), erased) if outcomes else None
        rejected = pin(flagged.where(F.col(Event.REASON).isNotNull()))
        raw_counts = gate.measure_raw(flagged, rejected, has_outcomes=outcomes is not None)
        _note_fewer_rows(dataset, taken, raw_counts)
        if taken.stored is None and raw_counts["rows_in"] == raw_counts["outcomes_in"]:
            raise InputError(f"{dataset.events.path} is an empty table; give one with rows")
    with stages("cleaning"):
        earlier = earlier_batches(spark, taken)
        rows = sort_out(
            flagged.drop(Event.UNREADABLE),
            rejected.drop(Event.UNREADABLE),
            dataset,
            raw_counts,
            earlier=earlier,
            newest=taken.newest,
        )
        unreadable = gate.unreadable_columns(rejected)
        looks = profile(rows.kept, sights=rows.sights, plain=rows.plain, before=profile_of(previous))
        checks = judged(rows, looks, settings, unreadable=unreadable)
    with stages("indexing"):
        cuts = _cuts(settings, rows)
        indexed, is_based = indexed_events(dataset, rows, taken, prior_indices(spark, previous))
    with stages("features"):
        tables = build_tables(
            indexed,
            dataset,
            cuts,
            item_table=item_table,
            user_table=user_table,
            edges=edges,
            window_events=settings.window_events,
            prior=prior_without(prior_fit(previous, cuts), dataset.features.drop),
        )
    with stages("looking for leaks"):
        leaks = find_leaks(
            spark,
            dataset,
            thresholds_of(settings),
            taken,
            cuts=cuts,
            key=key,
            measured=rows.measured,
            tables=tables,
            indexed=indexed,
            user_table=user_table,
        )
        checks = judged_leaks(checks, leaks, rows, looks, settings)
    with building(root) as folder:
        with stages("writing"):
            shown = without_erased(read_table(spark, impressions), erased) if impressions else None
            responses = impressions_with_responses(shown, told, spark=spark)
            frames = {**_frames(tables), Table.QUARANTINE: _reason_first(rows), Table.IMPRESSIONS: responses}
            frames[Table.SEALED] = _sealed_of_known(sealed_table, tables, spark)
            if settings.mode == "incremental":
                frames = {Table.LINES: rows.lines if taken.stored is None else rows.fresh, **frames}
            _write_frames(frames, folder, settings)
            if taken.stored is not None:
                keep_files(taken.stored / Table.LINES, folder / Table.LINES)
        with stages("publishing"):
            sizes = table_sizes(folder, TABLES)
            counts = row_counts(rows, told, folder, spark) | {"erased_users": len(erased)}
            counts |= {name: about["rows"] for name, about in sizes.items()}
            now = datetime.now(tz=UTC)
            ledger = replace(taken.ledger, is_based=is_based, counts=rows.input_counts)
            sources = fingerprints(dataset, feedback=(outcomes, impressions), known=ledger.known_files())
            metadata = describe(
                settings,
                tables=tables,
                cuts=cuts,
                key=key,
                created_at=now,
                version=_version(now, settings, sources, key_version=key.version),
                counts=counts,
                measured=rows.measured,
                ties=rows.ties,
                split_hash=examples_hash(spark.read.parquet(uri(folder / Table.EXAMPLES))),
                sources=sources,
                sizes=sizes,
                **highest_indices(indexed, previous[1] if previous else None),
            )
            quality = gate.report(checks, rows.quarantined, counts, leaks=leaks.shown())
            for name, content in (
                (Table.METADATA, metadata),
                (Table.VOCABULARIES, vocabularies(tables)),
                (Table.QUALITY, quality),
                (Table.PROFILE, looks),
                (Table.LEDGER, dataclasses.asdict(ledger)),
            ):
                write_document(content, folder, name)
            shown_as = quality_page(rows, quality, looks, settings, title="quality of the data")
            (folder / Table.QUALITY_PAGE).write_text(shown_as, encoding="utf-8")
            with alone(root, after=previous[0] if previous else None):
                checked_key(settings)  # which may have been changed while this ran
                if erased_keys(root, key.version) != erased:
                    raise InputError("people were erased while this ran; run it again")
                return publish(folder, metadata["version"])


def checked_key(settings: JobSettings) -> Key:
    """The pseudonym key; InputError where it is being changed or must not be used (`keys.check_key`).

    Needs no Spark.
    """
    key = load_key()
    root = Path(settings.features_dir) / settings.dataset.name
    check_not_rotating(root)
    previous = latest_version(root)
    logs = [_handed_back(settings, name) for name in (FeedbackTable.OUTCOMES, FeedbackTable.IMPRESSIONS)]
    check_key(
        key,
        settings,
        previous=previous[1] if previous else None,
        log_files=[file for log in logs if log for file in local_files(log.path)],
    )
    return key


def _note_missing_targets(dataset: Dataset) -> None:
    """One line on stderr about the parts of value_targets that this data set cannot have."""
    if dataset.split.kind == SplitKind.LEAVE_ONE_OUT:
        say(f"data set {dataset.name}: leave_one_out has no cut in time, so no value targets", kind="note")
    elif not dataset.has_value:
        say(f"data set {dataset.name}: no money, so no spend; retention targets stay", kind="note")


def _note_fewer_rows(dataset: Dataset, taken: Plan, counts: Mapping[str, float]) -> None:
    """One line on stderr where a table that is read from its first row on has lost some."""
    had = taken.ledger.counts.get("rows_in", 0)
    if taken.spans and taken.stored is None and counts["rows_in"] < had:
        say(
            f"{dataset.events.path} and what was handed back have {counts['rows_in']:,.0f} rows; the last"
            f" version was made of {had:,.0f}, and this one will be without those that are gone",
            kind="note",
        )


def _handed_back(settings: JobSettings, log: str) -> SourceTable | None:
    """A log of what was handed back; None where there is nothing yet."""
    folder = Path(settings.feedback_dir) / settings.dataset.name / log
    return SourceTable(path=str(folder)) if any(folder.glob("*.parquet")) else None


def _sealed_of_known(table: DataFrame | None, tables: FeatureTables, spark: SparkSession) -> DataFrame:
    """Of the users in the tables only; no rows where nothing is sealed."""
    if table is None:
        return few_rows(spark, [], SEALED_SCHEMA)
    known = tables.users.select(Event.USER_KEY).distinct()
    return table.join(known, on=Event.USER_KEY, how="left_semi")


def _cuts(settings: JobSettings, rows: Sorted) -> Cuts | None:
    if settings.dataset.split.kind == SplitKind.LEAVE_ONE_OUT:
        return None
    check_gaps(seen_days(rows.kept), settings.dataset)
    return find_cuts(
        settings.dataset.split,
        first_timestamp=int(rows.measured["first_timestamp"]),
        last_timestamp=int(rows.measured["last_timestamp"]),
    )


def _reason_first(rows: Sorted) -> DataFrame:
    names = [name for name in rows.quarantine.columns if name != Event.REASON]
    return rows.quarantine.select(Event.REASON, *names)


def _write_frames(frames: Mapping[str, DataFrame], folder: Path, settings: JobSettings) -> None:
    def write(name: str, frame: DataFrame) -> None:
        if name in SORTED_BY:
            frame = equal_shards(frame, rows=settings.output.rows_per_file, order=SORTED_BY[name])
        write_table(frame, folder, name, row_group_mb=settings.output.row_group_mb)

    together(*[partial(write, name, frame) for name, frame in frames.items()])


def _frames(tables: FeatureTables) -> dict[str, DataFrame]:
    """Those first that take longest: others are written beside them."""
    return {
        Table.HISTORIES: tables.histories,
        Table.USER_FEATURES: tables.user_features,
        Table.ITEM_FEATURES: tables.item_features,
        Table.EXAMPLES: tables.examples,
        Table.VALUE_TARGETS: tables.value_targets,
    }


def _version(now: datetime, settings: JobSettings, sources: list[dict[str, Any]], *, key_version: str) -> str:
    """UTC time and 8 hex digits of what went in: settings, the key's version, raw files and feedback."""
    content = json.dumps([dataclasses.asdict(settings), key_version, sources], sort_keys=True, default=str)
    return f"{now:%Y%m%dT%H%M%SZ}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
