"""The few figures that a training run follows epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recsys.batch import Catalogue
from recsys.build import catalogue_at
from recsys.data.cut_features import CutScaler
from recsys.data.tables import FeatureTables
from recsys.evaluation.scoring import score_users
from recsys.evaluation.views import ranking_views, seen_and_targets, top_ranked
from recsys.metrics.ranking import ranking_metrics
from recsys.metrics.value import normalised_gini
from recsys.nn.user_model import UserModel

VIEWS = ("all", "not_yet_bought")


def quick_figures(
    *, model: UserModel, catalogue: Catalogue, tables: FeatureTables, split: str, scaler: CutScaler
) -> dict[str, float]:
    """NDCG@10 over all and not-yet-bought items, and the Gini of spend at the longest observed horizon."""
    table, items = tables.at_cut(split=split), tables.items(split)
    seen, _ = seen_and_targets(tables, table)
    views = [v for v in ranking_views(tables, table, items, known=items.in_training) if v.name in VIEWS]
    ndcg = {view.name: np.full(len(table.user_index), np.nan) for view in views}
    spend = None
    for chunk in score_users(model=model, catalogue=catalogue, tables=tables, table=table, scaler=scaler):
        for view in views:
            inside = np.isin(chunk.rows, view.rows)
            rows = chunk.rows[inside]
            if not len(rows):
                continue
            ranked_BK = top_ranked(
                chunk.score_BV[inside],
                candidate=view.candidate,
                seen=seen if view.hides_seen else None,
                rows=rows,
            )
            targets = view.targets.select(np.searchsorted(view.rows, rows))
            ndcg[view.name][rows] = ranking_metrics(ranked_UK=ranked_BK, targets=targets, ks=(10,))["ndcg@10"]
        if chunk.spend_BH is not None:
            spend = np.full(table.spend.shape, np.nan) if spend is None else spend
            spend[chunk.rows] = chunk.spend_BH
    figures = {f"ndcg@10/{name}": float(np.nanmean(values)) for name, values in ndcg.items()}
    if spend is not None:
        h = int(np.flatnonzero(np.isfinite(table.spend).any(0)).max(initial=0))
        known = np.isfinite(table.spend[:, h]) & (table.prefix_length > 0)
        if known.any():
            figures["gini"] = float(normalised_gini(table.spend[known, h], spend[known, h]))
    return figures


def epoch_evaluator(
    *, tables: FeatureTables, split: str, scaler: CutScaler
) -> Callable[[UserModel], dict[str, float]]:
    """A callable for the LightningModule."""
    catalogue = catalogue_at(tables, split)
    return lambda model: quick_figures(
        model=model, catalogue=catalogue, tables=tables, split=split, scaler=scaler
    )
