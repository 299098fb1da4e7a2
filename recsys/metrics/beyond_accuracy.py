"""What ranked lists do besides hitting: reach of the catalogue, spread of exposure, diversity, novelty.

Legend: U users, K rank, V items (arrays over items have V + 1 rows; row 0 is padding), D width.
"""

from __future__ import annotations

import numpy as np

from recsys.schema import PAD


def exposure(*, ranked_UK: np.ndarray, num_items: int, k: int) -> np.ndarray:
    """How many users see each item in their first k; int64, shape (V,), entry 0 is item 1."""
    counts = np.bincount(ranked_UK[:, :k].ravel(), minlength=num_items + 1)
    assert len(counts) == num_items + 1, "a ranked item lies beyond num_items"
    return counts[1:]


def catalogue_coverage(*, ranked_UK: np.ndarray, num_items: int, k: int) -> float:
    """Share of the V items that at least one user sees in the first k."""
    return float((exposure(ranked_UK=ranked_UK, num_items=num_items, k=k) > 0).mean())


def exposure_gini(*, ranked_UK: np.ndarray, num_items: int, k: int) -> float:
    """Gini index of exposure over all V items: 0 when all are shown equally often, near 1 when few are.

    Formula: sum_i (2i - V - 1) c_(i) / (V sum c), counts c ascending, i from 1.
    """
    counts_V = np.sort(exposure(ranked_UK=ranked_UK, num_items=num_items, k=k))
    total = counts_V.sum()
    if total == 0:
        return float("nan")
    return float((2 * np.arange(1, num_items + 1) - num_items - 1) @ counts_V / (num_items * total))


def intra_list_diversity(*, ranked_UK: np.ndarray, vectors_VD: np.ndarray, k: int) -> np.ndarray:
    """1 - mean cosine over all pairs of different items in the first k (Ziegler et al. 2005), shape (U,).

    A zero vector has cosine 0 with everything. NaN for a list of fewer than two items.

    Args:
        vectors_VD: float, shape (V + 1, D); any non-zero length.
    """
    norm_V = np.linalg.norm(vectors_VD, axis=1, keepdims=True)
    unit_VD = np.divide(vectors_VD, norm_V, out=np.zeros(vectors_VD.shape), where=norm_V > 0)
    unit_VD[PAD] = 0.0
    squared_V = (unit_VD**2).sum(axis=1)
    ranked_Uk = ranked_UK[:, :k]
    num_items_U = (ranked_Uk != PAD).sum(axis=1)
    # Squared length of the sum of unit vectors = the items' own squares + twice the sum over pairs.
    sum_UD = np.zeros((len(ranked_Uk), vectors_VD.shape[1]))
    for column in range(ranked_Uk.shape[1]):
        sum_UD += unit_VD[ranked_Uk[:, column]]
    twice_pairs_U = (sum_UD**2).sum(axis=1) - squared_V[ranked_Uk].sum(axis=1)
    num_pairs_U = num_items_U * (num_items_U - 1)
    mean_U = np.full(len(ranked_Uk), np.nan)
    np.divide(twice_pairs_U, num_pairs_U, out=mean_U, where=num_pairs_U > 0)
    return 1.0 - mean_U


def novelty(*, ranked_UK: np.ndarray, popularity_V: np.ndarray, k: int) -> np.ndarray:
    """Mean self-information of the first k items in bits, shape (U,); NaN for an empty list.

    -log2((count + 1) / (total + V)): the share of past target events that went to the item, one added to
    each count so that an unseen item is finite (Vargas and Castells 2011, with Laplace smoothing).

    Args:
        popularity_V: past target events per item, shape (V + 1,); entry 0 is padding and not read.
    """
    counts_V = np.asarray(popularity_V, dtype=np.float64)[1:]
    bits_V = np.concatenate(([0.0], np.log2(counts_V.sum() + len(counts_V)) - np.log2(counts_V + 1.0)))
    ranked_Uk = ranked_UK[:, :k]
    num_items_U = (ranked_Uk != PAD).sum(axis=1)
    mean_U = np.full(len(ranked_Uk), np.nan)
    return np.divide(bits_V[ranked_Uk].sum(axis=1), num_items_U, out=mean_U, where=num_items_U > 0)
