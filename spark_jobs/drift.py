"""What the kept rows look like, column by column, and how far that has moved since the version before.

Drift is the population stability index, PSI = sum of (q - p) ln(q / p) over cells: below 0.1 stable, up to
0.25 moderate, above that major. These bounds are the field's convention, not tests. Cells are the deciles of
the version before for numbers, its most common values for the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.columns import Event
from spark_jobs.sights import ROWS

NUMBERS = (Event.QUANTITY, Event.UNIT_PRICE, Event.VALUE, Event.DWELL_S)
COUNTED = (
    Event.USER_KEY,
    Event.ORDER_ID,
    Event.TEXT,
    Event.QUERY,
)  # too many values, or too personal, to list
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
NUM_TOP, LEAST_ROWS = 20, 10  # values listed; rows that a listed value must have
MODERATE, MAJOR = 0.1, 0.25
_DECILES = tuple(d / 10 for d in range(1, 10))
_ACCURACY = 1000
_LEAST_SHARE = 1e-4  # an empty cell is taken for this, else one new value would be infinite drift


def profile(
    kept: DataFrame, *, items: DataFrame | None = None, before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Column -> type, rows, missing, distinct (approximate), and quantiles or the most common values.

    `items`: of `sights`, where they are counted already; `before`: the profile of the version before: each
    column of both gets `psi` and `verdict` against it.
    """
    columns = [name for name in kept.columns if name in Event.BARE or name.startswith(Event.PROFILE)]
    types = dict(kept.dtypes)
    measures: dict[str, SparkColumn] = {"rows": F.count(F.lit(1))}
    for name in columns:
        measures[f"missing {name}"] = F.count_if(F.col(name).isNull())
        measures[f"distinct {name}"] = F.approx_count_distinct(name)
        if name in (*NUMBERS, Event.TIMESTAMP):
            picked = F.array(*[F.lit(q) for q in (*QUANTILES, *_DECILES)])
            measures[f"quantiles {name}"] = F.percentile_approx(name, picked, _ACCURACY)
    row = kept.agg(*[measure.alias(name) for name, measure in measures.items()]).first()
    assert row is not None
    found: dict[str, Any] = {}
    for name in columns:
        about: dict[str, Any] = {"type": types[name], "rows": row["rows"], "missing": row[f"missing {name}"]}
        about["distinct"] = row[f"distinct {name}"]
        quantiles = row[f"quantiles {name}"] if name in (*NUMBERS, Event.TIMESTAMP) else None
        if quantiles:
            about["quantiles"] = dict(zip(map(str, QUANTILES), quantiles, strict=False))
        if name in NUMBERS and quantiles:
            about["edges"] = sorted(set(quantiles[len(QUANTILES) :]))
        found[name] = about
    for name in columns:
        if name not in (*NUMBERS, *COUNTED, Event.TIMESTAMP):
            counted = items if name == Event.ITEM_ID and items is not None else _counted(kept, name)
            found[name]["top"] = _top(counted, name)
    _add_cells(kept, found, before or {})
    return found


def psi(before: Sequence[float], now: Sequence[float]) -> float:
    """Population stability index of two lists of counts over the same cells."""
    shares = [
        [max(count / max(sum(counts), 1), _LEAST_SHARE) for count in counts] for counts in (before, now)
    ]
    return sum((q - p) * math.log(q / p) for p, q in zip(*shares, strict=True))


def verdict(drift: float) -> str:
    return "major" if drift > MAJOR else "moderate" if drift > MODERATE else "stable"


def _counted(kept: DataFrame, name: str) -> DataFrame:
    return kept.where(F.col(name).isNotNull()).groupBy(name).agg(F.count(F.lit(1)).alias(ROWS))


def _top(counted: DataFrame, name: str) -> list[list[Any]]:
    """[value, rows] of the most common values, without those that few rows have."""
    rows = counted.where(F.col(ROWS) >= LEAST_ROWS).orderBy(F.desc(ROWS), name).limit(NUM_TOP).collect()
    return [[row[name], row[ROWS]] for row in rows]


def _add_cells(kept: DataFrame, found: dict[str, Any], before: Mapping[str, Any]) -> None:
    """`cells`: rows by the column's own cells, for the version after; `psi`: over those of the one before."""
    measures: dict[str, SparkColumn] = {}
    for name, about in found.items():
        own, old = about, before.get(name, {})
        measures |= {f"own {name} {c}": F.count_if(cell) for c, cell in enumerate(_cells(name, own))}
        measures |= {f"old {name} {c}": F.count_if(cell) for c, cell in enumerate(_cells(name, old))}
    if not measures:
        return
    row = kept.agg(*[measure.alias(name) for name, measure in measures.items()]).first()
    assert row is not None
    for name, about in found.items():
        about["cells"] = [row[f"own {name} {c}"] for c in range(len(_cells(name, about)))]
        old = before.get(name, {})
        now = [row[f"old {name} {c}"] for c in range(len(_cells(name, old)))]
        if now and len(now) == len(old.get("cells", ())):
            about["psi"] = psi(old["cells"], now)
            about["verdict"] = verdict(about["psi"])


def _cells(name: str, about: Mapping[str, Any]) -> list[SparkColumn]:
    """Conditions that divide all rows: missing, then one a range or a listed value, then the rest."""
    column = F.col(name)
    if edges := about.get("edges"):
        inner = [(column > low) & (column <= high) for low, high in pairwise(edges)]
        return [column.isNull(), column <= edges[0], *inner, column > edges[-1]]
    if top := [value for value, _ in about.get("top", ())]:
        return [column.isNull(), *[column == value for value in top], ~column.isin(top)]
    return []
