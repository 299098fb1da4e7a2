"""The content of metadata.json: all that a reader of the tables must know about them."""

from __future__ import annotations

import hashlib
import math
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.pseudonym import Key
from recsys.schema import SCHEMA_VERSION, Column, Split, UserNumeric
from recsys.sealed import load_aes_key
from spark_jobs.features.cuts import Cuts
from spark_jobs.features.items import LOG_PRICE
from spark_jobs.features.leave_one_out import NO_CUT
from spark_jobs.features.tables import FeatureTables
from spark_jobs.settings import JobSettings

HEADROOM = 1.2  # item table capacity over the items known now


def describe(
    settings: JobSettings,
    *,
    tables: FeatureTables,
    cuts: Cuts | None,
    key: Key,
    created_at: datetime,
    version: str,
    counts: Mapping[str, int],
    measured: Mapping[str, float],
    ties: Sequence[str],
    split_hash: str,
    num_items: int,
    num_users: int,
    sources: list[dict[str, Any]],
    sizes: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """A plain mapping, ready for JSON."""
    dataset, encoding = settings.dataset, tables.encoding
    price_scaler = {"mean": encoding.log_price_mean, "std": encoding.log_price_std}
    return {
        "schema_version": SCHEMA_VERSION,
        "dataset": dataset.name,
        "version": version,
        "created_at": created_at.isoformat(timespec="seconds"),
        "has_time": dataset.has_time,
        "has_value": dataset.has_value,
        "public_examples": dataset.public_examples,
        "filter_seen": dataset.filter_seen,
        "currency": dataset.currency,
        "event_types": dataset.event_type_index,
        "target_event_types": dataset.target_event_types,
        "num_items": num_items,
        "num_users": num_users,
        "item_capacity": math.ceil(HEADROOM * num_items),
        "num_tokens": len(encoding.vocabularies.tokens),
        "item_fields": encoding.fields,
        "item_numeric": [LOG_PRICE] if encoding.has_log_price else [],
        "profile_fields": [{"name": name, "size": len(values)} for name, values in tables.profile.items()],
        "user_numeric": [*UserNumeric.ALL, *(UserNumeric.GRAPH if dataset.graph else ())],
        "scalers": {LOG_PRICE: price_scaler} if encoding.has_log_price else {},
        "date_range": [int(measured["first_timestamp"]), int(measured["last_timestamp"])],
        "row_counts": dict(counts),
        "tables": dict(sizes),
        "split": _split(settings, cuts, split_hash),
        "tie_key": list(ties),
        "pseudonym": {"key_version": key.version, "demo": key.is_demo},
        **_signals(settings),
        **_sealed(settings),
        "sources": sources,
        "git_commit": _git_commit(),
    }


def _signals(settings: JobSettings) -> dict[str, bool]:
    """Which list columns the histories have beside; nothing without any."""
    columns = settings.dataset.columns
    told = {"has_dwell": columns.dwell_s, "has_queries": columns.query}
    return {name: True for name, expression in told.items() if expression is not None}


def _sealed(settings: JobSettings) -> dict[str, Any]:
    """Which columns are encrypted, and a version of the key; nothing without any."""
    names = settings.dataset.sensitive.encrypt
    return {"sealed": {"columns": names, "key_version": load_aes_key().version}} if names else {}


def examples_hash(examples: DataFrame) -> str:
    """sha256 over the examples that figures are made of; neither file layout nor row order matters.

    Those of `now` are left out: more events after the last window change no figure.
    Per (split, cut): the number of rows and the exclusive or of the rows' own digests.
    """
    row = F.concat_ws("|", Column.USER_INDEX, Column.CUT, Column.SPLIT, Column.PREFIX_LENGTH)
    digest = F.sha2(row, 256)
    halves = [F.conv(F.substring(digest, start, 15), 16, 10).cast("long") for start in (1, 16, 31, 46)]
    parts = [F.bit_xor(half).cast("string") for half in halves]
    grouped = (
        examples.where(F.col(Column.SPLIT) != Split.NOW)
        .groupBy(Column.SPLIT, Column.CUT)
        .agg(F.concat_ws("|", F.count(F.lit(1)).cast("string"), *parts).alias("content"))
    )
    lines = sorted(f"{r[Column.SPLIT]}|{r[Column.CUT]}|{r['content']}" for r in grouped.collect())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def vocabularies(tables: FeatureTables) -> dict[str, Any]:
    """The content of vocabularies.json, index -> word: entry i of a list has index i + 1."""
    fitted = tables.encoding.vocabularies
    return {
        "tokens": list(fitted.tokens),
        "category": list(fitted.category),
        "item_fields": {name: list(values) for name, values in fitted.fields.items()},
        "profile_fields": {name: list(values) for name, values in tables.profile.items()},
        "price_band_thresholds": tables.encoding.price_thresholds,
    }


def _split(settings: JobSettings, cuts: Cuts | None, split_hash: str) -> dict[str, Any]:
    split = settings.dataset.split
    shown = {Split.TRAIN: [], Split.VALIDATION: NO_CUT, Split.TEST: NO_CUT}
    if cuts is not None:
        shown = {Split.TRAIN: list(cuts.train), Split.VALIDATION: cuts.validation, Split.TEST: cuts.test}
        shown[Split.NOW] = cuts.now
    return {
        "kind": split.kind,
        "cuts": shown,
        "window_days": split.window_days,
        "horizons_days": list(split.horizons_days) if cuts is not None else [],
        "hash": split_hash,
    }


def _git_commit() -> str | None:
    try:
        shown = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return shown.stdout.strip() if shown.returncode == 0 else None
