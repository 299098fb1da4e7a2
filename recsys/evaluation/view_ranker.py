"""The model's best items in each view, chunk by chunk of users.

Legend: B users of a chunk, V items (row 0 is padding), K ranks, O own items of a user.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from recsys.evaluation.best_items import BestFinder
from recsys.evaluation.scoring import ScoredUsers
from recsys.evaluation.views import MAX_RANK, View, shuffled, top_ranked
from recsys.metrics.ragged import Ragged
from recsys.nn.user_model import LinearScores


@dataclass(frozen=True)
class RankedUsers:
    """inside_B: bool, which users of a chunk are in the view; of those, by falling score, item_BK: int64,
    0 where candidates run out, and score_BK, -inf there."""

    view: View
    inside_B: np.ndarray
    item_BK: np.ndarray
    score_BK: np.ndarray


class ViewRanker:
    """Ranks chunks of users: by all scores, or where a chunk brings their parts (of one model over one
    catalogue), streaming through the catalogue, a block of items at a time.

    Equal scores come in a fixed shuffle of items, so that a model that says nothing about them gains nothing
    from their order. Scores that are not numbers rank nothing.
    """

    def __init__(self, views: list[View], seen: Ragged) -> None:
        self.views, self._seen = views, seen
        self._shuffled: _Shuffled | None = None
        self._finders: dict[str, BestFinder] = {}

    def ranked(self, chunk: ScoredUsers) -> Iterator[RankedUsers]:
        """Of the views that some of the chunk's users are in."""
        linear = chunk.linear
        if linear is not None:
            self._shuffled = self._shuffled or _Shuffled(linear)
            linear = self._shuffled.renamed(linear)
        for view in self.views:
            inside_B = np.isin(chunk.rows, view.rows)
            if not inside_B.any():
                continue
            rows, seen = chunk.rows[inside_B], self._seen if view.hides_seen else None
            if linear is None:
                score_BV = chunk.score_BV[inside_B]
                item_BK = top_ranked(score_BV, candidate=view.candidate, seen=seen, rows=rows)
                score_BK = np.take_along_axis(score_BV, item_BK, axis=1)
                yield RankedUsers(view, inside_B, item_BK, np.where(item_BK > 0, score_BK, -np.inf))
            else:
                yield self._streamed(linear, view, inside_B, None if seen is None else seen.select(rows))

    def _streamed(
        self, linear: LinearScores, view: View, inside_B: np.ndarray, seen: Ragged | None
    ) -> RankedUsers:
        assert self._shuffled is not None
        order_V, place_V = self._shuffled.order_V, self._shuffled.place_V
        if view.name not in self._finders:
            shift_V = np.where(view.candidate, 0, -np.inf).astype(np.float32)
            self._finders[view.name] = BestFinder(shift_V=shift_V[order_V])
        found = np.zeros((inside_B.sum(), MAX_RANK), np.int64)
        score_BK = np.full(found.shape, -np.inf, np.float32)
        linear = linear.rows(torch.from_numpy(inside_B))
        told_B = self._shuffled.have_numbers(linear)
        if told_B.any():
            if seen is not None:
                seen = seen.select(told_B)
                seen = Ragged(seen.offsets, place_V[seen.values])
            best = self._finders[view.name].best(linear.rows(torch.from_numpy(told_B)), k=MAX_RANK, seen=seen)
            width = best.item_BN.shape[1]
            found[told_B, :width], score_BK[told_B, :width] = order_V[best.item_BN], best.score_BN
        return RankedUsers(view, inside_B, found, score_BK)


class _Shuffled:
    """The catalogue in another order, padding first. order_V: item at each place; place_V: of each item."""

    def __init__(self, linear: LinearScores) -> None:
        num_items = len(linear.term_V)
        shuffle_V = shuffled(num_items)
        self.order_V = np.r_[0, shuffle_V[shuffle_V > 0]]
        self.place_V = np.argsort(self.order_V)
        order = torch.from_numpy(self.order_V)
        self._item_VS, self._term_V = linear.item_VS.float().cpu()[order], linear.term_V.float().cpu()[order]
        lowest, highest = self._item_VS.aminmax()  # nan where there is any
        finite = lowest.isfinite() & highest.isfinite() & (self._term_V < torch.inf).all()
        self._items_are_numbers = bool(finite)

    def renamed(self, linear: LinearScores) -> LinearScores:
        """Items by their places."""
        item_QO = torch.from_numpy(self.place_V[linear.own.item_QO.cpu().numpy()])
        return linear._replace(
            item_VS=self._item_VS,
            term_V=self._term_V,
            own=linear.own._replace(item_QO=item_QO.to(linear.query_QS.device)),
        )

    def have_numbers(self, linear: LinearScores) -> np.ndarray:
        """bool (B,), users all of whose scores are numbers."""
        told_B: torch.Tensor = linear.query_QS.isfinite().all(1) & (linear.own_logit_QO < torch.inf).all(1)
        return told_B.cpu().numpy() & self._items_are_numbers
