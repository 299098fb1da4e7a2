"""How much a model rests on each feature: one at a time is dealt out anew, and what is lost counts.

Permutation importance (Breiman 2001, section 10) of a trained model: a user feature goes to other users, an
item feature to other items, what an event tells to other events, so that its values and how often each
occurs stay and only their owners change (`permuting`). The model is not trained again: a feature that
repeats another one can look weaker here than it is.

Legend: U users, P permutations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from recsys.bundle import Bundle
from recsys.bundle_fit import catalogue_for, check_fit, check_unseen
from recsys.data.cut_features import CutScaler
from recsys.data.cut_tables import CutTable
from recsys.data.tables import FeatureTables
from recsys.evaluation.permuting import ACTIVITY, Feature, Inputs, features_of, inputs_of, permuted
from recsys.evaluation.quick import chunk_ndcg
from recsys.evaluation.scoring import score_users
from recsys.evaluation.value import watched_horizon
from recsys.evaluation.view_ranker import ViewRanker
from recsys.evaluation.views import ranking_views, seen_and_targets
from recsys.metrics.interval import bootstrap, mean_interval
from recsys.metrics.statistic import Statistic
from recsys.metrics.value import normalised_gini
from recsys.schema import Column, InputError
from recsys.settings import check_range

NDCG, GINI = "ndcg@10", "gini"
MEASURES = {NDCG: NDCG, GINI: "gini of spend"}  # as they are told


@dataclass(frozen=True, kw_only=True)
class ImportanceConfig:
    """`num_users`: of the cut, at most, evenly spaced; `seed`: of the permutations."""

    num_users: int = 2000
    num_permutations: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_users", "num_permutations"):
            check_range(f"importance.{name}", getattr(self, name), least=1)


@dataclass(frozen=True)
class Judged:
    """What the model did for each user of a cut table.

    ndcg_U: nan without a target; spend_U: expected money, None where no value is assessed.
    """

    ndcg_U: np.ndarray
    spend_U: np.ndarray | None = None


Judge = Callable[[Inputs], Judged]


def importances(
    judge: Judge,
    features: Sequence[Feature],
    *,
    inputs: Inputs,
    spend_U: np.ndarray | None,
    config: ImportanceConfig,
) -> dict[str, Any]:
    """What the model loses by each feature, the greatest loss first; `not_measured`: figures without users
    that tell them, and why. InputError where that is every figure.

    `spend_U`: actual money of each user, nan where it was not watched; None: value is not judged.
    """
    base = judge(inputs)
    whole = {NDCG: _finite_mean(base.ndcg_U), GINI: _gini(base, spend_U)}
    not_measured = _not_measured(whole, spend_U)
    if len(not_measured) == len(whole):
        why = "; ".join(f"{MEASURES[name]}: {reason}" for name, reason in not_measured.items())
        raise InputError(
            f"no importance can be measured at this cut ({why}); take another split, more users"
            " (importance.num_users) or newer tables"
        )
    rows = []
    for number, feature in enumerate(features):
        rngs = [np.random.default_rng((config.seed, number, p)) for p in range(config.num_permutations)]
        without = [judge(permuted(feature, inputs, rng)) for rng in rngs]
        rows.append(_row(feature, base, without, spend_U))
    rows.sort(key=lambda row: _share_lost(row, whole), reverse=True)
    noise = [row["name"] for row in rows if row["only_noise"]]
    return {
        "whole": whole,
        "not_measured": not_measured,
        "features": rows,
        "only_noise": noise,
        "candidates_for_drop": [row["name"] for row in rows if row["only_noise"] and row["can_be_dropped"]],
        "num_users": len(inputs.table.user_index),
    }


def bundle_importances(
    *, bundle: Bundle, tables: FeatureTables, split: str, config: ImportanceConfig
) -> dict[str, Any]:
    """Of a bundle at a cut. InputError where it does not fit the tables or has learned past the cut."""
    check_fit(bundle, tables)
    check_unseen(bundle, tables, split)
    table = tables.at_cut(split=split).thinned(config.num_users)
    horizon = watched_horizon(table, tables.horizons_days) if tables.has_value else None
    heads = bundle.model.value_heads
    spend_U = None
    if horizon is not None and heads is not None and heads.config.has_value:
        spend_U = np.where(table.prefix_length > 0, table.spend[:, horizon], np.nan)
    found = importances(
        _judge_of(bundle, tables, table, split, horizon if spend_U is not None else None),
        features_of(
            tables.metadata,
            activity_names=() if spend_U is None else tables.activity_names,
            event_columns=_event_columns(bundle, tables),
        ),
        inputs=inputs_of(
            table,
            catalogue_for(bundle, tables, split),
            tables.histories,
            max_length=bundle.model.config.max_length,
        ),
        spend_U=spend_U,
        config=config,
    )
    days = tables.horizons_days[horizon] if spend_U is not None and horizon is not None else None
    about = {"dataset": tables.metadata["dataset"], "table_version": tables.version, "scored_at": split}
    return {**about, "horizon_days": days, **asdict(config), **found}


def importance_lines(found: Mapping[str, Any]) -> list[str]:
    """The ranking for a terminal, and what to do about it."""
    lines = [f"{'feature':<18} {'of':<9} {'lost ' + MEASURES[NDCG]:<27} lost {MEASURES[GINI]}"]
    for row in found["features"]:
        told = [_interval_text(row[measure]) for measure in (NDCG, GINI)]
        lines.append(f"{row['name']:<18} {row['kind']:<9} {told[0]:<27} {told[1]}".rstrip())
    lines += [f"not measured: {MEASURES[name]} ({why})" for name, why in found["not_measured"].items()]
    not_judged = [row["name"] for row in found["features"] if row["only_noise"] is None]
    if not_judged:
        lines.append(f"neither useful nor noise, not judged: {', '.join(not_judged)}")
    if found["only_noise"]:
        lines.append(f"adds only noise here: {', '.join(found['only_noise'])}")
    if found["candidates_for_drop"]:
        names = ", ".join(found["candidates_for_drop"])
        lines.append(
            f"candidates for the data set's settings, to be trained without: features.drop: [{names}]"
        )
    return lines


def _judge_of(
    bundle: Bundle, tables: FeatureTables, table: CutTable, split: str, horizon: int | None
) -> Judge:
    items = tables.items(split)
    seen, _ = seen_and_targets(tables, table)
    views = ranking_views(tables, table, items, known=items.in_training)[:1]
    scaler = CutScaler(**bundle.scaler)

    def judge(inputs: Inputs) -> Judged:
        ndcg_U, ranker = np.full(len(table.user_index), np.nan), ViewRanker(views, seen)
        spend_U = None if horizon is None else np.full(len(table.user_index), np.nan)
        for chunk in score_users(
            model=bundle.model,
            catalogue=inputs.catalogue,
            tables=tables,
            table=inputs.table,
            histories=inputs.histories,
            scaler=scaler,
            calibration=bundle.calibration,
            linear=bundle.model.is_linear,
        ):
            ndcg_U[chunk.rows] = chunk_ndcg(chunk, ranker)[:, 0]
            if spend_U is not None and chunk.spend_BH is not None:
                spend_U[chunk.rows] = chunk.spend_BH[:, horizon]
        return Judged(ndcg_U, spend_U)

    return judge


def _row(
    feature: Feature, base: Judged, without: Sequence[Judged], spend_U: np.ndarray | None
) -> dict[str, Any]:
    """Losses with intervals over users; only noise where none of them lies above 0, None where none says
    anything of the feature: activity is read by the value heads alone."""
    lost_U = base.ndcg_U - np.mean([judged.ndcg_U for judged in without], axis=0)
    lost = {NDCG: mean_interval(lost_U).as_dict(), GINI: None}
    if spend_U is not None and base.spend_U is not None:
        known_U = np.isfinite(spend_U)
        others = [judged.spend_U[known_U] for judged in without if judged.spend_U is not None]
        interval = bootstrap(_GINI_LOST, spend_U[known_U], base.spend_U[known_U], *others)
        lost[GINI] = interval.as_dict()
    counted = [GINI] if feature.kind == ACTIVITY else [NDCG, GINI]
    lows = [one["low"] for one in (lost[measure] for measure in counted) if one is not None]
    above = [low > 0 for low in lows if low is not None]
    about = {"name": feature.name, "kind": feature.kind, "can_be_dropped": feature.can_be_dropped}
    return {**about, **lost, "only_noise": not any(above) if above else None}


def _event_columns(bundle: Bundle, tables: FeatureTables) -> list[str]:
    """What the model reads of events beside the item, the type, the time and the money."""
    config, flat = bundle.model.config, tables.histories
    told = {
        Column.DWELL_S: config.has_dwell and flat.dwell_s is not None,
        Column.QUERY: config.has_queries and flat.word_start is not None,
    }
    return [name for name, is_told in told.items() if is_told]


def _not_measured(whole: Mapping[str, float | None], spend_U: np.ndarray | None) -> dict[str, str]:
    """Why, by figure."""
    no_gini = "nobody was watched, or all who were spent the same"
    if spend_U is None:
        no_gini = "no money, no model of it or no horizon watched to its end"
    why = {NDCG: "no user has a target", GINI: no_gini}
    return {name: why[name] for name, value in whole.items() if value is None}


@Statistic
def _GINI_LOST(*arrays: np.ndarray) -> np.ndarray:
    """Gini by the model's own estimates, less the mean of it by those without a feature."""
    actual_U, own_U, *others, weight_RU = arrays
    lost = [normalised_gini.resampled(actual_U, other_U, weight_RU=weight_RU) for other_U in others]
    return normalised_gini.resampled(actual_U, own_U, weight_RU=weight_RU) - np.mean(lost, axis=0)


def _gini(base: Judged, spend_U: np.ndarray | None) -> float | None:
    if spend_U is None or base.spend_U is None:
        return None
    known_U = np.isfinite(spend_U)
    gini = normalised_gini(spend_U[known_U], base.spend_U[known_U])
    return float(gini) if np.isfinite(gini) else None


def _finite_mean(values_U: np.ndarray) -> float | None:
    finite_U = values_U[np.isfinite(values_U)]
    return float(finite_U.mean()) if len(finite_U) else None


def _share_lost(row: Mapping[str, Any], whole: Mapping[str, float | None]) -> float:
    """The greater of the shares of both figures that the feature carries."""
    parts = [(row[measure], whole[measure]) for measure in (NDCG, GINI)]
    return max(
        (lost["value"] / of for lost, of in parts if lost and lost["value"] is not None and of), default=0.0
    )


def _interval_text(lost: Mapping[str, float | None] | None) -> str:
    told = [] if lost is None else [f"{end:+.4f}" for end in lost.values() if end is not None]
    if len(told) < 3:
        return "-"
    value, low, high = told
    return f"{value} [{low}, {high}]"
