"""The leak detector: two looks at a sample of the validation cut, between features and publishing."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import DataFrame, SparkSession

from recsys.pseudonym import Key
from spark_jobs.features.cuts import Cuts
from spark_jobs.features.indices import Indexed
from spark_jobs.features.tables import FeatureTables
from spark_jobs.gate import Thresholds
from spark_jobs.leaks.findings import Feature, Findings, features_of
from spark_jobs.leaks.future import FutureChanges, future_changes
from spark_jobs.leaks.labels import LEAST_OF_EACH, LEAST_ROWS, Sample, told_by_features
from spark_jobs.leaks.samples import item_sample, user_sample
from spark_jobs.ledger import EVENTS, Plan
from spark_jobs.settings import Dataset
from spark_jobs.sources import IN_BATCH, read_events

MIXED_USERS, MIXED_ROWS = 500, 50_000  # at most about so many, whichever is fewer


def find_leaks(
    spark: SparkSession,
    dataset: Dataset,
    thresholds: Thresholds,
    plan: Plan,
    *,
    cuts: Cuts | None,
    key: Key,
    measured: Mapping[str, float],
    tables: FeatureTables,
    indexed: Indexed,
    user_table: DataFrame | None,
) -> Findings:
    """What the bounds ask for; nothing is read or computed for those that are off. `measured`: of the log."""
    looks_ahead = thresholds.max_future_changes is not None
    measures = thresholds.max_feature_auc is not None or thresholds.max_chance_gap is not None
    if cuts is None:
        off = ["leave_one_out has no cut in time that a feature could look beyond: leaks were not looked for"]
        return Findings(notes=off if looks_ahead or measures else ())
    notes: list[str] = []
    features: list[Feature] = []
    if measures:
        samples = {
            "users": user_sample(tables, user_table, dataset, cuts),
            "items": item_sample(tables, indexed, dataset, cuts),
        }
        for of, sample in samples.items():
            if sample is not None:
                features += _told(sample, of, thresholds, notes)
    future = None
    if looks_ahead and plan.stored is not None:
        notes.append("later lines were not mixed up: this run reads what is new only, a full one does it")
    elif looks_ahead:
        share = min(1.0, MIXED_USERS / measured["num_users"], MIXED_ROWS / measured["rows_kept"])
        future = _changes(spark, dataset, plan, cuts, key=key, share=share)
    return Findings(features=features, future=future, notes=notes)


def _told(sample: Sample, of: str, thresholds: Thresholds, notes: list[str]) -> list[Feature]:
    told = told_by_features(sample)
    if not told:
        notes.append(
            f"the {len(sample.outcome)} {of} known at the validation cut cannot tell a leak from chance; that"
            f" takes {LEAST_ROWS}, with at least {LEAST_OF_EACH} above the median after it"
        )
    return features_of(
        told, of=of, rows=len(sample.outcome), undated=list(sample.undated), most=thresholds.max_feature_auc
    )


def _changes(
    spark: SparkSession, dataset: Dataset, plan: Plan, cuts: Cuts, *, key: Key, share: float
) -> FutureChanges:
    files = list(plan.batch_of(EVENTS)) or None
    return future_changes(
        read_events(spark, dataset, files=files, spans=plan.spans).drop(IN_BATCH),
        dataset,
        cut=cuts.validation,
        now=max(batch.ingested_at for batch in plan.reads),
        key=key,
        share=share,
    )
