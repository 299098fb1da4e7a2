"""Indices of a run: gone on with from the last version, or given out anew batch by batch."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.schema import EventType
from spark_jobs.columns import Event
from spark_jobs.features.indices import Indexed, Prior, index_events
from spark_jobs.ledger import Plan
from spark_jobs.previous import same_indices
from spark_jobs.progress import say
from spark_jobs.settings import Dataset
from spark_jobs.steps.sort import Sorted


def indexed_events(dataset: Dataset, rows: Sorted, plan: Plan, prior: Prior) -> tuple[Indexed, bool]:
    """Events with their indices, and whether those rest on the ones of the last version.

    A full run gives all indices out anew, batch by batch. Where they come out otherwise, as by new rules of
    cleaning, the old ones are kept: an index is never renumbered.
    """

    def indexed(prior: Prior, lines: DataFrame | None) -> Indexed:
        return index_events(
            rows.kept,
            sights=rows.sights,
            prior=prior,
            lines=lines,
            event_types=dataset.event_type_index,
            ties=rows.ties,
            last_timestamp=int(rows.measured["last_timestamp"]),
        )

    if not plan.replays:
        return indexed(prior, None), plan.ledger.is_based
    anew = indexed(Prior(), _sights(rows, dataset) if len(plan.ledger.batches) > 1 else None)
    if same_indices(anew, prior):
        return anew, False
    say("the batches played again give other indices than the last version has; those are kept")
    return indexed(prior, None), True


def _sights(rows: Sorted, dataset: Dataset) -> DataFrame:
    """Lines that can be the first sight of a user or an item. With money no return can: it is kept for an
    earlier purchase of both.
    """
    is_return = F.col(Event.EVENT_TYPE) == EventType.RETURN
    return rows.lines.where(~is_return) if dataset.has_value else rows.lines
