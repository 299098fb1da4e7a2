"""Streaming through the catalogue finds what sorting all scores finds, view by view."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from recsys.evaluation.scoring import ScoredUsers
from recsys.evaluation.view_ranker import ViewRanker
from recsys.evaluation.views import MAX_RANK, View
from recsys.metrics.ragged import Ragged
from tests.evaluation.test_best_items import NUM_ROWS, model, scored

SEEN = Ragged.from_lists([[1 + user % 7, 9 + user % 5] for user in range(22)])
KNOWN = np.arange(NUM_ROWS) % 4 > 0


def view(name: str, *, hides_seen: bool) -> View:
    """Of every other user."""
    rows = np.arange(0, 22, 2)
    return View(name, rows, Ragged.from_lists([[3]] * len(rows)), KNOWN, hides_seen)


def ranked(whole: ScoredUsers, *views: View) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By view the items and scores of its users in the order of rows, found eight users at a time."""
    ranker = ViewRanker(list(views), SEEN)
    item_UK = {view.name: np.full((22, MAX_RANK), -1) for view in views}
    score_UK = {view.name: np.zeros((22, MAX_RANK), np.float32) for view in views}
    for start in range(0, 22, 8):
        part = np.arange(start, min(start + 8, 22))
        linear = None if whole.linear is None else whole.linear.rows(torch.from_numpy(part))
        score_BV = whole.score_BV[part] if linear is None else whole.score_BV
        chunk = dataclasses.replace(whole, rows=whole.rows[part], score_BV=score_BV, linear=linear)
        for found in ranker.ranked(chunk):
            rows = chunk.rows[found.inside_B]
            item_UK[found.view.name][rows] = found.item_BK
            score_UK[found.view.name][rows] = found.score_BK
    return {view.name: (item_UK[view.name][view.rows], score_UK[view.name][view.rows]) for view in views}


@pytest.mark.parametrize("repeats", [False, True])
def test_parts_rank_as_all_scores_do(repeats: bool) -> None:
    made = model(repeats=repeats)
    views = [view("all", hides_seen=False), view("not_yet_bought", hides_seen=True)]
    whole, parts = (ranked(scored(made, linear=linear), *views) for linear in (False, True))
    for name in whole:
        np.testing.assert_array_equal(parts[name][0], whole[name][0])
        np.testing.assert_allclose(parts[name][1], whole[name][1], atol=1e-5)
    known = set(np.flatnonzero(KNOWN))
    for row, shown, unseen in zip(views[0].rows, parts["all"][0], parts["not_yet_bought"][0], strict=True):
        assert set(shown) == {0, *known}
        assert set(unseen) == {0, *known - set(SEEN.row(row))}


def test_equal_scores_come_in_no_order_of_items() -> None:
    chunk = scored(model(), linear=True)
    assert chunk.linear is not None
    nothing = chunk.linear._replace(
        query_QS=torch.zeros_like(chunk.linear.query_QS),
        term_V=torch.zeros(NUM_ROWS),
        own_logit_QO=torch.zeros_like(chunk.linear.own_logit_QO),
    )
    found = ranked(dataclasses.replace(chunk, linear=nothing), view("all", hides_seen=False))["all"][0]
    known = np.flatnonzero(KNOWN).tolist()
    assert len({tuple(row) for row in found}) == 1
    assert sorted(found[0, : len(known)]) == known
    assert found[0, : len(known)].tolist() != known


def test_scores_that_are_not_numbers_rank_nothing() -> None:
    chunk = scored(model(), linear=True)
    assert chunk.linear is not None
    everyone = view("all", hides_seen=True)
    good = ranked(chunk, everyone)["all"]
    query_QS = chunk.linear.query_QS.clone()
    query_QS[chunk.rows == 4, 0] = torch.nan  # the third of the view's users
    found = ranked(dataclasses.replace(chunk, linear=chunk.linear._replace(query_QS=query_QS)), everyone)
    assert not found["all"][0][2].any()
    assert np.isneginf(found["all"][1][2]).all()
    others = np.arange(11) != 2
    np.testing.assert_array_equal(found["all"][0][others], good[0][others])
    endless = chunk.linear.term_V.clone()
    endless[4] = torch.inf  # no candidate
    for broken in ({"item_VS": chunk.linear.item_VS * torch.nan}, {"term_V": endless}):
        told = dataclasses.replace(chunk, linear=chunk.linear._replace(**broken))
        assert not ranked(told, everyone)["all"][0].any()
