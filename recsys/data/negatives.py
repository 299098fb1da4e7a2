"""Negatives of a training step, drawn where the catalogue is too large to look at whole.

Legend: V items (row 0 is padding), K draws.
"""

from __future__ import annotations

import numpy as np

_STREAM = 3  # after those of recsys.data.collate


class Negatives:
    """Half the draws are uniform, so that every item is held down; half by popularity, where rivals are."""

    def __init__(self, *, count_V: np.ndarray, in_training_V: np.ndarray, num_draws: int) -> None:
        """count_V: how often each item was taken; items that are not `in_training_V` are never drawn."""
        self.item = np.flatnonzero(in_training_V)
        self.cumulative = np.cumsum(count_V[self.item].astype(np.float64))
        self.num_draws = num_draws

    def draw(self, *, seed: int, epoch: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """int64 (N,) distinct item_index, ascending, and float32 (N,) log of each one's probability of being
        drawn: the same for every rank and micro batch of a global batch.
        """
        rng = np.random.default_rng([seed, epoch, step, _STREAM])
        half, total = self.num_draws // 2, self.cumulative[-1]
        popular = np.searchsorted(self.cumulative, rng.random(self.num_draws - half) * total, "right")
        at = np.unique(np.r_[rng.integers(len(self.item), size=half), popular])
        share = (self.cumulative[at] - np.where(at > 0, self.cumulative[at - 1], 0.0)) / total
        with np.errstate(divide="ignore"):  # an item that is sure to be drawn is missed with log -inf
            log_missed = half * np.log1p(-1 / len(self.item)) + (self.num_draws - half) * np.log1p(-share)
        return self.item[at], np.log(-np.expm1(log_missed)).astype(np.float32)
