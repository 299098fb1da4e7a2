"""Figures of long-term value: spend, retention and conversion of users with a history at the cut.

Legend: U users, H horizons, J hazard bins.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from recsys.baselines.interactions import Interactions
from recsys.baselines.value import BgNbdGammaGamma, PastSpend
from recsys.data.tables import CutTable
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
    """Aligned with the rows of the cut table; None without that head."""

    spend_UH: np.ndarray | None
    return_UJ: np.ndarray | None
    conversion_U: np.ndarray | None


@dataclass
class ValueResult:
    figures: dict[str, Figure] = field(default_factory=dict)
    decile_tables: dict[int, list[dict[str, float]]] = field(default_factory=dict)
    spend_curve: list[dict[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    retention_curve: list[dict[str, float]] = field(default_factory=list)


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
    past = PastSpend(interactions=interactions)
    btyd_UH, chance_UH = _bought_till_dead(interactions, horizons_days, result, config.has_value)
    observed = [
        h for h, days in enumerate(horizons_days) if days <= table.observed_days[users].max(initial=0) + 1e-6
    ]
    past_UH = past.spend(horizons_days)
    for h in observed:
        days = horizons_days[h]
        known = users & np.isfinite(table.spend[:, h]) & (table.observed_days >= days - 1e-6)
        if estimates.spend_UH is not None and config.has_value:
            actual_U = table.spend[known, h]
            predicted = {OWN_MODEL: estimates.spend_UH[known, h]} | _at(btyd_UH, known, h)
            by_rank = {**predicted, "past_spend": past.score()[known]}
            in_money = {**predicted, "past_spend": past_UH[known, h]}
            for metric, statistic in _SPEND.items():
                models = by_rank if metric in _RANK_ONLY else in_money
                _add(result, f"value/{days}d/{metric}", statistic, actual_U, models)
            _add_curves(result, days, actual_U, predicted[OWN_MODEL])
        if estimates.return_UJ is not None:
            returned_U = (table.num_active_days[known, h] > 0).astype(np.float64)
            at = config.bin_ends_days.index(days) if days in config.bin_ends_days else None
            if at is not None and 0 < returned_U.mean() < 1:
                models = {OWN_MODEL: estimates.return_UJ[known, at]} | _at(chance_UH, known, h)
                for metric, statistic in _CHANCE.items():
                    _add(result, f"retention/{days}d/{metric}", statistic, returned_U, models)
        if h == 0 and estimates.conversion_U is not None:
            bought_U = (table.num_purchases[known, 0] > 0).astype(np.float64)
            if 0 < bought_U.mean() < 1:
                models = {OWN_MODEL: estimates.conversion_U[known]} | _at(chance_UH, known, 0)
                for metric, statistic in _CHANCE.items():
                    _add(result, f"conversion/{days}d/{metric}", statistic, bought_U, models)
    if estimates.return_UJ is not None:
        result.retention_curve = _retention_curve(table, users, estimates.return_UJ, config.bin_ends_days)
    return result


def _bought_till_dead(
    interactions: Interactions, horizons_days: list[int], result: ValueResult, has_value: bool
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Spend and chance of a purchase, both (U, H), of BG/NBD + Gamma-Gamma; None where not to be fitted."""
    spend_UH = chance_UH = None
    try:
        model = BgNbdGammaGamma(interactions=interactions)
        chance_UH = model.probability_of_purchase(horizons_days)
        if has_value:
            spend_UH = model.spend(horizons_days)
    except InputError as error:
        what = "BG/NBD" if chance_UH is None else "Gamma-Gamma"
        result.notes.append(f"{what} is left out of the baselines: {str(error).split(';')[0]}")
    return spend_UH, chance_UH


def _at(values_UH: np.ndarray | None, known_U: np.ndarray, h: int) -> dict[str, np.ndarray]:
    return {} if values_UH is None else {"bg_nbd_gamma_gamma": values_UH[known_U, h]}


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
