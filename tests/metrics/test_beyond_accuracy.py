import math

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from recsys.metrics.beyond_accuracy import (
    catalogue_coverage,
    exposure,
    exposure_gini,
    intra_list_diversity,
    novelty,
)

RANKED_UK = np.array([[1, 2, 3], [1, 4, 0]])


def test_exposure_and_coverage() -> None:
    assert exposure(ranked_UK=RANKED_UK, num_items=5, k=3).tolist() == [2, 1, 1, 1, 0]
    assert catalogue_coverage(ranked_UK=RANKED_UK, num_items=5, k=3) == pytest.approx(4 / 5)
    assert catalogue_coverage(ranked_UK=RANKED_UK, num_items=5, k=1) == pytest.approx(1 / 5)


def test_exposure_gini_by_mean_absolute_difference() -> None:
    counts = np.array([2, 1, 1, 1, 0])
    expected = np.abs(counts[:, None] - counts).mean() / (2 * counts.mean())
    assert exposure_gini(ranked_UK=RANKED_UK, num_items=5, k=3) == pytest.approx(expected)
    assert exposure_gini(ranked_UK=RANKED_UK, num_items=5, k=1) == pytest.approx(4 / 5)  # all on one of five
    assert math.isnan(exposure_gini(ranked_UK=np.zeros((2, 3), int), num_items=5, k=3))


def test_diversity_is_one_minus_mean_pairwise_cosine() -> None:
    rng = np.random.default_rng(1)
    vectors_VD = rng.normal(size=(21, 4)) * rng.uniform(0.1, 10, size=(21, 1))
    ranked_UK = np.stack([rng.permutation(20)[:6] + 1 for _ in range(8)])
    expected = []
    for row in ranked_UK:
        cosine = cosine_similarity(vectors_VD[row])
        expected.append(1 - cosine[np.triu_indices(6, 1)].mean())
    found = intra_list_diversity(ranked_UK=ranked_UK, vectors_VD=vectors_VD, k=6)
    assert found == pytest.approx(expected)


def test_diversity_of_short_lists() -> None:
    vectors_VD = np.array([[9.0, 9.0], [1, 0], [0, 2], [0, 0]])
    ranked_UK = np.array([[1, 2, 0], [1, 0, 0], [1, 3, 0]])
    found = intra_list_diversity(ranked_UK=ranked_UK, vectors_VD=vectors_VD, k=3)
    assert found[[0, 2]] == pytest.approx([1, 1])
    assert math.isnan(found[1])


def test_novelty_by_hand() -> None:
    popularity_V = np.array([100, 5, 1, 0])  # 3 items, 6 events; smoothed shares 6/9, 2/9, 1/9
    found = novelty(ranked_UK=np.array([[1, 3], [2, 0]]), popularity_V=popularity_V, k=2)
    assert found == pytest.approx([(math.log2(9 / 6) + math.log2(9)) / 2, math.log2(9 / 2)])
