"""Who took what, item to item: where item vectors start, and the neighbours of each item.

Legend: U users, V items (row 0 is padding), D width, K neighbours.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from scipy.sparse.linalg import svds

from recsys.data.samples import TrainingSamples

MAX_DENSE_ITEMS = 10_000
_RIDGE = 300.0


def cooccurrence_vectors(samples: TrainingSamples, *, width: int) -> np.ndarray:
    """float32 (V, D), the longest of length 1; only events that may be learned from count.

    The inner products of these vectors are the best approximation of their rank to the item-to-item weights
    of EASE (Steck 2019, eq. 8, scaled to be symmetric), or for large catalogues to the normalised
    co-occurrence.
    Items without events are zero.
    """
    taken_UV = _taken(samples)
    num_items = taken_UV.shape[1]
    rank = min(width, min(taken_UV.shape) - 1)
    factors_VD = (_ease_factors if num_items <= MAX_DENSE_ITEMS else _svd_factors)(taken_UV, rank)
    vectors_VD = np.zeros((num_items + 1, width), np.float32)
    vectors_VD[1:, :rank] = factors_VD
    vectors_VD[1:][np.asarray(taken_UV.sum(0)).ravel() == 0] = 0
    return vectors_VD / max(float(np.linalg.norm(vectors_VD, axis=1).max()), 1e-12)


def _taken(samples: TrainingSamples) -> sp.csr_matrix:
    """(U, V - 1), 1 where a user took an item."""
    flat, num_items = samples.histories, samples.tables.num_items
    user = flat.user_of_event()
    event = np.flatnonzero(samples.target_mask & (np.arange(len(user)) < samples.user_end[user]))
    item = np.asarray(flat.item_index)[event] - 1
    taken_UV = sp.csr_matrix((np.ones(len(event)), (user[event], item)), shape=(flat.num_users, num_items))
    taken_UV.data[:] = 1.0
    return taken_UV


def neighbours(samples: TrainingSamples, *, num_neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """int64 and float32 (V, K): the items with the largest EASE weights towards each item, and these weights.

    Both are 0 where fewer lie above 0. Only for catalogues of up to MAX_DENSE_ITEMS.
    """
    taken_UV = _taken(samples)
    num_items = taken_UV.shape[1]
    inverse_VV = _ease_inverse(taken_UV)
    towards_VV = -inverse_VV / np.diag(inverse_VV)[:, None]  # row: of which item; column: from which
    np.fill_diagonal(towards_VV, 0.0)
    most = min(num_neighbours, num_items - 1)
    column_VK = np.argpartition(-towards_VV, most, axis=1)[:, :most]
    found_VK = np.take_along_axis(towards_VV, column_VK, 1)
    item_VK = np.zeros((num_items + 1, num_neighbours), np.int64)
    weight_VK = np.zeros((num_items + 1, num_neighbours), np.float32)
    item_VK[1:, :most] = np.where(found_VK > 0, column_VK + 1, 0)
    weight_VK[1:, :most] = np.maximum(found_VK, 0.0)
    return item_VK, weight_VK


def _ease_inverse(taken_UV: sp.csr_matrix) -> np.ndarray:
    gram_VV = (taken_UV.T @ taken_UV).toarray()
    return np.linalg.inv(gram_VV + _RIDGE * np.eye(len(gram_VV)))


def _ease_factors(taken_UV: sp.csr_matrix, rank: int) -> np.ndarray:
    inverse_VV = _ease_inverse(taken_UV)
    scale_V = 1 / np.sqrt(np.diag(inverse_VV))
    weights_VV = -inverse_VV * scale_V[:, None] * scale_V
    np.fill_diagonal(weights_VV, 0.0)
    first = len(weights_VV) - rank
    strength_D, vector_VD = scipy.linalg.eigh(weights_VV, subset_by_index=[first, len(weights_VV) - 1])
    return vector_VD * np.sqrt(np.maximum(strength_D, 0.0))


def _svd_factors(taken_UV: sp.csr_matrix, rank: int) -> np.ndarray:
    rows = np.maximum(np.asarray(taken_UV.sum(1)).ravel(), 1.0) ** -0.5
    columns = np.maximum(np.asarray(taken_UV.sum(0)).ravel(), 1.0) ** -0.5
    scaled_UV = sp.diags(rows) @ taken_UV @ sp.diags(columns)
    start = np.random.default_rng(0).random(min(taken_UV.shape))  # svds starts at random otherwise
    _, strength_D, right_DV = svds(scaled_UV, k=rank, v0=start)
    return right_DV.T * np.sqrt(strength_D)
