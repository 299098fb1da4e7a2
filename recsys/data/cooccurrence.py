"""Who took what, item to item: where item vectors start, and the neighbours of each item.

Legend: U users, V items (row 0 is padding), D width, K neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from scipy.sparse.linalg import svds

from recsys.data.samples import TrainingSamples

MAX_DENSE_ITEMS = 10_000
_RIDGE = 300.0
_MAX_SVD_EVENTS = 50_000_000


def cooccurrence_vectors(samples: TrainingSamples, *, width: int) -> np.ndarray:
    """float32 (V, D), the longest of length 1; only events that may be learned from count.

    The inner products of these vectors are the best approximation of their rank to the item-to-item weights
    of EASE (Steck 2019, eq. 8, scaled to be symmetric), or for large catalogues to the normalised
    co-occurrence.
    Items without events are zero, and so is the only one of its catalogue.
    """
    num_users, num_items = samples.histories.num_users, samples.tables.num_items
    rank = min(width, num_users - 1, num_items - 1)
    factors = _ease_factors if num_items <= MAX_DENSE_ITEMS else _svd_factors
    vectors_VD = np.zeros((num_items + 1, width), np.float32)
    if rank < 1:  # a shop of one item
        return vectors_VD
    vectors_VD[1:, :rank], has_V = factors(samples, rank)
    vectors_VD[1:][~has_V] = 0
    return vectors_VD / max(float(np.linalg.norm(vectors_VD, axis=1).max()), 1e-12)


def _taken(samples: TrainingSamples) -> Iterator[sp.csr_matrix]:
    """(U, V - 1), 1 where a user took an item, a block of users after the other."""
    flat, num_items = samples.histories, samples.tables.num_items
    for low, high in flat.blocks():
        offsets = np.asarray(flat.offsets[low : high + 1])
        events = slice(int(offsets[0]), int(offsets[-1]))
        user = np.repeat(np.arange(high - low), np.diff(offsets))
        known = np.arange(events.start, events.stop) < samples.user_end[low:high][user]
        event = np.flatnonzero(samples.target_mask[events] & known)
        item = np.asarray(flat.item_index[events])[event] - 1
        taken_UV = sp.csr_matrix((np.ones(len(event)), (user[event], item)), shape=(high - low, num_items))
        taken_UV.data[:] = 1.0
        yield taken_UV


def neighbours(samples: TrainingSamples, *, num_neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """int64 and float32 (V, K): the items with the largest EASE weights towards each item, and these weights.

    Both are 0 where fewer lie above 0. Only for catalogues of up to MAX_DENSE_ITEMS.
    """
    num_items = samples.tables.num_items
    inverse_VV = _ease_inverse(_gram(samples))
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


def _gram(samples: TrainingSamples) -> np.ndarray:
    """(V - 1, V - 1): users who took both items."""
    gram_VV = np.zeros((samples.tables.num_items,) * 2)
    for taken_UV in _taken(samples):
        both = (taken_UV.T @ taken_UV).tocoo()
        gram_VV[both.row, both.col] += both.data
    return gram_VV


def _ease_inverse(gram_VV: np.ndarray) -> np.ndarray:
    return np.linalg.inv(gram_VV + _RIDGE * np.eye(len(gram_VV)))


def _ease_factors(samples: TrainingSamples, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of the items from 1 on, and bool: which of them anyone took."""
    gram_VV = _gram(samples)
    inverse_VV = _ease_inverse(gram_VV)
    scale_V = 1 / np.sqrt(np.diag(inverse_VV))
    weights_VV = -inverse_VV * scale_V[:, None] * scale_V
    np.fill_diagonal(weights_VV, 0.0)
    first = len(weights_VV) - rank
    strength_D, vector_VD = scipy.linalg.eigh(weights_VV, subset_by_index=[first, len(weights_VV) - 1])
    return vector_VD * np.sqrt(np.maximum(strength_D, 0.0)), np.diag(gram_VV) > 0


def _svd_factors(samples: TrainingSamples, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """The same of a large catalogue; of more than 50 million events, those of every so many-th user."""
    step = max(1, -(-len(samples.target_mask) // _MAX_SVD_EVENTS))
    taken_UV = sp.vstack([block_UV[::step] for block_UV in _taken(samples)], format="csr")
    rows = np.maximum(np.asarray(taken_UV.sum(1)).ravel(), 1.0) ** -0.5
    columns = np.maximum(np.asarray(taken_UV.sum(0)).ravel(), 1.0) ** -0.5
    scaled_UV = sp.diags(rows) @ taken_UV @ sp.diags(columns)
    start = np.random.default_rng(0).random(min(taken_UV.shape))  # svds starts at random otherwise
    _, strength_D, right_DV = svds(scaled_UV, k=rank, v0=start)
    return right_DV.T * np.sqrt(strength_D), np.asarray(taken_UV.sum(0)).ravel() > 0
