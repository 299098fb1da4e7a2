"""Raw files and outcomes handed back -> pseudonymised lines with their batch and what is wrong with them.

And what the undated tables of a data set tell beside them.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.pseudonym import Key
from recsys.schema import Table
from recsys.sealed import load_aes_key
from spark_jobs.attributes import item_attributes, user_attributes
from spark_jobs.columns import Event
from spark_jobs.edges import follow_edges
from spark_jobs.feedback import outcomes_as_events
from spark_jobs.ledger import EVENTS, OUTCOMES, Batch, Plan
from spark_jobs.publish import uri
from spark_jobs.session import few_rows, pin
from spark_jobs.settings import Dataset, Sensitive, SourceTable
from spark_jobs.sources import IN_BATCH, local_files, read_events, read_table
from spark_jobs.steps.clean import flag
from spark_jobs.steps.normalise import normalise
from spark_jobs.steps.pseudonymise import pseudonymise, without_erased
from spark_jobs.steps.sensitive import check_declared, guarded, sealed
from spark_jobs.steps.sort import Earlier

_FILE = "__file"
_FILE_OF = "regexp_replace(_metadata.file_path, '^file:/+', '/')"  # Spark writes a file's name in two ways


def ingest(
    spark: SparkSession,
    dataset: Dataset,
    plan: Plan,
    *,
    outcomes: SourceTable | None,
    key: Key,
    erased: frozenset[str],
) -> DataFrame:
    """Lines of the batches that `plan` reads, with `batch`, `unreadable` and `reason`, without the erased.

    They are gone over several times: held, but where Parquet files are as good as what would be held. At a
    database, or through SQL that draws at random, a second look could give other rows: such lines are pinned,
    and a lost executor ends the job then, unless there is a checkpoint folder.
    """
    raw, batch = _raw(spark, dataset, plan)
    now = _ingested_at(plan.reads)
    plain = normalise(raw, dataset, batch=batch)
    may_change = not _is_steady(plain) or any(
        source.format == "jdbc" for source in (dataset.events, dataset.join) if source
    )
    is_held = may_change or dataset.events.format != "parquet" or dataset.join is not None
    if is_held:
        plain = normalise(_spread(raw), dataset, batch=batch)
    # Flagged before pseudonyms are made: a step that does not ask for them leaves them unmade.
    lines = pseudonymise(flag(plain, dataset, now=now, user=Event.USER_ID), key)
    if not plan.reads_events:
        lines = lines.limit(0)
    for part in plan.reads if outcomes else ():
        files = part.files(OUTCOMES)
        if files:
            told = outcomes_as_events(
                read_table(spark, outcomes, files=files),  # type: ignore[arg-type]
                like=[name for name in lines.columns if name not in (Event.BATCH, Event.REASON)],
            )
            told = told.withColumn(Event.BATCH, F.lit(part.number))
            lines = lines.unionByName(flag(told, dataset, now=now))
    lines = without_erased(lines, erased)
    if may_change:
        return pin(lines)
    return lines.cache() if is_held else lines


def attributes(
    spark: SparkSession, dataset: Dataset, key: Key
) -> tuple[DataFrame | None, DataFrame | None, DataFrame | None]:
    """What the item and the user table tell, and the values of the latter that are sealed."""
    items, users, sensitive = dataset.items, dataset.users, dataset.sensitive
    raw_items = read_table(spark, items.source) if items else None
    raw_users = read_table(spark, users.source) if users else None
    events = read_events(spark, dataset) if sensitive != Sensitive() else None
    raw_graph = read_table(spark, dataset.graph.source) if dataset.graph and events else None
    frames = (events, raw_items, raw_users, raw_graph)
    check_declared(sensitive, [frame for frame in frames if frame is not None])
    item_table = user_table = sealed_table = None
    if items and raw_items is not None:
        item_table = item_attributes(guarded(raw_items, sensitive, path=items.source.path), items)
    if users and raw_users is not None:
        user_table = user_attributes(guarded(raw_users, sensitive, path=users.source.path), users, key)
        if sensitive.encrypt:
            sealed_table = sealed(raw_users, users, dataset, secret=key.secret, key=load_aes_key())
    return item_table, user_table, sealed_table


def follows(spark: SparkSession, dataset: Dataset, key: Key, *, erased: frozenset[str]) -> DataFrame | None:
    """Edges of the follow graph; None where the data set has none."""
    graph = dataset.graph
    if graph is None:
        return None
    raw = guarded(read_table(spark, graph.source), dataset.sensitive, path=graph.source.path)
    return follow_edges(raw, graph, key, erased=erased)


def _raw(spark: SparkSession, dataset: Dataset, plan: Plan) -> tuple[DataFrame, SparkColumn]:
    """The raw lines as the other steps may see them, and the column that tells the batch of each."""
    batch_of = plan.batch_of(EVENTS)
    files = list(batch_of) if plan.stored is not None and batch_of else None
    source, spans = dataset.events, plan.spans
    if spans or len(set(batch_of.values())) < 2:
        events = read_events(spark, dataset, files=files, spans=spans)
        only = next(iter(batch_of.values()), plan.reads[-1].number)
        seen = guarded(events, dataset.sensitive, path=source.path)
        return seen, F.col(IN_BATCH) if spans else F.lit(only)
    by_file = {_FILE: _FILE_OF}
    named = dataclasses.replace(source, computed=dict(source.computed) | by_file)
    events = read_events(spark, dataclasses.replace(dataset, events=named))
    rows = _batch_of_files(events.inputFiles(), batch_of, dataset)
    numbers = few_rows(spark, rows, f"{_FILE} string, {IN_BATCH} int")
    seen = guarded(events, dataset.sensitive, path=source.path)
    return seen.join(F.broadcast(numbers), on=_FILE, how="inner"), F.col(IN_BATCH)


def _batch_of_files(
    uris: Iterable[str], batch_of: Mapping[Path, int], dataset: Dataset
) -> list[tuple[str, int]]:
    """(file as `_FILE_OF` gives it, batch). Files that have come since the plan wait for the next run."""
    by_path = {os.path.abspath(file): number for file, number in batch_of.items()}
    found = {unquote(name): name for name in (re.sub("^file:/+", "/", uri) for uri in uris)}
    joined = local_files(dataset.join.path) if dataset.join else []
    odd = sorted(found.keys() - by_path.keys() - {os.path.abspath(file) for file in joined})
    if odd and by_path.keys() - found.keys():  # a blank file has no part in the table
        raise RuntimeError(f"the batch of {odd[0]} cannot be told")
    return [(found[path], number) for path, number in by_path.items() if path in found]


def _ingested_at(batches: tuple[Batch, ...]) -> SparkColumn:
    """When the batch of a line came in."""
    if len(batches) == 1:
        return F.lit(batches[0].ingested_at)
    entries = [F.lit(x) for batch in batches for x in (batch.number, batch.ingested_at)]
    return F.element_at(F.create_map(*entries), F.col(Event.BATCH))


def _is_steady(lines: DataFrame) -> bool:
    """Whether each look at them gives the same: the SQL of a data set may draw at random."""
    return bool(lines._jdf.queryExecution().analyzed().deterministic())


def _spread(raw: DataFrame) -> DataFrame:
    """A file of one row group would keep one core busy: give every core a part."""
    cores = raw.sparkSession.sparkContext.defaultParallelism
    return raw.repartition(cores) if raw.rdd.getNumPartitions() < cores else raw


def earlier_batches(spark: SparkSession, plan: Plan) -> Earlier | None:
    """What the last version keeps of the batches that this run does not read; None where it reads all."""
    if plan.stored is None:
        return None
    return Earlier(
        lines=spark.read.parquet(uri(plan.stored / Table.LINES)),
        quarantine=spark.read.parquet(uri(plan.stored / Table.QUARANTINE)),
        counts=plan.ledger.counts,
    )
