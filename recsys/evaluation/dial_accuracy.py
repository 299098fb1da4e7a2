"""What turning the dial costs in accuracy, setting by setting.

A policy that remembers what it showed makes another list every day, and is judged by the day: on each of the
window with a target, by what had been shown before it. Without a memory one list is judged by the window.

Legend: B users of a chunk, V items, K ranks, C categories, A lists asked for.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.bundle import Bundle
from recsys.bundle_fit import catalogue_for
from recsys.data.cut_features import CutScaler
from recsys.data.cut_tables import CutTable
from recsys.data.tables import FeatureTables, Items
from recsys.evaluation.scoring import score_users
from recsys.evaluation.views import (
    View,
    candidate_scores,
    carried,
    category_of,
    ranking_views,
    seen_and_targets,
    targets_by_day,
)
from recsys.metrics.beyond_accuracy import catalogue_coverage
from recsys.metrics.interval import mean_interval, paired_difference
from recsys.metrics.ragged import Ragged
from recsys.metrics.ranking import hits, ranking_metrics
from recsys.policy.advantage import Advantage
from recsys.policy.dial import DialConfig
from recsys.policy.slates import DETERMINISTIC, PolicyConfig, draw_slates
from recsys.schema import SECONDS_PER_DAY

K = 10
_CANDIDATES = 200


@dataclass(frozen=True)
class Asked:
    """The lists that are judged: row_A, of the cut table, ascending; their targets; carried_AC: what the
    policy remembers when it makes them, None where it remembers nothing.
    """

    row_A: np.ndarray
    targets: Ragged
    carried_AC: np.ndarray | None


def accuracy_front(
    bundle: Bundle,
    tables: FeatureTables,
    split: str,
    advantage: Advantage,
    weight_U: np.ndarray,
    config: DialConfig,
) -> list[dict[str, Any]]:
    """A row a setting, dial 0 first: dial, ndcg@10, ndcg_loss against pure accuracy with its interval,
    value@10, coverage@10.
    """
    table, items = tables.at_cut(split=split), tables.items(split)
    seen, _ = seen_and_targets(tables, table)
    view = ranking_views(tables, table, items, known=items.in_training)[0]
    accuracy = PolicyConfig(kind=DETERMINISTIC, slate_size=K, num_candidates=_CANDIDATES)
    slates = dataclasses.replace(
        accuracy,
        category_penalty=config.category_penalty,
        category_memory_days=config.category_memory_days,
    )
    category_V = category_of(tables, items)
    asked = lists_asked_for(tables, table, items, view, policy=slates)
    plain = np.zeros((len(asked.row_A), K), np.int64)
    ranked = {dial: np.zeros((len(asked.row_A), K), np.int64) for dial in all_settings(config)}
    for chunk in score_users(
        model=bundle.model,
        catalogue=catalogue_for(bundle, tables, split),
        tables=tables,
        table=table,
        scaler=CutScaler(**bundle.scaler),
    ):
        at = np.flatnonzero(np.isin(asked.row_A, chunk.rows))
        if not len(at):
            continue
        rows = asked.row_A[at]
        order = np.argsort(chunk.rows)
        score_BV = candidate_scores(
            chunk.score_BV[order[np.searchsorted(chunk.rows[order], rows)]],
            candidate=view.candidate,
            seen=seen if view.hides_seen else None,
            rows=rows,
        )
        plain[at] = _slate(score_BV, accuracy, None, None)
        carried_BC = None if asked.carried_AC is None else asked.carried_AC[at]
        for dial, ranked_AK in ranked.items():
            turned_BV = advantage.scores(score_BV, weight_U[rows], dial=dial)
            ranked_AK[at] = _slate(turned_BV, slates, category_V, carried_BC)
    return _accuracy(plain, ranked, asked, np.nan_to_num(items.price), tables.num_items)


def all_settings(config: DialConfig) -> list[float]:
    """Those of the front, 0 first."""
    return [0.0, *sorted(set(config.settings))]


def lists_asked_for(
    tables: FeatureTables, table: CutTable, items: Items, view: View, *, policy: PolicyConfig
) -> Asked:
    """Of the view's users, one each; where the policy remembers one for every day with a target."""
    first_UC = carried(tables, items, policy=policy, at=table.cut)
    if first_UC is None:
        return Asked(view.rows, view.targets, None)
    row_A, day_A, targets = targets_by_day(tables, table, view)
    carried_AC = np.zeros((len(row_A), first_UC.shape[1]), np.float32)
    for day in np.unique(day_A).tolist():
        shown_UC = carried(tables, items, policy=policy, at=table.cut + day * SECONDS_PER_DAY)
        assert shown_UC is not None
        carried_AC[day_A == day] = shown_UC[table.user_index[row_A[day_A == day]]].toarray()
    return Asked(row_A, targets, carried_AC)


def _slate(
    score_BV: np.ndarray,
    config: PolicyConfig,
    category_V: np.ndarray | None,
    carried_BC: np.ndarray | None,
) -> np.ndarray:
    """(B, K) item_index, best first."""
    users_B = np.arange(len(score_BV))
    return draw_slates(
        scores_BV=score_BV,
        user_index_B=users_B,
        config=config,
        category_V=category_V,
        carried_BC=carried_BC,
    ).item_BK


def _accuracy(
    plain_AK: np.ndarray, ranked: dict[float, np.ndarray], asked: Asked, price_V: np.ndarray, num_items: int
) -> list[dict[str, Any]]:
    if not len(asked.row_A):
        return []
    base_U = ndcg_of_users(plain_AK, asked)
    base = float(base_U.mean())
    front = []
    for dial, ranked_AK in ranked.items():
        ndcg_U = ndcg_of_users(ranked_AK, asked)
        loss = paired_difference(base_U, ndcg_U).as_dict()
        front.append(
            {
                "dial": dial,
                f"ndcg@{K}": mean_interval(ndcg_U).value,
                "ndcg_loss": (loss["value"] or 0.0) / base if base > 0 else 0.0,
                "ndcg_loss_low": (loss["low"] or 0.0) / base if base > 0 else 0.0,
                "ndcg_loss_high": (loss["high"] or 0.0) / base if base > 0 else 0.0,
                f"value@{K}": _value_at(ranked_AK, asked, price_V),
                f"coverage@{K}": catalogue_coverage(ranked_UK=ranked_AK, num_items=num_items, k=K),
            }
        )
    return front


def ndcg_of_users(ranked_AK: np.ndarray, asked: Asked) -> np.ndarray:
    """(U,): NDCG@10, the mean of each user's lists."""
    ndcg_A = ranking_metrics(ranked_UK=ranked_AK, targets=asked.targets, ks=(K,))[f"ndcg@{K}"]
    _, user_A, count_U = np.unique(asked.row_A, return_inverse=True, return_counts=True)
    return np.bincount(user_A, weights=ndcg_A) / count_U


def _value_at(ranked_AK: np.ndarray, asked: Asked, price_V: np.ndarray) -> float:
    """Price of the hits / that of the dearest K targets, over all lists."""
    got = (hits(ranked_UK=ranked_AK, targets=asked.targets) * price_V[ranked_AK]).sum()
    best = sum(
        float(np.sort(price_V[asked.targets.row(k)])[::-1][:K].sum()) for k in range(asked.targets.num_rows)
    )
    return float(got) / best if best > 0 else 0.0
