"""Activity columns of user_features -> standardised features of a cut query.

Legend: U users, A activity columns (UserNumeric.ALL), R features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.schema import UserNumeric

NUM_CUT_FEATURES = len(UserNumeric.ALL) + 3


def raw_cut_features(activity_UA: np.ndarray) -> np.ndarray:
    """(U, R) float64: logs of every column, and three rates free of the tenure; 0 without history."""
    column = {name: np.maximum(activity_UA[:, k], 0.0) for k, name in enumerate(UserNumeric.ALL)}
    logs = np.log1p(np.stack(list(column.values()), 1))
    tenure_days = np.maximum(column[UserNumeric.TENURE_DAYS], 1.0)
    rates = [
        column[UserNumeric.RECENCY_DAYS] / tenure_days,
        np.log1p(column[UserNumeric.NUM_ORDERS] / tenure_days * 30),
        np.log1p(column[UserNumeric.SPEND] / tenure_days * 30),
    ]
    return np.nan_to_num(np.column_stack([logs, *rates]))


@dataclass(frozen=True)
class CutScaler:
    """Mean and standard deviation of each feature, fitted on training cuts only."""

    mean: list[float]
    std: list[float]

    @classmethod
    def fit(cls, raw_UR: np.ndarray) -> CutScaler:
        if not len(raw_UR):
            return cls([0.0] * NUM_CUT_FEATURES, [1.0] * NUM_CUT_FEATURES)
        return cls(raw_UR.mean(0).tolist(), np.maximum(raw_UR.std(0), 1e-3).tolist())

    def __call__(self, activity_UA: np.ndarray) -> np.ndarray:
        """(U, R) float32, clipped to 5 standard deviations."""
        scaled = (raw_cut_features(activity_UA) - np.asarray(self.mean)) / np.asarray(self.std)
        return np.clip(scaled, -5, 5).astype(np.float32)
