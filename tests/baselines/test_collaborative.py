"""EASE against one ridge regression per item, item-kNN against sklearn's cosine."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import cosine_similarity

from recsys.baselines import collaborative
from recsys.baselines.collaborative import Ease, ItemKnn
from recsys.baselines.interactions import Interactions
from recsys.baselines.ranking import MostPopular, Ranker
from recsys.schema import InputError

NUM_USERS, NUM_ITEMS = 60, 12


@pytest.fixture(scope="module")
def interactions() -> Interactions:
    """Random events on items 1..11, some repeated; item 12 was never bought, the last user never came."""
    rng = np.random.default_rng(0)
    num_events = 300
    is_target = np.ones(num_events, dtype=bool)
    return Interactions.from_events(
        row=rng.integers(0, NUM_USERS - 1, num_events),
        item_index=rng.integers(1, NUM_ITEMS, num_events),
        timestamp=rng.integers(0, 1000, num_events),
        value=np.zeros(num_events),
        is_target=is_target,
        is_purchase=is_target,
        num_users=NUM_USERS,
        num_items=NUM_ITEMS,
        cut=1000,
    )


def binary(interactions: Interactions) -> np.ndarray:
    return (interactions.target_counts().toarray() > 0).astype(float)


@pytest.mark.parametrize("rows_per_chunk", [2048, 4])
def test_ease_is_a_ridge_regression_of_each_item_on_the_others(
    interactions: Interactions, monkeypatch: pytest.MonkeyPatch, rows_per_chunk: int
) -> None:
    monkeypatch.setattr(collaborative, "ROWS_PER_CHUNK", rows_per_chunk)
    seen_UV = binary(interactions)
    rows = np.arange(NUM_USERS - 1)
    found = Ease(interactions=interactions, l2=7.0).scores(rows)
    for item in range(1, NUM_ITEMS):
        others_UV = np.delete(seen_UV, item, axis=1)
        ridge = Ridge(alpha=7.0, fit_intercept=False).fit(others_UV, seen_UV[:, item])
        expected = ridge.predict(others_UV)[rows]
        said = expected != 0
        assert found[said, item] == pytest.approx(expected[said], abs=1e-5)


def test_ease_refuses_a_large_catalogue(interactions: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collaborative, "EASE_MAX_ITEMS", 10)
    with pytest.raises(InputError, match="use ItemKNN"):
        Ease(interactions=interactions)


@pytest.mark.parametrize("rows_per_chunk", [2048, 4])
def test_knn_sums_cosines(
    interactions: Interactions, monkeypatch: pytest.MonkeyPatch, rows_per_chunk: int
) -> None:
    monkeypatch.setattr(collaborative, "ROWS_PER_CHUNK", rows_per_chunk)
    seen_UV = binary(interactions)
    cosine_VV = cosine_similarity(seen_UV.T)
    np.fill_diagonal(cosine_VV, 0)
    cosine_VV[np.argsort(cosine_VV, axis=0)[:-3], np.arange(NUM_ITEMS + 1)] = 0  # three neighbours each
    expected_UV = seen_UV @ cosine_VV
    found_UV = ItemKnn(interactions=interactions, num_neighbours=3, shrinkage=0).scores(np.arange(NUM_USERS))
    said = expected_UV > 0
    assert found_UV[said] == pytest.approx(expected_UV[said], rel=1e-5)


def test_knn_shrinks_rare_pairs(interactions: Interactions) -> None:
    seen_UV = binary(interactions)
    both = seen_UV.T @ seen_UV
    n = np.diag(both)
    with np.errstate(invalid="ignore"):
        weight_VV = both / (np.sqrt(np.outer(n, n)) + 5)
    np.fill_diagonal(weight_VV, 0)
    expected_UV = seen_UV @ weight_VV
    found_UV = ItemKnn(interactions=interactions, shrinkage=5).scores(np.arange(NUM_USERS))
    said = expected_UV > 0
    assert found_UV[said] == pytest.approx(expected_UV[said], rel=1e-5)


@pytest.mark.parametrize("kind", [Ease, ItemKnn])
def test_a_cold_user_gets_popularity(interactions: Interactions, kind: type) -> None:
    cold = np.array([NUM_USERS - 1])
    ranker: Ranker = kind(interactions=interactions)
    popular: Ranker = MostPopular(interactions=interactions)
    assert (np.argsort(ranker.scores(cold)) == np.argsort(popular.scores(cold))).all()
    assert np.isneginf(ranker.scores(cold)[:, 0]).all()


def test_items_without_a_word_come_under_neighbours_by_popularity() -> None:
    # Users 0 and 1 link items 1 and 2; items 3 and 4 stand alone, 4 is bought more.
    row = np.array([0, 0, 1, 2, 3, 4])
    item = np.array([1, 2, 1, 4, 4, 3])
    is_target = np.ones(6, dtype=bool)
    found = Interactions.from_events(
        row=row,
        item_index=item,
        timestamp=np.arange(6),
        value=np.zeros(6),
        is_target=is_target,
        is_purchase=is_target,
        num_users=5,
        num_items=5,
        cut=10,
    )
    scores_V = ItemKnn(interactions=found).scores(np.array([1]))[0]
    assert scores_V[2] > scores_V[4] > scores_V[3] > scores_V[5]
