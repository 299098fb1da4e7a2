"""Linear item-to-item models: EASE (dense, exact) and item-kNN (sparse).

Both score user u as x_u @ W, where x_u is 1 for items of the user's target events. Items that W says nothing
about, and users without events, are ordered by recent popularity.

Legend: B rows asked for, U users, V items, A items with events ("active").
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.linalg import lapack

from recsys.baselines.interactions import Interactions
from recsys.baselines.ranking import recent_popularity
from recsys.schema import PAD, InputError

EASE_MAX_ITEMS = 20_000
ROWS_PER_CHUNK = 2048


def _binary(interactions: Interactions) -> sp.csr_matrix:
    """1 where the user had a target event with the item: float32, shape (U, V + 1)."""
    seen_UV = interactions.target_counts().astype(np.float32)
    seen_UV.data[:] = 1.0
    return seen_UV


def _fill_with_popularity(scores_BV: np.ndarray, popularity_V: np.ndarray) -> np.ndarray:
    """Scores of exactly 0 say nothing: order them by popularity, above below-zero and under positive ones.

    In place; float32, shape (B, V + 1). The filled scores lie between 0 and half the smallest positive one.
    """
    smallest_B1 = np.where(scores_BV > 0, scores_BV, np.inf).min(axis=1, keepdims=True)
    step_B1 = np.where(np.isfinite(smallest_B1), 0.5 * smallest_B1, 1.0).astype(np.float32)
    np.copyto(scores_BV, step_B1 * popularity_V, where=scores_BV == 0)
    scores_BV[:, PAD] = -np.inf
    return scores_BV


class Ease:
    """Embarrassingly shallow autoencoder (Steck 2019, eq. 8): P = (X'X + l2 I)^-1, W = -P / diag(P), diag 0.

    Needs memory for two dense matrices of the active items and time that grows with their cube.

    Raises:
        InputError: more active items than `EASE_MAX_ITEMS`.
    """

    name = "ease"

    def __init__(self, *, interactions: Interactions, l2: float = 200.0) -> None:
        assert l2 > 0, "l2 must be positive"
        self._popularity_V = recent_popularity(interactions)
        seen_UV = _binary(interactions)
        self._active_A = np.flatnonzero(np.asarray(seen_UV.sum(axis=0)).ravel())
        if len(self._active_A) > EASE_MAX_ITEMS:
            raise InputError(
                f"EASE holds a dense matrix over items and {len(self._active_A)} of them have events "
                f"(limit {EASE_MAX_ITEMS}); use ItemKNN instead"
            )
        self._seen_UA = seen_UV[:, self._active_A]
        self._weight_AA = _ease_weights(self._seen_UA, l2)

    def scores(self, rows_B: np.ndarray) -> np.ndarray:
        scores_BV = np.zeros((len(rows_B), len(self._popularity_V)), dtype=np.float32)
        scores_BV[:, self._active_A] = self._seen_UA[rows_B] @ self._weight_AA
        return _fill_with_popularity(scores_BV, self._popularity_V)


def _ease_weights(seen_UA: sp.csr_matrix, l2: float) -> np.ndarray:
    num_active = seen_UA.shape[1]
    if num_active == 0:
        return np.zeros((0, 0), dtype=np.float32)
    # One buffer in LAPACK's column order is factorised and inverted in place; the Gram matrix is symmetric.
    gram_AA = np.asfortranarray((seen_UA.T @ seen_UA).toarray(), dtype=np.float64)
    gram_AA[np.diag_indices(num_active)] += l2
    factor_AA, failed = lapack.dpotrf(gram_AA, lower=True, overwrite_a=True)
    assert failed == 0, "the regularised Gram matrix is not positive definite"
    inverse_AA, failed = lapack.dpotri(factor_AA, lower=True, overwrite_c=True)
    assert failed == 0, "the Gram matrix could not be inverted"
    scale_A = -1.0 / np.diag(inverse_AA)
    weight_AA = np.empty((num_active, num_active), dtype=np.float32)
    for start in range(0, num_active, ROWS_PER_CHUNK):
        stop = min(start + ROWS_PER_CHUNK, num_active)
        # Only the lower triangle is valid: rows up to the diagonal, the rest from the mirrored columns.
        rows = inverse_AA[start:stop].copy()
        rows[:, stop:] = inverse_AA[stop:, start:stop].T
        square = np.tril(inverse_AA[start:stop, start:stop])
        rows[:, start:stop] = square + np.tril(square, -1).T
        weight_AA[start:stop] = rows * scale_A
    np.fill_diagonal(weight_AA, 0.0)
    return weight_AA


class ItemKnn:
    """Item-to-item cosine with shrinkage, the strongest neighbours of each item (Sarwar et al. 2001).

    W[i, j] = n_ij / (sqrt(n_i n_j) + shrinkage) for the `num_neighbours` largest i of each j, else 0, where
    n_ij is the number of users with both.
    """

    name = "item_knn"

    def __init__(
        self, *, interactions: Interactions, num_neighbours: int = 100, shrinkage: float = 10.0
    ) -> None:
        assert num_neighbours > 0, "num_neighbours must be positive"
        assert shrinkage >= 0, "shrinkage must not be negative"
        self._popularity_V = recent_popularity(interactions)
        self._seen_UV = _binary(interactions)
        self._weight_VV = _knn_weights(self._seen_UV, num_neighbours, shrinkage)

    def scores(self, rows_B: np.ndarray) -> np.ndarray:
        scores_BV = (self._seen_UV[rows_B] @ self._weight_VV).toarray()
        return _fill_with_popularity(scores_BV, self._popularity_V)


def _knn_weights(seen_UV: sp.csr_matrix, num_neighbours: int, shrinkage: float) -> sp.csr_matrix:
    root_V = np.sqrt(np.asarray(seen_UV.sum(axis=0), dtype=np.float64).ravel())
    by_item_VU = seen_UV.T.tocsr()
    kept = []
    for start in range(0, len(root_V), ROWS_PER_CHUNK):
        # Row j of the chunk holds item j's neighbours; similarity is symmetric.
        both = (by_item_VU[start : start + ROWS_PER_CHUNK] @ seen_UV).tocoo()
        row, column = both.row + start, both.col
        similarity = both.data / (root_V[row] * root_V[column] + shrinkage)
        similarity[row == column] = 0.0
        order = np.lexsort((-similarity, row))
        row, column, similarity = row[order], column[order], similarity[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        chosen = (place < num_neighbours) & (similarity > 0)
        kept.append((similarity[chosen], row[chosen], column[chosen]))
    similarity, row, column = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    shape = (len(root_V), len(root_V))
    return sp.csr_matrix((similarity.astype(np.float32), (column, row)), shape=shape)
