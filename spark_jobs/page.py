"""The quality report as one self-contained page: checks, rejected rows by reason, columns and their drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import Event
from spark_jobs.settings import Dataset


def examples_of_reasons(quarantine: DataFrame, *, public: bool) -> dict[str, list[str]]:
    """Reason -> one or two of its rows as JSON. Of data that is not public only columns that name nobody."""
    hidden = [] if public else [Event.TEXT, Event.ORDER_ID, Event.QUERY]
    shown = [name for name in quarantine.columns if name not in (Event.USER_KEY, Event.REASON, *hidden)]
    if not public:
        shown = [name for name in shown if not name.startswith(Event.PROFILE)]
    as_json = F.to_json(F.struct(*shown))
    picked = quarantine.groupBy(Event.REASON).agg(F.min(as_json).alias("first"), F.max(as_json).alias("last"))
    return {row[Event.REASON]: sorted({row["first"], row["last"]}) for row in picked.collect()}


def page(
    *,
    dataset: Dataset,
    title: str,
    quality: Mapping[str, Any],
    profile: Mapping[str, Any],
    examples: Mapping[str, Sequence[str]],
    created_at: datetime,
) -> str:
    """HTML without scripts and without anything from elsewhere."""
    environment = Environment(
        loader=PackageLoader("spark_jobs"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "day": _day}
    return environment.get_template("quality.html.jinja").render(
        dataset=dataset.name,
        title=title,
        quality=quality,
        columns=profile,
        examples=examples,
        created_at=created_at.isoformat(timespec="seconds"),
        has_time=dataset.has_time,
        timestamp=Event.TIMESTAMP,
        prefix=Event.PROFILE,
    )


def _number(value: float) -> str:
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _day(value: float) -> str:
    return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d")
