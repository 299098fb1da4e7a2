"""Where item vectors start: a factorisation of who took what, so that training need not find neighbours anew.

Legend: U users, V items (row 0 is padding), D width.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import svds

from recsys.data.samples import TrainingSamples

_STD = 0.3


def cooccurrence_vectors(samples: TrainingSamples, *, width: int) -> np.ndarray:
    """float32 (V, D): right singular vectors of the user-item matrix scaled by 1 / sqrt(row x column sums).

    Only events that may be learned from count. Items without any, and widths beyond the matrix, are zero.
    """
    flat, num_items = samples.histories, samples.tables.num_items
    user = flat.user_of_event()
    event = np.flatnonzero(samples.target_mask & (np.arange(len(user)) < samples.user_end[user]))
    shape = (flat.num_users, num_items + 1)
    taken_UV = sp.csr_matrix(
        (np.ones(len(event)), (user[event], np.asarray(flat.item_index)[event])), shape=shape
    )
    taken_UV.data[:] = 1.0
    rows = np.maximum(np.asarray(taken_UV.sum(1)).ravel(), 1.0) ** -0.5
    columns = np.maximum(np.asarray(taken_UV.sum(0)).ravel(), 1.0) ** -0.5
    scaled_UV = sp.diags(rows) @ taken_UV @ sp.diags(columns)
    rank = min(width, min(shape) - 1)
    start = np.random.default_rng(0).random(min(shape))  # svds starts at random otherwise
    _, strength_D, right_DV = svds(scaled_UV, k=rank, v0=start)
    vectors_VD = np.zeros((num_items + 1, width), np.float32)
    vectors_VD[:, :rank] = right_DV.T * np.sqrt(strength_D) * np.sqrt(num_items)
    size = np.sqrt((vectors_VD**2).mean(1, keepdims=True))
    return np.where(size > 0, vectors_VD / np.maximum(size, 1e-6) * _STD, 0.0).astype(np.float32)
