"""Figures of long-term value: spend, retention and conversion of users with a history at the cut.

Legend: U users, H horizons, J hazard bins, S draws.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recsys.baselines.boosted_trees import WatchedCuts
from recsys.baselines.interactions import Interactions
from recsys.data.cut_tables import CutTable
from recsys.evaluation.challengers import challengers, watched_horizons
from recsys.evaluation.ranking import OWN_MODEL, Figure
from recsys.evaluation.value_groups import Assessed, UserGroups, cohort_curves, curves, group_figures
from recsys.metrics.calibration import brier, expected_calibration_error, roc_auc
from recsys.metrics.interval import bootstrap, mean_interval, paired_statistic_difference
from recsys.metrics.noise_floor import noise_floor, redrawn_from_law, redrawn_from_ratios
from recsys.metrics.predictive import is_covered, ks_distance, pit_histogram, pit_of_draws
from recsys.metrics.statistic import Statistic
from recsys.metrics.value import (
    decile_mape,
    decile_table,
    lift_at_10_percent,
    normalised_gini,
    spearman,
    total_bias,
)
from recsys.nn.value_heads import ValueHeadsConfig
from recsys.report.content import FLOOR

_SPEND = {
    "gini": normalised_gini,
    "spearman": spearman,
    "lift_at_10_percent": lift_at_10_percent,
    "decile_mape": decile_mape,
    "total_bias": total_bias,
}
_CHANCE = {"auc": roc_auc, "brier": brier, "ece": expected_calibration_error}
_RANK_ONLY = {"gini", "spearman", "lift_at_10_percent"}
_LEVELS = (0.9, 0.5)
_MIN_USERS = 10  # for tenths of them


@dataclass(frozen=True)
class Estimates:
    """Aligned with the rows of the cut table; None without that head.

    spend_draws: float32 (U, H, S), draws of cumulative spend from the predictive law; None without one.
    """

    spend_UH: np.ndarray | None
    return_UJ: np.ndarray | None
    conversion_U: np.ndarray | None
    spend_draws: np.ndarray | None = None


@dataclass
class ValueResult:
    """notes: which baselines are left out, and why; the rest as recsys.report.content.Report has it."""

    figures: dict[str, Figure] = field(default_factory=dict)
    decile_tables: dict[int, list[dict[str, float]]] = field(default_factory=dict)
    pit_histograms: dict[int, list[int]] = field(default_factory=dict)
    spend_curve: list[dict[str, float]] = field(default_factory=list)
    retention_curve: list[dict[str, float]] = field(default_factory=list)
    cohort_curves: list[dict[str, Any]] = field(default_factory=list)
    value_groups: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def value_figures(
    *,
    table: CutTable,
    estimates: Estimates,
    horizons_days: list[int],
    config: ValueHeadsConfig,
    interactions: Interactions,
    past: WatchedCuts,
    groups: UserGroups,
) -> ValueResult:
    """Every head against its challengers; a horizon counts only where it was observed to its end.

    `past`: the users of earlier cuts, as far as they were watched before this one. A challenger that this
    data cannot fit is left out, and a note says so.
    """
    result = ValueResult()
    has_history_U = table.prefix_length > 0
    known_UH = watched_horizons(table, horizons_days) & has_history_U[:, None]
    rivals = challengers(
        interactions=interactions,
        past=past,
        activity_UA=table.activity,
        horizons_days=horizons_days,
        has_value=config.has_value,
    )
    result.notes = rivals.notes
    for h, days in enumerate(horizons_days):
        known_U = known_UH[:, h]
        if not known_U.any():
            continue
        if estimates.spend_UH is not None and config.has_value:
            actual_U, own_U = table.spend[known_U, h], estimates.spend_UH[known_U, h]
            for metric, statistic in _SPEND.items():
                others_UH = rivals.by_rank if metric in _RANK_ONLY else rivals.in_money
                models = {OWN_MODEL: own_U} | _of(others_UH, known_U, h)
                _add(result, f"value/{days}d/{metric}", statistic, actual_U, models)
            draws_US = None if estimates.spend_draws is None else estimates.spend_draws[known_U, h]
            _add_floor(result, days, actual_U, own_U, draws_US)
            if draws_US is not None:
                _add_coverage(result, days, pit_of_draws(actual_U, draws_US))
        if estimates.return_UJ is not None and days in config.bin_ends_days:
            returned_U = (table.num_active_days[known_U, h] > 0).astype(np.float64)
            own_U = estimates.return_UJ[known_U, config.bin_ends_days.index(days)]
            models = {OWN_MODEL: own_U} | _of(rivals.returns, known_U, h)
            _add_chance(result, f"retention/{days}d", returned_U, models)
        if estimates.conversion_U is not None and h == 0:
            bought_U = (table.num_purchases[known_U, 0] > 0).astype(np.float64)
            first = {name: chance_U[:, None] for name, chance_U in rivals.purchase.items()}
            models = {OWN_MODEL: estimates.conversion_U[known_U]} | _of(first, known_U, 0)
            _add_chance(result, f"conversion/{days}d", bought_U, models)
    assessed = Assessed(
        table=table,
        known_UH=known_UH,
        spend_UH=estimates.spend_UH if config.has_value else None,
        return_UJ=estimates.return_UJ,
        spend_draws=estimates.spend_draws,
        horizons_days=horizons_days,
        bin_ends_days=config.bin_ends_days,
    )
    result.spend_curve, result.retention_curve = curves(assessed, has_history_U)
    result.cohort_curves = cohort_curves(assessed, groups, has_history_U)
    figures, result.value_groups = group_figures(assessed, groups)
    result.figures |= figures
    return result


def watched_horizon(table: CutTable, horizons_days: list[int]) -> int | None:
    """Place of the longest horizon that every user with a history was watched through; None without one."""
    users = table.prefix_length > 0
    watched_UH = watched_horizons(table, horizons_days)
    whole = [h for h in range(len(horizons_days)) if users.any() and watched_UH[users, h].all()]
    return max(whole, key=lambda h: horizons_days[h], default=None)


def _of(by_name_UH: dict[str, np.ndarray], known_U: np.ndarray, h: int) -> dict[str, np.ndarray]:
    """Those that say something about this horizon."""
    found = {name: values_UH[known_U, h] for name, values_UH in by_name_UH.items()}
    return {name: values_U for name, values_U in found.items() if np.isfinite(values_U).all()}


def _add_chance(result: ValueResult, name: str, actual_U: np.ndarray, models: dict[str, np.ndarray]) -> None:
    """Nothing where all or none did it: there is no one to tell apart."""
    if 0 < actual_U.mean() < 1:
        for metric, statistic in _CHANCE.items():
            _add(result, f"{name}/{metric}", statistic, actual_U, models)


def _add(
    result: ValueResult, name: str, statistic: Statistic, actual_U: np.ndarray, models: dict[str, np.ndarray]
) -> None:
    """Each model with its interval, and the own one minus each other; of biases, the difference of sizes."""
    compared = _size_of_bias if statistic is total_bias else statistic
    for model, predicted_U in models.items():
        interval = bootstrap(statistic, actual_U, predicted_U)
        result.figures[f"{name}/{model}"] = {**interval.as_dict(), "n": len(actual_U)}
        if model != OWN_MODEL:
            difference = paired_statistic_difference(compared, actual_U, models[OWN_MODEL], predicted_U)
            figure = {**difference.as_dict(), "n": len(actual_U)}
            result.figures[f"{name}/{OWN_MODEL}_minus_{model}"] = figure


@functools.partial(Statistic, centred=True)
def _size_of_bias(actual_U: np.ndarray, predicted_U: np.ndarray, weight_RU: np.ndarray) -> np.ndarray:
    return np.abs(total_bias.resampled(actual_U, predicted_U, weight_RU=weight_RU))


def _add_floor(
    result: ValueResult, days: int, actual_U: np.ndarray, own_U: np.ndarray, draws_US: np.ndarray | None
) -> None:
    """Decile error and size of the bias of a perfect predictor; the tenths with the range it would show."""
    num_users = len(actual_U)
    if num_users < _MIN_USERS:
        return
    outcomes_NU = redrawn_from_ratios(actual_U, own_U) if draws_US is None else redrawn_from_law(draws_US)
    for metric in ("decile_mape", "total_bias"):
        floor = noise_floor(_SPEND[metric], own_U, outcomes_NU)
        figure = {"value": floor.mean, "low": floor.low, "high": floor.high}
        finite = {key: value if np.isfinite(value) else None for key, value in figure.items()}
        result.figures[f"value/{days}d/{metric}/{FLOOR}"] = {**finite, "n": num_users}
    real = decile_table(actual_U, own_U)
    redrawn_NQ = np.stack([decile_table(outcome_U, own_U).mean_actual for outcome_U in outcomes_NU])
    low_Q, high_Q = np.quantile(redrawn_NQ, [0.05, 0.95], axis=0)
    rows = zip(real.num_users, real.mean_predicted, real.mean_actual, low_Q, high_Q, strict=True)
    result.decile_tables[days] = [
        {"n": int(n), "predicted": float(p), "actual": float(a), "low": float(low), "high": float(high)}
        for n, p, a, low, high in rows
    ]


def _add_coverage(result: ValueResult, days: int, pit_U: np.ndarray) -> None:
    """How often the law's central intervals held the outcome, and how far its PIT is from uniform."""
    figures = {
        f"coverage{level:.0%}".rstrip("%"): mean_interval(is_covered(pit_U, level)) for level in _LEVELS
    }
    figures["pit_ks"] = bootstrap(ks_distance, pit_U)
    for metric, interval in figures.items():
        result.figures[f"value/{days}d/{metric}/{OWN_MODEL}"] = {**interval.as_dict(), "n": len(pit_U)}
    result.pit_histograms[days] = pit_histogram(pit_U).tolist()
