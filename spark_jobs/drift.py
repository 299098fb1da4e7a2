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
from spark_jobs.measures import measured
from spark_jobs.session import pin
from spark_jobs.sights import ROWS, Sights

NUMBERS = (Event.QUANTITY, Event.UNIT_PRICE, Event.VALUE, Event.DWELL_S)
MEASURED = (*NUMBERS, Event.TIMESTAMP)
COUNTED = (
    Event.USER_KEY,
    Event.ORDER_ID,
    Event.TEXT,
    Event.QUERY,
)  # too many values, or too personal, to list
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
MOST_ROWS = 1_000_000  # of which quantiles and cells are told, of a well-filled column to a thousandth
NUM_TOP, LEAST_ROWS = 20, 10  # values listed; rows that a listed value must have
MODERATE, MAJOR = 0.1, 0.25
_DECILES = tuple(d / 10 for d in range(1, 10))
_ACCURACY = 1000
_LEAST_SHARE = 1e-4  # an empty cell is taken for this, else one new value would be infinite drift


def plain_measures(kept: DataFrame) -> dict[str, SparkColumn]:
    """What `profile` asks of all rows and a pass that asks for more can tell as well."""
    measures = {"rows": F.count(F.lit(1))}
    for name in _columns(kept):
        measures[f"missing {name}"] = F.count_if(F.col(name).isNull())
        if name in MEASURED:
            measures |= {f"least {name}": F.min(name), f"most {name}": F.max(name)}
    return measures


def profile(
    kept: DataFrame,
    *,
    sights: Sights | None = None,
    plain: Mapping[str, Any] | None = None,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Column -> type, rows, missing, distinct (about, where `sights` do not tell), and quantiles or the most
    common values.

    Quantiles (but the least and the greatest value) and cells are of at most about MOST_ROWS rows drawn by
    chance, others where rows lie otherwise; the rest is of all rows. `sights`: of `kept`, where users and
    items are counted already; `plain`: values of `plain_measures`, where they are known; `before`: the
    profile of the version before: each column of both gets `psi` and `verdict` against it.
    """
    plain = measured(kept, plain_measures(kept)) if plain is None else plain
    columns, types = _columns(kept), dict(kept.dtypes)
    listed = {} if sights is None else {Event.USER_KEY: sights.users, Event.ITEM_ID: sights.items}
    distinct = measured(kept, {name: F.approx_count_distinct(name) for name in columns if name not in listed})
    distinct |= {name: frame.count() for name, frame in listed.items()}
    found: dict[str, Any] = {}
    for name in columns:
        about = {"type": types[name], "rows": plain["rows"], "missing": plain[f"missing {name}"]}
        found[name] = about | {"distinct": distinct[name]}
        if name not in (*MEASURED, *COUNTED):
            found[name]["top"] = _top(listed[name] if name in listed else _counted(kept, name), name)
        if name in MEASURED and plain[f"least {name}"] is not None:
            found[name]["quantiles"] = {"0.0": plain[f"least {name}"], "1.0": plain[f"most {name}"]}
    drawn = kept
    if plain["rows"] > MOST_ROWS:
        drawn = pin(kept.select(*columns).sample(fraction=MOST_ROWS / plain["rows"], seed=0))
    _add_quantiles(drawn, kept, found)
    _add_cells(drawn, found, before or {})
    return found


def psi(before: Sequence[float], now: Sequence[float]) -> float:
    """Population stability index of two lists of counts over the same cells."""
    shares = [
        [max(count / max(sum(counts), 1), _LEAST_SHARE) for count in counts] for counts in (before, now)
    ]
    return sum((q - p) * math.log(q / p) for p, q in zip(*shares, strict=True))


def verdict(drift: float) -> str:
    return "major" if drift > MAJOR else "moderate" if drift > MODERATE else "stable"


def _columns(kept: DataFrame) -> list[str]:
    return [name for name in kept.columns if name in Event.BARE or name.startswith(Event.PROFILE)]


def _counted(kept: DataFrame, name: str) -> DataFrame:
    return kept.where(F.col(name).isNotNull()).groupBy(name).agg(F.count(F.lit(1)).alias(ROWS))


def _top(counted: DataFrame, name: str) -> list[list[Any]]:
    """[value, rows] of the most common values, without those that few rows have."""
    rows = counted.where(F.col(ROWS) >= LEAST_ROWS).orderBy(F.desc(ROWS), name).limit(NUM_TOP).collect()
    return [[row[name], row[ROWS]] for row in rows]


def _add_quantiles(drawn: DataFrame, kept: DataFrame, found: dict[str, Any]) -> None:
    """`quantiles` of numbers and times; of numbers also the `edges` of their cells. What so few rows have
    that none of them was drawn is told of all rows.
    """
    names = [name for name, about in found.items() if "quantiles" in about]
    picked = F.array(*[F.lit(q) for q in (*QUANTILES, *_DECILES)])
    asked = {name: F.percentile_approx(name, picked, _ACCURACY) for name in names}
    quantiles = measured(drawn, asked)
    quantiles |= measured(kept, {name: asked[name] for name in names if quantiles[name] is None})
    for name in names:
        told = dict(zip(map(str, QUANTILES), quantiles[name], strict=False))
        found[name]["quantiles"] = told | found[name]["quantiles"]
        if name in NUMBERS:
            found[name]["edges"] = sorted(set(quantiles[name][len(QUANTILES) :]))


def _add_cells(drawn: DataFrame, found: dict[str, Any], before: Mapping[str, Any]) -> None:
    """`cells`: rows by the column's own cells, for the version after; `psi`: over those of the one before."""
    measures: dict[str, SparkColumn] = {}
    for name, about in found.items():
        own, old = about, before.get(name, {})
        measures |= {f"own {name} {c}": F.count_if(cell) for c, cell in enumerate(_cells(name, own))}
        measures |= {f"old {name} {c}": F.count_if(cell) for c, cell in enumerate(_cells(name, old))}
    row = measured(drawn, measures)
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
