"""What the detector found, as checks of the gate and as lines for people."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from recsys.schema import UserNumeric
from spark_jobs.gate import Check, Thresholds, checked
from spark_jobs.leaks.future import FutureChanges
from spark_jobs.leaks.labels import Told

LEAK, ABOVE, AT_CHANCE, COMPUTED = "leak", "above chance", "at chance", "of the past itself"
NO_MORE_THAN_CHANCE = 0.5
_MOST_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One row of the table. `of`: users or items; `rows`: of the sample; `undated`: without a date."""

    name: str
    of: str
    rows: int
    undated: bool
    beyond: float
    alone: float
    low: float
    high: float
    verdict: str

    @property
    def sure(self) -> float:
        """`beyond`, less what chance reaches in a sample of this size: what the bound is for."""
        return _sure(self.beyond, self.high)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """`future`: None where nothing was mixed; `notes`: what was left out, and why."""

    features: Sequence[Feature] = ()
    future: FutureChanges | None = None
    notes: Sequence[str] = field(default_factory=tuple)

    def shown(self) -> dict[str, Any]:
        """For quality.json."""
        future = None if self.future is None else asdict(self.future)
        features = [asdict(feature) for feature in self.features]
        return {"features": features, "future": future, "notes": list(self.notes)}


def features_of(
    told: Mapping[str, Told], *, of: str, rows: int, undated: Sequence[str], most: float | None
) -> list[Feature]:
    """Undated ones first, each with its verdict; what is computed from dated events cannot be undated."""
    return [
        Feature(
            name=name,
            of=of,
            rows=rows,
            undated=name in undated,
            verdict=_verdict(one, undated=name in undated, most=most),
            **asdict(one),
        )
        for name, one in told.items()
    ]


def checks_of(findings: Findings, thresholds: Thresholds) -> list[Check]:
    """Those that have a bound and were looked at."""
    values: dict[str, float] = {}
    if findings.future is not None:
        values["max_future_changes"] = sum(findings.future.changed.values())
    if findings.features:
        sure = [one.sure for one in findings.features if one.undated]
        values["max_feature_auc"] = max([NO_MORE_THAN_CHANCE, *sure])
        values["max_chance_gap"] = max(
            max(one.low - NO_MORE_THAN_CHANCE, NO_MORE_THAN_CHANCE - one.high, 0.0)
            for one in findings.features
        )
    bounds = {name: getattr(thresholds, name) for name in values}
    return [checked(name, values[name], bound) for name, bound in bounds.items() if bound is not None]


def remedies(findings: Findings, failed: Sequence[str], *, droppable: Collection[str]) -> str:
    """What to do about the failed checks, to end a line with. `droppable`: names for features.drop."""
    told = []
    if "max_future_changes" in failed and findings.future is not None:
        names = list(findings.future.changed)
        told.append(
            f"what comes after the validation cut changes {_some(names)} at it: let no SQL of `columns` or"
            f" `events.computed` look at other rows{_drop_of(names, droppable)}"
        )
    leaks = [feature.name for feature in findings.features if feature.verdict == LEAK]
    of_graph = [name for name in leaks if name in UserNumeric.GRAPH and name not in droppable]
    leaks = [name for name in leaks if name not in of_graph]
    if "max_feature_auc" in failed and of_graph:
        told.append(
            f"{', '.join(of_graph)} tells what came after the validation cut: name in graph.timestamp when"
            " each edge began, or leave `graph` out"
        )
    if "max_feature_auc" in failed and leaks:
        told.append(
            f"{', '.join(leaks)} tells what came after the validation cut: give it a date (a column of the"
            f" events, as known at each), or leave it out with features.drop: [{', '.join(leaks)}]"
        )
    if "max_chance_gap" in failed:
        told.append("shuffled labels are told better or worse than by chance, a fault of this check itself")
    return "".join(f"; {line}" for line in told)


def _drop_of(changed: Sequence[str], droppable: Collection[str]) -> str:
    """What features.drop can do about it. `changed`: with the table's name before a dot, or `events`."""
    bare = {name: name.partition(".")[2] for name in changed}
    can = [name for name in bare.values() if name in droppable]
    cannot = [name for name in changed if bare[name] not in droppable]
    if not can:
        return f" ({_some(cannot)} cannot be dropped)"
    rest = f" ({_some(cannot)} cannot be)" if cannot else ""
    return f", or leave out what may be with features.drop: [{', '.join(can)}]{rest}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _verdict(told: Told, *, undated: bool, most: float | None) -> str:
    if not undated:
        return COMPUTED
    if told.beyond <= told.high:
        return AT_CHANCE
    return LEAK if most is not None and _sure(told.beyond, told.high) > most else ABOVE


def _sure(beyond: float, high: float) -> float:
    return beyond - max(high - NO_MORE_THAN_CHANCE, 0.0)
