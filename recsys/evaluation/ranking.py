"""Ranking figures of the model and the baselines over the whole catalogue, view by view.

Legend: U users of a view, B users of a chunk, V items, K ranks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from recsys.baselines.ranking import Ranker
from recsys.data.tables import Items
from recsys.evaluation.scoring import ScoredUsers
from recsys.evaluation.view_ranker import RankedUsers, ViewRanker
from recsys.evaluation.views import View
from recsys.metrics.beyond_accuracy import catalogue_coverage, intra_list_diversity, novelty
from recsys.metrics.interval import mean_intervals, paired_difference
from recsys.metrics.ragged import Ragged
from recsys.metrics.ranking import ranking_metrics

OWN_MODEL = "aurm"
KS = (10, 50)
COVERAGE_KS = (1, 5, 10, 20, 50)
Figure = dict[str, float | int | None]


@dataclass
class RankedViews:
    """ranked[view][model]: (U, 50) item_index in the order of the view's rows, filled chunk by chunk;
    own_score[view]: (U, 50) logits of the model at its items."""

    views: list[View]
    models: list[str]
    ranked: dict[str, dict[str, np.ndarray]] = field(init=False)
    own_score: dict[str, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        self.ranked = {
            view.name: {model: np.zeros((len(view.rows), max(KS)), np.int64) for model in self.models}
            for view in self.views
        }
        self.own_score = {view.name: np.zeros((len(view.rows), max(KS)), np.float32) for view in self.views}

    def add(self, model: str, found: RankedUsers, rows: np.ndarray) -> None:
        """Ranks of a chunk's users, whose rows of the cut table are these."""
        at = np.searchsorted(found.view.rows, rows[found.inside_B])
        self.ranked[found.view.name][model][at] = found.item_BK
        if model == OWN_MODEL:
            self.own_score[found.view.name][at] = found.score_BK


def rank_all(
    *, chunks: Iterator[ScoredUsers], baselines: list[Ranker], views: list[View], seen: Ragged
) -> tuple[RankedViews, list[ScoredUsers]]:
    """One pass over the users: the model's and the baselines' top 50 in every view.

    The chunks come back without their item scores: vectors and value estimates are small.
    """
    result = RankedViews(views, [OWN_MODEL, *(b.name for b in baselines)])
    ranker, kept = ViewRanker(views, seen), []
    for chunk in chunks:
        kept.append(dataclasses.replace(chunk, score_BV=np.zeros((0, 0), np.float32), linear=None))
        for found in ranker.ranked(chunk):
            result.add(OWN_MODEL, found, chunk.rows)
        for baseline in baselines:
            scored = dataclasses.replace(chunk, score_BV=baseline.scores(chunk.rows), linear=None)
            for found in ranker.ranked(scored):
                result.add(baseline.name, found, chunk.rows)
    return result, kept


def ranking_figures(result: RankedViews) -> tuple[dict[str, Figure], dict[str, np.ndarray]]:
    """(figures `ranking/<view>/<metric>/<model>` with intervals and paired differences to every baseline,
    the model's NDCG@10 per user of each view)."""
    figures: dict[str, Figure] = {}
    own_ndcg: dict[str, np.ndarray] = {}
    for view in result.views:
        if not len(view.rows):
            continue
        per_user = {
            model: ranking_metrics(ranked_UK=ranked_UK, targets=view.targets, ks=KS)
            for model, ranked_UK in result.ranked[view.name].items()
        }
        own_ndcg[view.name] = per_user[OWN_MODEL]["ndcg@10"]
        num_users = len(view.rows)
        for model, metrics in per_user.items():
            for metric, interval in mean_intervals(metrics).items():
                figures[f"ranking/{view.name}/{metric}/{model}"] = {**interval.as_dict(), "n": num_users}
            if model == OWN_MODEL:
                continue
            for metric, values_U in metrics.items():
                difference = paired_difference(per_user[OWN_MODEL][metric], values_U)
                name = f"ranking/{view.name}/{metric}/{OWN_MODEL}_minus_{model}"
                figures[name] = {**difference.as_dict(), "n": num_users}
    return figures, own_ndcg


def beyond_figures(
    result: RankedViews, *, items: Items, vectors_VS: np.ndarray
) -> tuple[dict[str, Figure], list[dict[str, object]]]:
    """(coverage, intra-list diversity and novelty of the first view, coverage by list length).

    Coverage of a resample is biased downwards (it holds fewer users), so it comes without an interval.
    """
    view = result.views[0]
    figures: dict[str, Figure] = {}
    curve: list[dict[str, object]] = []
    if not len(view.rows):
        return figures, curve
    num_items = len(items.popularity) - 1
    for model, ranked_UK in result.ranked[view.name].items():
        for k in KS:
            share = catalogue_coverage(ranked_UK=ranked_UK, num_items=num_items, k=k)
            figures[f"beyond/coverage@{k}/{model}"] = {"value": share, "low": None, "high": None}
            means = mean_intervals(
                {
                    f"ild@{k}": intra_list_diversity(ranked_UK=ranked_UK, vectors_VD=vectors_VS, k=k),
                    f"novelty@{k}": novelty(ranked_UK=ranked_UK, popularity_V=items.popularity, k=k),
                }
            )
            figures |= {f"beyond/{name}/{model}": interval.as_dict() for name, interval in means.items()}
        curve += [
            {
                "k": k,
                "model": model,
                "share": catalogue_coverage(ranked_UK=ranked_UK, num_items=num_items, k=k),
            }
            for k in COVERAGE_KS
        ]
    return figures, curve
