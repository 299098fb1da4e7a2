"""A bundle on feature tables: every figure with its baselines, intervals and protocol."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recsys.bundle import Bundle, load_bundle
from recsys.bundle_fit import catalogue_for, check_fit, check_unseen
from recsys.data.cut_features import CutScaler
from recsys.data.cut_queries import training_cuts
from recsys.data.cut_tables import CutTable
from recsys.data.tables import FeatureTables
from recsys.evaluation.challengers import watched_cuts
from recsys.evaluation.rankers import ranking_baselines
from recsys.evaluation.ranking import (
    OWN_MODEL,
    Figure,
    RankedViews,
    beyond_figures,
    rank_all,
    ranking_figures,
)
from recsys.evaluation.scoring import ScoredUsers, item_vectors, score_users
from recsys.evaluation.value import Estimates, ValueResult, value_figures, watched_horizon
from recsys.evaluation.value_groups import user_groups
from recsys.evaluation.views import ranking_views, seen_and_targets
from recsys.known_events import interactions_until
from recsys.report import names
from recsys.schema import InputError, Split
from recsys.valuation.law import NUM_DRAWS


@dataclass(frozen=True)
class Evaluation:
    """figures by name ({value, low, high, n}); protocol: how they were taken; notes: what is switched off."""

    figures: dict[str, Figure]
    protocol: dict[str, Any]
    notes: list[str]
    verdicts: list[dict[str, Any]]
    value: ValueResult
    coverage_curve: list[dict[str, object]]
    ranked: RankedViews
    table: CutTable
    estimates: Estimates
    ndcg10: dict[str, np.ndarray]


def evaluate_bundle(
    *, bundle: Bundle, tables: FeatureTables, split: str, progress: bool = True, compares: bool = True
) -> Evaluation:
    """Score the users of a cut and compare with the baselines fitted on the same events. Without `compares`
    the model stands alone: what it told of each user, its ranking, and no figures of value.

    Raises InputError where the bundle does not fit the tables or has learned past the cut, and at `now`.
    """
    if split == Split.NOW:
        raise InputError(
            f"nothing has followed the cut {Split.NOW} that recommendations could be compared with; "
            f"evaluate at {Split.TEST} or {Split.VALIDATION}"
        )
    check_fit(bundle, tables)
    check_unseen(bundle, tables, split)
    table, items = tables.at_cut(split=split), tables.items(split)
    catalogue = catalogue_for(bundle, tables, split)
    seen, _ = seen_and_targets(tables, table)
    views = ranking_views(tables, table, items, known=items.in_training)
    interactions = interactions_until(tables, table)
    chunks = score_users(
        model=bundle.model,
        catalogue=catalogue,
        tables=tables,
        table=table,
        scaler=CutScaler(**bundle.scaler),
        calibration=bundle.calibration,
        num_draws=NUM_DRAWS if compares else 0,
        linear=bundle.model.is_linear,
        progress="scoring" if progress else None,
    )
    baselines = ranking_baselines(interactions) if compares else []
    ranked, kept = rank_all(chunks=chunks, baselines=baselines, views=views, seen=seen)
    estimates = estimates_of(kept, len(table.user_index))
    figures, ndcg10 = ranking_figures(ranked)
    beyond, curve = beyond_figures(
        ranked, items=items, vectors_VS=item_vectors(bundle.model, catalogue)[:, :-1]
    )
    value, notes = ValueResult(), []
    heads = bundle.model.value_heads
    if heads is None or not tables.is_time_split:
        notes.append("value parts are off: the data set has an order of events but no time and no money")
    elif compares:
        if not heads.config.has_value:
            notes.append(
                "value parts are off: the data set has no money; retention stays on, and conversion where "
                "there are purchases"
            )
        value = value_figures(
            table=table,
            estimates=estimates,
            horizons_days=tables.horizons_days,
            config=heads.config,
            interactions=interactions,
            past=watched_cuts(
                training_cuts(tables, fit_until=split, boundary=table.cut),
                tables.horizons_days,
                boundary=table.cut,
            ),
            groups=user_groups(tables, table, interactions),
        )
        notes += value.notes
        if heads.config.has_value and bundle.calibration is not None:
            note = bundle.calibration.note(tables.horizons_days)
            notes += [note] if note else []
    figures = {**figures, **beyond, **value.figures}
    return Evaluation(
        figures=figures,
        protocol=_protocol(bundle, tables, split, table, ranked),
        notes=notes,
        verdicts=_verdicts(figures, tables.horizons_days),
        value=value,
        coverage_curve=curve,
        ranked=ranked,
        table=table,
        estimates=estimates,
        ndcg10=ndcg10,
    )


def estimates_of(chunks: list[ScoredUsers], num_users: int) -> Estimates:
    """Value estimates of all chunks in the order of the cut table."""

    def gather(name: str) -> np.ndarray | None:
        parts = [getattr(chunk, name) for chunk in chunks]
        if not parts or parts[0] is None:
            return None
        out = np.full((num_users, *parts[0].shape[1:]), np.nan, parts[0].dtype)
        for chunk, part in zip(chunks, parts, strict=True):
            out[chunk.rows] = part
        return out

    return Estimates(gather("spend_BH"), gather("return_BJ"), gather("conversion_B"), gather("draws_BHS"))


def _protocol(
    bundle: Bundle, tables: FeatureTables, split: str, table: CutTable, ranked: RankedViews
) -> dict[str, Any]:
    metadata = tables.metadata
    cut, learned_until = (
        datetime.datetime.fromtimestamp(time, datetime.UTC).isoformat() if tables.is_time_split else None
        for time in (table.cut, bundle.trained_on["learned_until"])
    )
    return {
        "dataset": metadata["dataset"],
        "table_version": tables.version,
        "split": metadata["split"]["kind"],
        "scored_at": split,
        "cut": cut,
        "window_days": tables.window_days,
        "fit_until": bundle.trained_on["fit_until"],
        "learned_until": learned_until,
        "filter_seen": bool(metadata["filter_seen"]),
        "uses_request_time": False,  # no user vector knows how long ago the last event was
        "dated_facts": "popularity of items up to the cut, for the model and the baselines"
        if tables.is_time_split
        else None,
        "split_hash": metadata["split"]["hash"],
        "tie_key": metadata["tie_key"],
        "catalogue": "all items known at the cut; cold items are ranked among themselves",
        "num_candidates": {view.name: int(view.candidate.sum()) for view in ranked.views},
        "num_users": {view.name: len(view.rows) for view in ranked.views},
        "intervals": "95 %, bootstrap over users, 1,000 resamples; differences paired by user",
        "bundle": bundle.fingerprint,
        "git_commit": bundle.trained_on.get("git_commit"),
    }


def _verdicts(figures: dict[str, Figure], horizons_days: list[int]) -> list[dict[str, Any]]:
    """What the figures must show: the model above the best baseline, the paired lower bound above 0."""
    claims = [
        ("NDCG@10 over all items", "ranking/all/ndcg@10"),
        ("NDCG@10 over items not yet bought", "ranking/not_yet_bought/ndcg@10"),
    ]
    claims += (
        [(f"Gini of {max(horizons_days)}-day spend", f"value/{max(horizons_days)}d/gini")]
        if horizons_days
        else []
    )
    verdicts = []
    for label, prefix in claims:
        rivals = {
            name.rsplit("/", 1)[1]: figure["value"] or 0.0
            for name, figure in figures.items()
            if name.startswith(prefix + "/") and OWN_MODEL not in name.rsplit("/", 1)[1]
        }
        if not rivals:
            continue
        best = max(rivals, key=lambda name: rivals[name])
        own, difference = figures[f"{prefix}/{OWN_MODEL}"], figures[f"{prefix}/{OWN_MODEL}_minus_{best}"]
        if own["value"] is None or difference["value"] is None:  # nobody, or no spend, to judge it by
            continue
        detail = (
            f"{own['value']:.4f} against {rivals[best]:.4f}; difference {difference['value']:+.4f} "
            f"[{difference['low']:+.4f}, {difference['high']:+.4f}]"
        )
        met = bool((difference["low"] or 0.0) > 0)
        claim = f"{label}: above {names.model_in_text(best)}"
        verdicts.append({"claim": claim, "met": met, "detail": detail})
    return verdicts


@dataclass(frozen=True)
class BundlePerUser:
    """One bundle's figures for every user of a cut, as promotion judges them."""

    cut: int
    table_version: str
    split_hash: str
    user_index_U: np.ndarray
    ndcg10_U: np.ndarray
    horizon_days: int | None
    spend_actual_U: np.ndarray | None
    spend_predicted_U: np.ndarray | None


