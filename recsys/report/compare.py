"""Figures by name -> comparisons: the own model beside its baselines, the best one, the paired difference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from recsys.report import names
from recsys.report.content import FLOOR, OWN_MODEL
from recsys.report.names import Better
from recsys.report.numbers import finite
from recsys.report.suppress import is_small

_MINUS = "_minus_"

_ASSESSED = ("value", "retention", "conversion")
_HEADLINES: dict[str, tuple[str, ...]] = {
    "ranking": ("hr@10", "ndcg@10"),
    "value": ("gini",),
    "retention": ("auc",),
    "conversion": ("auc",),
}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One value with its interval, which may be missing; withheld where too few people are behind it."""

    value: float | None
    low: float | None = None
    high: float | None = None
    is_withheld: bool = False

    @property
    def has_interval(self) -> bool:
        return self.low is not None and self.high is not None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One metric of one group. `difference` is own minus `difference_to`, paired where it has an interval.

    `outcome` is "better", "worse" or "unclear" by the paired interval, and empty where there is no interval
    or where the metric is not a goal. `differences` holds the paired ones to every model, `outcomes` theirs.
    `floor` is what a perfect predictor would show, its interval the middle nine in ten.
    """

    metric: str
    figures: Mapping[str, Figure]  # by model, the own one included
    best_model: str
    best_baseline: str
    difference: Figure | None
    difference_to: str
    outcome: str
    differences: Mapping[str, Figure] = field(default_factory=dict)
    outcomes: Mapping[str, str] = field(default_factory=dict)
    floor: Figure | None = None

    @property
    def own(self) -> Figure | None:
        return self.figures.get(OWN_MODEL)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Comparisons that share a table, such as all ranking metrics of one view."""

    key: tuple[str, ...]
    models: tuple[str, ...]  # the own model first, then in the order given
    comparisons: tuple[Comparison, ...]


def read_figure(row: Mapping[str, Any]) -> Figure:
    if is_small(row.get("n")):
        return Figure(value=None, is_withheld=True)
    return Figure(value=finite(row["value"]), low=finite(row.get("low")), high=finite(row.get("high")))


def groups(figures: Mapping[str, Mapping[str, Any]]) -> list[Group]:
    """Sort figures into groups, in the order in which the groups first appear."""
    nested: dict[tuple[str, ...], dict[str, dict[str, Figure]]] = {}
    for name, row in figures.items():
        *key, metric, model = name.split("/")
        if key:
            nested.setdefault(tuple(key), {}).setdefault(metric, {})[model] = read_figure(row)
    return [_group(key, by_metric) for key, by_metric in nested.items()]


def headline(figures: Mapping[str, Mapping[str, Any]]) -> list[tuple[Group, Comparison]]:
    """The few comparisons that stand at the top of the page and in the terminal."""
    return [
        (group, comparison)
        for group in groups(figures)
        for comparison in group.comparisons
        if comparison.metric in _HEADLINES.get(group.key[0], ()) and comparison.figures
    ]


def _group(key: tuple[str, ...], by_metric: Mapping[str, Mapping[str, Figure]]) -> Group:
    named = dict.fromkeys(model for by_model in by_metric.values() for model in by_model)
    models = [name for name in named if _is_model(name)]
    models.sort(key=lambda model: model != OWN_MODEL)
    ordered = sorted(by_metric, key=names.metric_order)
    return Group(
        key=key,
        models=tuple(models),
        comparisons=tuple(_comparison(metric, by_metric[metric]) for metric in ordered),
    )


def _comparison(metric: str, by_model: Mapping[str, Figure]) -> Comparison:
    better = names.metric(metric).better
    figures = {model: figure for model, figure in by_model.items() if _is_model(model)}
    best_baseline = _best((m for m in figures if m != OWN_MODEL), figures, better)
    differences = {
        model: by_model[name] for model in figures if (name := f"{OWN_MODEL}{_MINUS}{model}") in by_model
    }
    difference, difference_to = _difference(figures, differences, best_baseline, better)
    return Comparison(
        metric=metric,
        figures=figures,
        best_model=_best(figures, figures, better),
        best_baseline=best_baseline,
        difference=difference,
        difference_to=difference_to,
        outcome=_outcome(difference, better),
        differences=differences,
        outcomes={model: _outcome(figure, better) for model, figure in differences.items()},
        floor=by_model.get(FLOOR),
    )


def _is_model(name: str) -> bool:
    return _MINUS not in name and name != FLOOR


def _best(models: Iterable[str], figures: Mapping[str, Figure], better: Better) -> str:
    """Name of the best model with a value; empty where there is none or the metric is not a goal."""
    values = {model: value for model in models if (value := figures[model].value) is not None}
    if not values or better is Better.NEITHER:
        return ""
    if better is Better.HIGHER:
        return max(values, key=lambda model: values[model])
    return min(values, key=lambda model: abs(values[model]) if better is Better.ZERO else values[model])


def _difference(
    figures: Mapping[str, Figure], differences: Mapping[str, Figure], best_baseline: str, better: Better
) -> tuple[Figure | None, str]:
    """The paired difference to the best baseline; failing that the plain one, which has no interval."""
    if best_baseline in differences:
        return differences[best_baseline], best_baseline
    own, base = figures.get(OWN_MODEL), figures.get(best_baseline)
    if better is Better.ZERO or own is None or base is None or own.value is None or base.value is None:
        return None, ""
    return Figure(value=own.value - base.value), best_baseline


def _outcome(difference: Figure | None, better: Better) -> str:
    if difference is None or better is Better.NEITHER:
        return ""
    if difference.low is None or difference.high is None:
        return ""
    above, below = difference.low > 0, difference.high < 0
    if not (above or below):
        return "unclear"
    return "better" if above == (better is Better.HIGHER) else "worse"  # a bias is compared by its size


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A challenger of the value heads: figures ("Gini, 90 days") on which it is better or worse than the own
    model by the paired interval, and on which these users do not decide."""

    model: str
    better: tuple[str, ...]
    worse: tuple[str, ...]
    unclear: tuple[str, ...]


_MIRRORED = {"better": "worse", "worse": "better", "unclear": "unclear"}


def standings(figures: Mapping[str, Mapping[str, Any]]) -> list[Standing]:
    """Every challenger with paired differences, in the order in which they first appear."""
    found: dict[str, dict[str, list[str]]] = {}
    for group in groups(figures):
        if group.key[0] not in _ASSESSED:
            continue
        for comparison in group.comparisons:
            for model, outcome in comparison.outcomes.items():
                if outcome:
                    label = f"{names.metric(comparison.metric).label}, {_of_group(group)}"
                    found.setdefault(model, {}).setdefault(_MIRRORED[outcome], []).append(label)
    return [
        Standing(model=model, **{name: tuple(by.get(name, ())) for name in _MIRRORED})
        for model, by in found.items()
    ]


def _of_group(group: Group) -> str:
    head, days = group.key[0], names.days_label(group.key[-1])
    return days if head == "value" else f"{head} {days}"
