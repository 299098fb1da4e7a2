"""Streaming through the catalogue finds what sorting all scores finds, view by view."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from recsys.evaluation.scoring import ScoredUsers
from recsys.evaluation.view_ranker import RankedUsers, ViewRanker
from recsys.evaluation.views import MAX_RANK, View
from recsys.metrics.ragged import Ragged
from tests.evaluation.test_best_items import NUM_ROWS, model, scored

SEEN = Ragged.from_lists([[1, 2, 5]] * 22)
KNOWN = np.arange(NUM_ROWS) % 4 > 0


def view(name: str, *, hides_seen: bool) -> View:
    """Of every other user."""
    rows = np.arange(0, 22, 2)
    return View(name, rows, Ragged.from_lists([[3]] * len(rows)), KNOWN, hides_seen)


def ranked(chunk: ScoredUsers, *views: View) -> list[RankedUsers]:
    return list(ViewRanker(list(views), SEEN).ranked(chunk))


@pytest.mark.parametrize("repeats", [False, True])
def test_parts_rank_as_all_scores_do(repeats: bool) -> None:
    made = model(repeats=repeats)
    views = [view("all", hides_seen=False), view("not_yet_bought", hides_seen=True)]
    whole, parts = (ranked(scored(made, linear=linear), *views) for linear in (False, True))
    for mine, theirs in zip(parts, whole, strict=True):
        assert mine.view is theirs.view
        np.testing.assert_array_equal(mine.inside_B, theirs.inside_B)
        np.testing.assert_array_equal(mine.item_BK, theirs.item_BK)
        np.testing.assert_allclose(mine.score_BK, theirs.score_BK, atol=1e-5)
        assert mine.item_BK.shape == (11, MAX_RANK)
    assert set(parts[0].item_BK.ravel()) == {0, *np.flatnonzero(KNOWN)}
    assert set(parts[1].item_BK.ravel()) == {0, *np.flatnonzero(KNOWN)} - {1, 2, 5}


def test_equal_scores_come_in_no_order_of_items() -> None:
    chunk = scored(model(), linear=True)
    assert chunk.linear is not None
    nothing = chunk.linear._replace(
        query_QS=torch.zeros_like(chunk.linear.query_QS),
        term_V=torch.zeros(NUM_ROWS),
        own_logit_QO=torch.zeros_like(chunk.linear.own_logit_QO),
    )
    (found,) = ranked(dataclasses.replace(chunk, linear=nothing), view("all", hides_seen=False))
    num_found = KNOWN.sum()
    for row in found.item_BK[:, :num_found]:
        assert row.tolist() == found.item_BK[0, :num_found].tolist()
    assert sorted(found.item_BK[0, :num_found]) == np.flatnonzero(KNOWN).tolist()
    assert found.item_BK[0, :num_found].tolist() != np.flatnonzero(KNOWN).tolist()


def test_scores_that_are_not_numbers_rank_nothing() -> None:
    chunk = scored(model(), linear=True)
    assert chunk.linear is not None
    everyone = view("all", hides_seen=True)
    (good,) = ranked(chunk, everyone)
    query_QS = chunk.linear.query_QS.clone()
    place = int(np.flatnonzero(good.inside_B)[2])
    query_QS[place, 0] = torch.nan
    (found,) = ranked(dataclasses.replace(chunk, linear=chunk.linear._replace(query_QS=query_QS)), everyone)
    assert not found.item_BK[2].any()
    assert np.isneginf(found.score_BK[2]).all()
    others = np.arange(len(found.item_BK)) != 2
    np.testing.assert_array_equal(found.item_BK[others], good.item_BK[others])
    broken = chunk.linear._replace(item_VS=chunk.linear.item_VS * torch.nan)
    (found,) = ranked(dataclasses.replace(chunk, linear=broken), everyone)
    assert not found.item_BK.any()