def per_user(*, bundle_dir: Path, tables_dir: Path, cut: int, split: str = "test") -> BundlePerUser:
    """NDCG@10 over all items, and spend at the longest horizon that was watched to its end, user by user."""
    tables = FeatureTables(tables_dir=tables_dir)
    bundle = load_bundle(bundle_dir)
    try:
        evaluation = evaluate_bundle(bundle=bundle, tables=tables, split=split, compares=False)
    except InputError as error:  # of two bundles, which
        raise type(error)(f"{bundle_dir.name}: {error}") from error
    table = evaluation.table
    ndcg10_U = np.full(len(table.user_index), np.nan)
    ndcg10_U[evaluation.ranked.views[0].rows] = evaluation.ndcg10["all"]
    spend_UH = evaluation.estimates.spend_UH
    horizon_days = actual_U = predicted_U = None
    if spend_UH is not None and tables.has_value:
        h = watched_horizon(table, tables.horizons_days)
        if h is None:
            actual_U, predicted_U = np.full(len(table.user_index), np.nan), spend_UH[:, 0]
        else:
            horizon_days, predicted_U = tables.horizons_days[h], spend_UH[:, h]
            actual_U = np.where(table.prefix_length > 0, table.spend[:, h], np.nan)
    return BundlePerUser(
        cut,
        tables.version,
        tables.metadata["split"]["hash"],
        table.user_index,
        ndcg10_U,
        horizon_days,
        actual_U,
        predicted_U,
    )
