"""One run: read, clean, judge, compute, publish. The only place of spark_jobs that reads and writes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from recsys.pseudonym import Key, load_key
from recsys.schema import FeedbackTable, InputError, SplitKind, Table
from recsys.sealed import load_aes_key
from recsys.tombstones import erased_keys
from spark_jobs import gate
from spark_jobs.attributes import item_attributes, user_attributes
from spark_jobs.columns import Event
from spark_jobs.counts import row_counts
from spark_jobs.drift import profile
from spark_jobs.faults import explained
from spark_jobs.features.cuts import Cuts, find_cuts
from spark_jobs.features.indices import index_events
from spark_jobs.features.tables import FeatureTables, build_tables
from spark_jobs.feedback import impressions_with_responses, outcomes_as_events
from spark_jobs.keys import check_key
from spark_jobs.metadata import describe, examples_hash, vocabularies
from spark_jobs.observation import check_gaps, seen_days
from spark_jobs.previous import highest_indices, prior_fit, prior_indices, profile_of
from spark_jobs.progress import Stages, say
from spark_jobs.publish import (
    TABLES,
    alone,
    building,
    latest_version,
    publish,
    uri,
    write_document,
    write_table,
)
from spark_jobs.quality import judged, quality_page
from spark_jobs.settings import Dataset, JobSettings, SourceTable
from spark_jobs.sources import fingerprints, local_files, read_events, read_table
from spark_jobs.steps.clean import Reason, flag
from spark_jobs.steps.normalise import normalise
from spark_jobs.steps.pseudonymise import pseudonymise, without_erased
from spark_jobs.steps.sensitive import SEALED_SCHEMA, check_declared, guarded, sealed
from spark_jobs.steps.sort import Sorted, sort_out

NUM_STAGES = 6


def build(settings: JobSettings, spark: SparkSession, *, show_progress: bool = False) -> Path:
    """Run the job and return the published version's folder.

    Raises InputError for bad input, QualityError where the gate fails, OSError for a full disk; then nothing
    is published and nothing half written is left.
    """
    describe_jobs = spark.sparkContext.setJobDescription  # Spark's own pages and event log name the stage
    stages = Stages(num_stages=NUM_STAGES, shown=show_progress, tell=describe_jobs)
    try:
        return _build(settings, spark, stages)
    except (PySparkException, Py4JError) as error:
        fault = explained(error, settings)
        if fault is None:
            raise
        raise fault from error
    finally:
        stages.close()
        spark.catalog.clearCache()


def _build(settings: JobSettings, spark: SparkSession, stages: Stages) -> Path:
    dataset = settings.dataset
    root = Path(settings.features_dir) / dataset.name
    previous = latest_version(root)
    key = checked_key(settings)
    erased = erased_keys(root, key.version)
    outcomes = _handed_back(settings, FeedbackTable.OUTCOMES)
    impressions = _handed_back(settings, FeedbackTable.IMPRESSIONS)
    _note_missing_targets(dataset)
    with stages("reading"):
        events = read_events(spark, dataset)
        item_table, user_table, sealed_table = _attributes(settings, spark, key, events)
        raw = _spread(guarded(events, dataset.sensitive, path=dataset.events.path))
        lines = pseudonymise(normalise(raw, dataset), key)
        told = without_erased(read_table(spark, outcomes), erased) if outcomes else None
        if told is not None:
            lines = lines.unionByName(outcomes_as_events(told, like=lines.columns))
        lines = without_erased(lines, erased)
        flagged = flag(lines, dataset, now=int(time.time())).cache()
        raw_counts = gate.measure_raw(flagged)
        if raw_counts["rows_in"] == raw_counts["outcomes_in"]:
            raise InputError(f"{dataset.events.path} is an empty table; give one with rows")
    with stages("cleaning"):
        rows = sort_out(flagged.drop(Event.UNREADABLE), dataset, raw_counts)
        has_unreadable = Reason.UNREADABLE_NUMBER in rows.quarantined
        unreadable = gate.unreadable_columns(flagged) if has_unreadable else []
        looks = profile(rows.kept, before=profile_of(previous))
        checks = judged(rows, looks, settings, unreadable=unreadable)
    with stages("indexing"):
        cuts = _cuts(settings, rows)
        indexed = index_events(
            rows.kept,
            prior=prior_indices(spark, previous),
            event_types=dataset.event_type_index,
            ties=rows.ties,
            last_timestamp=int(rows.measured["last_timestamp"]),
        )
    with stages("features"):
        tables = build_tables(
            indexed,
            dataset,
            cuts,
            item_table=item_table,
            user_table=user_table,
            window_events=settings.window_events,
            prior=prior_fit(previous, cuts),
        )
    with building(root) as folder:
        with stages("writing"):
            quarantine = rows.quarantine.select(
                Event.REASON, *[name for name in rows.quarantine.columns if name != Event.REASON]
            )
            shown = without_erased(read_table(spark, impressions), erased) if impressions else None
            responses = impressions_with_responses(shown, told, spark=spark)
            frames = {Table.QUARANTINE: quarantine, **_frames(tables), Table.IMPRESSIONS: responses}
            frames[Table.SEALED] = _sealed_of_known(sealed_table, tables, spark)
            for name in TABLES:
                write_table(frames[name], folder, name)
        with stages("publishing"):
            counts = row_counts(rows, told, folder, spark) | {"erased_users": len(erased)}
            now = datetime.now(tz=UTC)
            sources = fingerprints(dataset, feedback=(outcomes, impressions))
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
                **highest_indices(indexed, previous[1] if previous else None),
            )
            quality = gate.report(checks, rows.quarantined, counts)
            for name, content in (
                (Table.METADATA, metadata),
                (Table.VOCABULARIES, vocabularies(tables)),
                (Table.QUALITY, quality),
                (Table.PROFILE, looks),
            ):
                write_document(content, folder, name)
            shown_as = quality_page(rows, quality, looks, settings, title="quality of the data")
            (folder / Table.QUALITY_PAGE).write_text(shown_as, encoding="utf-8")
            with alone(root, after=previous[0] if previous else None):
                if erased_keys(root, key.version) != erased:
                    raise InputError("people were erased while this ran; run it again")
                return publish(folder, metadata["version"])


def checked_key(settings: JobSettings) -> Key:
    """The pseudonym key; InputError where it must not be used (`keys.check_key`). Needs no Spark."""
    key = load_key()
    previous = latest_version(Path(settings.features_dir) / settings.dataset.name)
    logs = [_handed_back(settings, name) for name in (FeedbackTable.OUTCOMES, FeedbackTable.IMPRESSIONS)]
    check_key(
        key,
        settings,
        previous=previous[1] if previous else None,
        log_files=[file for log in logs if log for file in local_files(log.path)],
    )
    return key


def _spread(raw: DataFrame) -> DataFrame:
    """A file of one row group would keep one core busy: give every core a part."""
    cores = raw.sparkSession.sparkContext.defaultParallelism
    return raw.repartition(cores) if raw.rdd.getNumPartitions() < cores else raw


def _note_missing_targets(dataset: Dataset) -> None:
    """One line on stderr about the parts of value_targets that this data set cannot have."""
    if dataset.split.kind == SplitKind.LEAVE_ONE_OUT:
        say(f"data set {dataset.name}: leave_one_out has no cut in time, so no value targets", kind="note")
    elif not dataset.has_value:
        say(f"data set {dataset.name}: no money, so no spend; retention targets stay", kind="note")


def _handed_back(settings: JobSettings, log: str) -> SourceTable | None:
    """A log of what was handed back; None where there is nothing yet."""
    folder = Path(settings.feedback_dir) / settings.dataset.name / log
    return SourceTable(path=str(folder)) if any(folder.glob("*.parquet")) else None


def _attributes(
    settings: JobSettings, spark: SparkSession, key: Key, events: DataFrame
) -> tuple[DataFrame | None, DataFrame | None, DataFrame | None]:
    """What the item and the user table tell, and the values of the latter that are sealed."""
    dataset = settings.dataset
    items, users, sensitive = dataset.items, dataset.users, dataset.sensitive
    raw_items = read_table(spark, items.source) if items else None
    raw_users = read_table(spark, users.source) if users else None
    check_declared(sensitive, [frame for frame in (events, raw_items, raw_users) if frame is not None])
    item_table = user_table = sealed_table = None
    if items and raw_items is not None:
        item_table = item_attributes(guarded(raw_items, sensitive, path=items.source.path), items)
    if users and raw_users is not None:
        user_table = user_attributes(guarded(raw_users, sensitive, path=users.source.path), users, key)
        if sensitive.encrypt:
            sealed_table = sealed(raw_users, users, dataset, secret=key.secret, key=load_aes_key())
    return item_table, user_table, sealed_table


def _sealed_of_known(table: DataFrame | None, tables: FeatureTables, spark: SparkSession) -> DataFrame:
    """Of the users in the tables only; no rows where nothing is sealed."""
    if table is None:
        return spark.createDataFrame([], SEALED_SCHEMA)
    known = tables.histories.select(Event.USER_KEY).distinct()
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


def _frames(tables: FeatureTables) -> dict[str, DataFrame]:
    return {
        Table.ITEM_FEATURES: tables.item_features,
        Table.USER_FEATURES: tables.user_features,
        Table.HISTORIES: tables.histories,
        Table.EXAMPLES: tables.examples,
        Table.VALUE_TARGETS: tables.value_targets,
    }


def _version(now: datetime, settings: JobSettings, sources: list[dict[str, Any]], *, key_version: str) -> str:
    """UTC time and 8 hex digits of what went in: settings, the key's version, raw files and feedback."""
    content = json.dumps([dataclasses.asdict(settings), key_version, sources], sort_keys=True, default=str)
    return f"{now:%Y%m%dT%H%M%SZ}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
