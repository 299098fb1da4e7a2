"""Gradient-boosted trees on recency, frequency and money over rolling past cuts: the usual strong rival.

One model a horizon: Poisson deviance of the net spend (below 0 counts as 0), log loss of a return and of a
purchase, each the mean of a few seeds. What no past cut was watched through is carried on from the longest
horizon that was, by the decay that BG/NBD expects.

Legend: K (user, cut) pairs, U users, A activity columns (UserNumeric.ALL), H horizons, R features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from recsys.data.cut_features import raw_cut_features
from recsys.schema import InputError, UserNumeric

_SEEDS = (0, 1, 2)
_MIN_PAIRS = 100  # a horizon that was watched for fewer counts as never watched
_MAX_PAIRS = 200_000  # plenty for trees of this size
_TREES = {
    "max_iter": 150,
    "learning_rate": 0.1,
    "max_leaf_nodes": 7,
    "min_samples_leaf": 50,
    "max_features": 0.5,
    "early_stopping": False,
}


@dataclass(frozen=True)
class WatchedCuts:
    """Users at cuts before the one to assess, and what followed as far as it had been seen by then.

    Args:
        activity: float64 (K, A), up to each pair's cut.
        spend: float64 (K, H), net money by the end of each horizon; nan where it was not watched to its end.
        returned: float64 (K, H), 1.0 with any event within the horizon, else 0.0; nan likewise.
        bought: float64 (K, H), 1.0 with a purchase within the horizon, else 0.0; nan likewise.
    """

    activity: np.ndarray
    spend: np.ndarray
    returned: np.ndarray
    bought: np.ndarray

    def thinned(self, most: int = _MAX_PAIRS) -> WatchedCuts:
        """At most so many pairs, evenly spaced."""
        step = max(1, -(-len(self.activity) // most))
        return WatchedCuts(*(column[::step] for column in vars(self).values()))


class BoostedTrees:
    """Spend, return and purchase of the users of a cut, learned from earlier ones. The same on every machine.

    `decay_UH`: purchases that BG/NBD expects of the same users by the end of each horizon; None without.

    Raises:
        InputError: no horizon was watched for a hundred (user, cut) pairs before the cut.
    """

    name = "gbm"

    def __init__(
        self, *, past: WatchedCuts, activity_UA: np.ndarray, decay_UH: np.ndarray | None = None
    ) -> None:
        self._past = past.thinned()
        self._is_watched_H = np.isfinite(self._past.spend).sum(axis=0) >= _MIN_PAIRS
        if not self._is_watched_H.any():
            raise InputError(
                f"boosted trees need {_MIN_PAIRS} users of earlier cuts who were watched to the end of a "
                "horizon before this cut; choose a later cut or shorter horizons"
            )
        self._past_KR, self._users_UR = (boosted_features(a) for a in (self._past.activity, activity_UA))
        self._decay_UH = decay_UH

    def spend(self) -> np.ndarray:
        """float64 (U, H), money; nan in a horizon that was never watched and cannot be carried on to."""
        spend_UH = self._fitted(HistGradientBoostingRegressor, self._past.spend, {"loss": "poisson"})
        for h, last, growth in self._carried_on():
            spend_UH[:, h] = spend_UH[:, last] * growth
        return spend_UH

    def chance_of_return(self) -> np.ndarray:
        """float64 (U, H): probability of any event within the horizon; nan like `spend`."""
        chance_UH = self._fitted(HistGradientBoostingClassifier, self._past.returned, {})
        for h, last, growth in self._carried_on():  # like a count: -log of the chance of none grows
            log_none_U = np.log1p(-np.minimum(chance_UH[:, last], 1 - 1e-9))
            chance_UH[:, h] = -np.expm1(log_none_U * growth)
        return chance_UH

    def chance_of_purchase(self) -> np.ndarray:
        """float64 (U,): probability of a purchase within the first horizon; nan where never watched."""
        return self._fitted(HistGradientBoostingClassifier, self._past.bought[:, :1], {})[:, 0]

    def _carried_on(self) -> list[tuple[int, int, float]]:
        """(horizon never watched, longest one watched before it, growth of the purchases of all users)."""
        if self._decay_UH is None:
            return []
        expected_H, watched = self._decay_UH.sum(axis=0), np.flatnonzero(self._is_watched_H)
        pairs = [
            (h, int(watched[watched < h].max()))
            for h in np.flatnonzero(~self._is_watched_H).tolist()
            if (watched < h).any()
        ]
        return [
            (h, last, float(expected_H[h] / expected_H[last])) for h, last in pairs if expected_H[last] > 0
        ]

    def _fitted(self, kind: type, label_KH: np.ndarray, settings: Mapping[str, str]) -> np.ndarray:
        out_UH = np.full((len(self._users_UR), label_KH.shape[1]), np.nan)
        for h in np.flatnonzero(self._is_watched_H[: label_KH.shape[1]]):
            known_K = np.isfinite(label_KH[:, h])
            label_K = np.maximum(label_KH[known_K, h], 0.0)
            if label_K.min() == label_K.max():  # nothing to tell users apart by
                out_UH[:, h] = label_K[0]
                continue
            # one thread: sums come out the same on every machine, and small fits do not wait for busy cores
            with threadpool_limits(limits=1, user_api="openmp"):
                models = [
                    kind(random_state=seed, **_TREES, **settings).fit(self._past_KR[known_K], label_K)
                    for seed in _SEEDS
                ]
                out_UH[:, h] = np.mean([_mean(model, self._users_UR) for model in models], axis=0)
        return out_UH


def _mean(
    model: HistGradientBoostingRegressor | HistGradientBoostingClassifier, x_UR: np.ndarray
) -> np.ndarray:
    is_chance = isinstance(model, HistGradientBoostingClassifier)
    mean_U: np.ndarray = model.predict_proba(x_UR)[:, 1] if is_chance else model.predict(x_UR)
    return mean_U


def boosted_features(activity_UA: np.ndarray) -> np.ndarray:
    """(U, R): what the model's cut queries know, and recency, frequency and money free of the tenure.

    A tenure that no training cut had would take trees beyond all they have seen; rates and shares stay.
    """
    column = {name: np.maximum(activity_UA[:, k], 0.0) for k, name in enumerate(UserNumeric.ALL)}
    tenure_days = np.maximum(column[UserNumeric.TENURE_DAYS], 1.0)
    num_orders = np.maximum(column[UserNumeric.NUM_ORDERS], 1.0)
    spend = np.maximum(column[UserNumeric.SPEND], 1e-9)
    free: Sequence[np.ndarray] = (
        column[UserNumeric.RECENCY_DAYS] * column[UserNumeric.NUM_ORDERS] / tenure_days,  # in own gaps
        column[UserNumeric.NUM_ACTIVE_DAYS] / tenure_days,
        column[UserNumeric.SPEND] / num_orders,
        column[UserNumeric.NUM_EVENTS] / num_orders,
        column[UserNumeric.SPEND_30D] / spend,
        column[UserNumeric.SPEND_90D] / spend,
        column[UserNumeric.SPEND_30D] / np.minimum(tenure_days, 30.0),
        column[UserNumeric.SPEND_90D] / np.minimum(tenure_days, 90.0),
    )
    return np.nan_to_num(np.column_stack([raw_cut_features(activity_UA), *free]))
