"""Figures of long-term value: spend, retention and conversion of users with a history at the cut.

Legend: U users, H horizons, J hazard bins.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from recsys.baselines.interactions import Interactions
from recsys.baselines.value import BgNbdGammaGamma, BgNbdPurchases, PastSpend
from recsys.data.cut_tables import CutTable
from recsys.evaluation.ranking import OWN_MODEL, Figure
from recsys.metrics.calibration import brier, expected_calibration_error, roc_auc
from recsys.metrics.interval import bootstrap, paired_statistic_difference
from recsys.metrics.statistic import Statistic
from recsys.metrics.value import decile_mape, decile_table, normalised_gini, spearman, total_bias
from recsys.nn.value_heads import ValueHeadsConfig
from recsys.schema import InputError

_SPEND = {"gini": normalised_gini, "spearman": spearman, "decile_mape": decile_mape, "total_bias": total_bias}
_CHANCE = {"auc": roc_auc, "brier": brier, "ece": expected_calibration_error}
_RANK_ONLY = {"gini", "spearman"}


@dataclass(frozen=True)
class Estimates:
    """Aligned with the rows of the cut table; None without that head.

    spend_draws: float32 (U, H, S), S draws of each user's cumulative spend from the predictive law.
    """

    spend_UH: np.ndarray | None
    return_UJ: np.ndarray | None
    conversion_U: np.ndarray | None
    spend_draws: np.ndarray | None = None


@dataclass
class ValueResult:
    """notes: which baselines are left out, and why."""

    figures: dict[str, Figure] = field(default_factory=dict)
    decile_tables: dict[int, list[dict[str, float]]] = field(default_factory=dict)
    spend_curve: list[dict[str, float]] = field(default_factory=list)
    retention_curve: list[dict[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Baselines:
    """(U, H) by name: spend to order users by, spend in money, chance of a purchase; those that have data."""

    by_rank: dict[str, np.ndarray]
    in_money: dict[str, np.ndarray]
    chance: dict[str, np.ndarray]


def value_figures(
    *,
    table: CutTable,
    estimates: Estimates,
    horizons_days: list[int],
    config: ValueHeadsConfig,
    interactions: Interactions,
) -> ValueResult:
    """Every head against its baselines; a horizon counts only where it was observed to its end.

    A baseline that this data cannot fit is left out, and a note says so.
    """
    result = ValueResult()
    users = table.prefix_length > 0
    baselines = _baselines(interactions, horizons_days, has_value=config.has_value, notes=result.notes)

    for h, days in enumerate(horizons_days):
        known = users & _watched(table, h, days)
        if not known.any():
            continue
        if estimates.spend_UH is not None and config.has_value:
            actual_U, own_U = table.spend[known, h], estimates.spend_UH[known, h]
            for metric, statistic in _SPEND.items():
                others_UH = baselines.by_rank if metric in _RANK_ONLY else baselines.in_money
                models = {OWN_MODEL: own_U} | _of(others_UH, known, h)
                _add(result, f"value/{days}d/{metric}", statistic, actual_U, models)
            _add_curves(result, days, actual_U, own_U)
        if estimates.return_UJ is not None and days in config.bin_ends_days:
            returned_U = (table.num_active_days[known, h] > 0).astype(np.float64)
            own_U = estimates.return_UJ[known, config.bin_ends_days.index(days)]
            models = {OWN_MODEL: own_U} | _of(baselines.chance, known, h)
            _add_chance(result, f"retention/{days}d", returned_U, models)
        if estimates.conversion_U is not None and h == 0:
            bought_U = (table.num_purchases[known, 0] > 0).astype(np.float64)
            models = {OWN_MODEL: estimates.conversion_U[known]} | _of(baselines.chance, known, h)
            _add_chance(result, f"conversion/{days}d", bought_U, models)
    if estimates.return_UJ is not None:
        result.retention_curve = _retention_curve(table, users, estimates.return_UJ, config.bin_ends_days)
    return result


def watched_horizon(table: CutTable, horizons_days: list[int]) -> int | None:
    """Place of the longest horizon that every user with a history was watched through; None without one."""
    users = table.prefix_length > 0
    whole = [
        h for h, days in enumerate(horizons_days) if users.any() and _watched(table, h, days)[users].all()
    ]
    return max(whole, key=lambda h: horizons_days[h], default=None)


def _watched(table: CutTable, h: int, days: int) -> np.ndarray:
    """(U,) whether the spend of this horizon is known to its end."""
    watched: np.ndarray = np.isfinite(table.spend[:, h]) & (table.observed_days >= days - 1e-6)
    return watched


def _baselines(
    interactions: Interactions, horizons_days: list[int], *, has_value: bool, notes: list[str]
) -> _Baselines:
    """Each fitted where its data is there; one that has none is left out with a note."""
    by_rank: dict[str, np.ndarray] = {}
    in_money: dict[str, np.ndarray] = {}
    chance: dict[str, np.ndarray] = {}
    purchases = None
    try:
        purchases = BgNbdPurchases(interactions=interactions)
        chance[purchases.name] = purchases.probability_of_purchase(horizons_days)
    except InputError as error:
        notes.append(f"retention and value stand without BG/NBD: {str(error).split(';')[0]}")
    if not has_value:
        return _Baselines(by_rank, in_money, chance)
    if purchases is not None:
        try:
            money = BgNbdGammaGamma(purchases=purchases)
            by_rank[money.name] = in_money[money.name] = money.spend(horizons_days)
        except InputError as error:
            notes.append(f"value stands without Gamma-Gamma: {str(error).split(';')[0]}")
    past = PastSpend(interactions=interactions)
    by_rank[past.name] = np.repeat(past.score()[:, None], len(horizons_days), axis=1)
    in_money[past.name] = past.spend(horizons_days)
    return _Baselines(by_rank, in_money, chance)


def _of(by_name_UH: dict[str, np.ndarray], known_U: np.ndarray, h: int) -> dict[str, np.ndarray]:
    return {name: values_UH[known_U, h] for name, values_UH in by_name_UH.items()}


def _add_chance(result: ValueResult, name: str, actual_U: np.ndarray, models: dict[str, np.ndarray]) -> None:
    """Nothing where all or none did it: there is no one to tell apart."""
    if 0 < actual_U.mean() < 1:
        for metric, statistic in _CHANCE.items():
            _add(result, f"{name}/{metric}", statistic, actual_U, models)


def _add(
    result: ValueResult, name: str, statistic: Statistic, actual_U: np.ndarray, models: dict[str, np.ndarray]
) -> None:
    for model, predicted_U in models.items():
        interval = bootstrap(statistic, actual_U, predicted_U)
        result.figures[f"{name}/{model}"] = {**interval.as_dict(), "n": len(actual_U)}
        if model != OWN_MODEL:
            difference = paired_statistic_difference(statistic, actual_U, models[OWN_MODEL], predicted_U)
            figure = {**difference.as_dict(), "n": len(actual_U)}
            result.figures[f"{name}/{OWN_MODEL}_minus_{model}"] = figure


def _add_curves(result: ValueResult, days: int, actual_U: np.ndarray, predicted_U: np.ndarray) -> None:
    result.spend_curve.append(
        {
            "horizon_days": days,
            "predicted_mean": float(predicted_U.mean()),
            "actual_mean": float(actual_U.mean()),
            "n": len(actual_U),
        }
    )
    if len(actual_U) < 10:
        return
    table = decile_table(actual_U, predicted_U)
    rows = zip(table.num_users, table.mean_predicted, table.mean_actual, strict=True)
    result.decile_tables[days] = [
        {"n": int(n), "predicted": float(p), "actual": float(a)} for n, p, a in rows
    ]


def _retention_curve(
    table: CutTable, users: np.ndarray, return_UJ: np.ndarray, bin_ends_days: tuple[int, ...]
) -> list[dict[str, float]]:
    curve = []
    for j, day in enumerate(bin_ends_days):
        known = users & (table.observed_days >= day - 1e-6)
        if known.any():
            actual = float((table.next_active_days[known] <= day).mean())
            predicted = float(return_UJ[known, j].mean())
            curve.append({"day": day, "predicted": predicted, "actual": actual, "n": int(known.sum())})
    return curve
