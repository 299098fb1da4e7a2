"""The few figures that a training run follows epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import numpy as np

from recsys.batch import Catalogue
from recsys.build import catalogue_at
from recsys.data.cut_features import CutScaler
from recsys.data.tables import FeatureTables
from recsys.evaluation.scoring import ScoredUsers, score_users
from recsys.evaluation.view_ranker import ViewRanker
from recsys.evaluation.views import ranking_views, seen_and_targets
from recsys.metrics.ranking import ranking_metrics
from recsys.metrics.value import normalised_gini
from recsys.nn.user_model import UserModel
from recsys.parallel.dealing import of_all_ranks, rank_and_world

VIEWS = ("all", "not_yet_bought")


def quick_figures(
    *, model: UserModel, catalogue: Catalogue, tables: FeatureTables, split: str, scaler: CutScaler
) -> dict[str, float]:
    """NDCG@10 over all and not-yet-bought items, and the Gini of spend at the longest observed horizon.

    Ranks share the users and all get the figures, which are those that one rank would find.
    """
    ndcg_U, spend_UH = figures_of_users(
        model=model, catalogue=catalogue, tables=tables, split=split, scaler=scaler
    )
    table = tables.at_cut(split=split)
    figures = {f"ndcg@10/{view}": float(np.nanmean(values)) for view, values in ndcg_U.items()}
    if spend_UH is not None:
        h = int(np.flatnonzero(np.isfinite(table.spend).any(0)).max(initial=0))
        known = np.isfinite(table.spend[:, h]) & (table.prefix_length > 0)
        if known.any():
            figures["gini"] = float(normalised_gini(table.spend[known, h], spend_UH[known, h]))
    return figures


def figures_of_users(
    *, model: UserModel, catalogue: Catalogue, tables: FeatureTables, split: str, scaler: CutScaler
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """By view the NDCG@10 of each user of the cut table (U,), nan where they are not in it, and the spend
    (U, H) that is expected of them, None where the model expects none. Ranks share the users.
    """
    table, items = tables.at_cut(split=split), tables.items(split)
    seen, _ = seen_and_targets(tables, table)
    views = [v for v in ranking_views(tables, table, items, known=items.in_training) if v.name in VIEWS]
    ranker = ViewRanker(views, seen)
    rank, world = rank_and_world()
    chunks = score_users(
        model=model,
        catalogue=catalogue,
        tables=tables,
        table=table,
        scaler=scaler,
        linear=model.is_linear,
        rank=rank,
        world=world,
    )
    mine = [(chunk.rows, chunk_ndcg(chunk, ranker), chunk.spend_BH) for chunk in chunks]
    ndcg_UW = np.full((len(table.user_index), len(views)), np.nan)
    spend_UH = None
    for rows, ndcg_BW, spend_BH in chain.from_iterable(of_all_ranks(mine)):
        ndcg_UW[rows] = ndcg_BW
        if spend_BH is not None:
            spend_UH = np.full(table.spend.shape, np.nan) if spend_UH is None else spend_UH
            spend_UH[rows] = spend_BH
    return {view.name: ndcg_UW[:, w] for w, view in enumerate(views)}, spend_UH


def chunk_ndcg(chunk: ScoredUsers, ranker: ViewRanker) -> np.ndarray:
    """(B, W) NDCG@10 of the chunk's users in each of the ranker's W views, nan where they are not in it."""
    ndcg = {view.name: np.full(len(chunk.rows), np.nan) for view in ranker.views}
    for found in ranker.ranked(chunk):
        view, inside_B = found.view, found.inside_B
        targets = view.targets.select(np.searchsorted(view.rows, chunk.rows[inside_B]))
        per_user = ranking_metrics(ranked_UK=found.item_BK, targets=targets, ks=(10,))
        ndcg[view.name][inside_B] = per_user["ndcg@10"]
    return np.stack(list(ndcg.values()), axis=1)


def epoch_evaluator(
    *, tables: FeatureTables, split: str, scaler: CutScaler
) -> Callable[[UserModel], dict[str, float]]:
    """A callable for the LightningModule."""
    catalogue = catalogue_at(tables, split)
    return lambda model: quick_figures(
        model=model, catalogue=catalogue, tables=tables, split=split, scaler=scaler
    )
