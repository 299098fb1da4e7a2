"""Activity columns of user_features -> standardised features of a cut query.

Legend: U users, A activity columns (UserNumeric.ALL, then .GRAPH where there is one), R features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from recsys.schema import UserNumeric

NUM_CUT_FEATURES = len(UserNumeric.ALL) + 7  # of tables without a follow graph
_RATE_ORDERS, _RATE_DAYS = 0.25, 30.0  # how much a user's first days count towards their rate


def num_cut_features(num_activity: int) -> int:
    """R of so many activity columns."""
    return NUM_CUT_FEATURES + num_activity - len(UserNumeric.ALL)


def raw_cut_features(activity_UA: np.ndarray) -> np.ndarray:
    """(U, R) float64: logs of every column, rates free of the tenure, and how a buy-till-you-die model reads
    them; 0 without history.

    Before the logs of the graph's columns come four: the log odds of having left and the log chance of not
    having, which grow with a silence that is long beside the user's own rhythm (the form of BG/NBD: Fader,
    Hardie, Lee 2005, eq. 7, at rough parameters; the heads weigh them), the log rate of orders and the log of
    the mean order.
    """
    column = {name: np.maximum(activity_UA[:, k], 0.0) for k, name in enumerate(UserNumeric.ALL)}
    graph_UA = np.log1p(np.maximum(activity_UA[:, len(UserNumeric.ALL) :], 0.0))
    logs = np.log1p(np.stack(list(column.values()), 1))
    tenure_days = np.maximum(column[UserNumeric.TENURE_DAYS], 1.0)
    orders, spend = column[UserNumeric.NUM_ORDERS], column[UserNumeric.SPEND]
    rates = [
        column[UserNumeric.RECENCY_DAYS] / tenure_days,
        np.log1p(orders / tenure_days * 30),
        np.log1p(spend / tenure_days * 30),
    ]
    again = np.maximum(orders - 1, 0.0)
    until_last_days = np.maximum(column[UserNumeric.TENURE_DAYS] - column[UserNumeric.RECENCY_DAYS], 0.0)
    silence = (_RATE_ORDERS + again) * np.log(
        (_RATE_DAYS + column[UserNumeric.TENURE_DAYS]) / (_RATE_DAYS + until_last_days)
    )
    bought_again = again > 0
    left = np.where(bought_again, silence, 0.0)
    stayed = -np.logaddexp(0.0, np.where(bought_again, silence - np.log(2 + again), -3.0))
    rate = np.log((_RATE_ORDERS + orders) / (_RATE_DAYS + column[UserNumeric.TENURE_DAYS]))
    order_value = np.log1p(spend / np.maximum(orders, 1.0))
    features_UR = np.column_stack([logs, *rates, left, stayed, rate, order_value, graph_UA])
    return np.where(np.isfinite(rate)[:, None], features_UR, 0.0)


@dataclass(frozen=True)
class CutScaler:
    """Mean and standard deviation of each feature, fitted on training cuts only."""

    mean: list[float]
    std: list[float]

    @classmethod
    def fit(
        cls, blocks: Callable[[], Iterable[np.ndarray]], *, num_features: int = NUM_CUT_FEATURES
    ) -> CutScaler:
        """blocks: the raw features (U, R), some users at a time, from the start at every call.

        Rows are added one after another, so that the result does not depend on the blocks.
        """
        num_rows, total_R = _sum_of_rows(blocks(), num_features)
        if not num_rows:
            return cls([0.0] * num_features, [1.0] * num_features)
        mean_R = total_R / num_rows
        _, squares_R = _sum_of_rows(((raw_UR - mean_R) ** 2 for raw_UR in blocks()), num_features)
        return cls(mean_R.tolist(), np.maximum(np.sqrt(squares_R / num_rows), 1e-3).tolist())

    def __call__(self, raw_UR: np.ndarray) -> np.ndarray:
        """(U, R) float32 of raw features, clipped to 5 standard deviations."""
        scaled = (raw_UR - np.asarray(self.mean)) / np.asarray(self.std)
        return np.clip(scaled, -5, 5).astype(np.float32)


def _sum_of_rows(blocks: Iterable[np.ndarray], num_features: int) -> tuple[int, np.ndarray]:
    num_rows, total_R = 0, np.zeros(num_features)
    for rows_UR in blocks:
        num_rows += len(rows_UR)
        total_R = np.add.reduce(np.concatenate([total_R[None], rows_UR]), axis=0)
    return num_rows, total_R
