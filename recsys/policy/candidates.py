"""The items that a policy chooses among, and the hash by which a log names them.

Legend: B users, V items, N candidates.
"""

from __future__ import annotations

import hashlib

import numpy as np


def top_candidates(scores_BV: np.ndarray, num_candidates: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The best-scored items of each row, best first, ties by lower index: item_BN, score_BN (float64)."""
    num_users, num_items = scores_BV.shape
    size = num_items if num_candidates is None else min(num_candidates, num_items)
    threshold_B1 = np.partition(scores_BV, num_items - size, axis=1)[:, num_items - size, None]
    above_BV = scores_BV > threshold_B1
    tied_BV = scores_BV == threshold_B1
    free_B1 = size - above_BV.sum(axis=1, keepdims=True)
    kept_BV = above_BV | (tied_BV & (np.cumsum(tied_BV, axis=1) <= free_B1))
    item_BN = np.nonzero(kept_BV)[1].reshape(num_users, size)
    score_BN = np.take_along_axis(scores_BV, item_BN, axis=1).astype(np.float64)
    order_BN = np.argsort(-score_BN, axis=1, kind="stable")
    return np.take_along_axis(item_BN, order_BN, axis=1), np.take_along_axis(score_BN, order_BN, axis=1)


def candidates_hash(item_N: np.ndarray) -> str:
    """Of item_index in any order."""
    return hashlib.sha256(np.sort(item_N).astype("<i4").tobytes()).hexdigest()


def candidates_hashes(item_BN: np.ndarray, score_BN: np.ndarray) -> tuple[str, ...]:
    finite_BN = np.isfinite(score_BN)
    return tuple(
        candidates_hash(item_N[finite_N]) for item_N, finite_N in zip(item_BN, finite_BN, strict=True)
    )
