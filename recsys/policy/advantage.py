"""What showing an item does to a user's future, learned from logged histories: the critic behind the dial.

An *occasion* is a user's day with an event, an *engagement* an item met on it. A log-linear critic (Poisson
regression) explains on how many days a user comes back within the horizon,

    log E[days | state, occasion] = controls . w + sum over engagements (signal - mean signal) . theta

where a signal says what the engagement was: which types of event (a view read to its end, a bounce, a return)
and how much money. The state before the occasion (how often, how long, how lately, what was met before) is
controlled for, so that theta is about the engagement and not about who had it. An item's effect is what it
evokes, theta . (its signals - mean), with signals shrunk towards the mean by empirical Bayes; and the
advantage

    A(u, i) = a(u) b(i),   a(u) = expected days of u / their mean,   b(i) = reliability x tanh(effect_i / sd)

is bilinear, so the best of [score vector ; dial a(u)] . [item vector ; b(i)] are found as the best scores
are. `reliability` is the positive-part James-Stein factor max(0, 1 - p / W), W the Wald statistic of theta
with errors clustered by user: where nothing evoked moves the future, it is near 0 and the dial turns nothing.

Legend: E events, S occasions, G engagements, F signals, C controls, V items (entry 0 pads), U users.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import PoissonRegressor

from recsys.data.flat import FlatHistories
from recsys.policy.occasions import Occasions, controls_at, occasions_of
from recsys.schema import InputError
from recsys.settings import check_range

LEAST_OCCASIONS = 200
NUM_FOLDS = 2
_PENALTY = 1e-6  # keeps standardised regressors that say the same solvable
_LEAST_WEIGHT, _LARGEST_WEIGHT = 0.25, 4.0


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """`horizon_days`: how far the future that counts reaches. Raises InputError below 1."""

    horizon_days: int = 30

    def __post_init__(self) -> None:
        check_range("dial.critic.horizon_days", self.horizon_days, least=1)


@dataclass(frozen=True)
class Advantage:
    """item_V: float32, b(i) in [-1, 1], 0 where nothing is known; control_C and constant: of the critic;
    mean_days: of its expectations; figures: what was found, for people.
    """

    item_V: np.ndarray
    control_C: np.ndarray
    constant: float
    mean_days: float
    figures: dict[str, float]

    def arrays(self) -> dict[str, np.ndarray]:
        """For a bundle; `of_arrays` is the way back, but for the figures."""
        return {
            "item_V": self.item_V,
            "control_C": self.control_C,
            "constant": np.array([self.constant]),
            "mean_days": np.array([self.mean_days]),
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Advantage:
        """Raises KeyError where one is missing."""
        constant, mean_days = float(arrays["constant"][0]), float(arrays["mean_days"][0])
        return cls(arrays["item_V"], arrays["control_C"], constant, mean_days, {})

    def user_weights(
        self, histories: FlatHistories, user_U: np.ndarray, cut: int, *, event_types: Mapping[str, int]
    ) -> np.ndarray:
        """float32 (U,): a(u) of users (by index, from 1) who come again just after the cut; 1 on average."""
        return self.weights_of(controls_at(histories, user_U, cut, event_types=event_types))

    def weights_of(self, control_UC: np.ndarray) -> np.ndarray:
        """float32 (U,): a(u) in these states (`recsys.policy.occasions`)."""
        if not self.item_V.any():
            return np.ones(len(control_UC), np.float32)
        days_U = np.exp(control_UC @ self.control_C + self.constant) / self.mean_days
        return np.clip(days_U, _LEAST_WEIGHT, _LARGEST_WEIGHT).astype(np.float32)

    def scores(self, score_BV: np.ndarray, weight_B: np.ndarray, *, dial: float) -> np.ndarray:
        """float32 (B, V): scores with the dial turned; 0 leaves them as they are."""
        if dial == 0:
            return score_BV
        turned: np.ndarray = score_BV + np.float32(dial) * weight_B[:, None] * self.effects(score_BV.shape[1])
        return turned

    def effects(self, num_rows: int) -> np.ndarray:
        """float32 (V,): b(i) of so many items, padding among them; 0 for those newer than the critic."""
        item_V = np.zeros(num_rows, np.float32)
        item_V[: len(self.item_V)] = self.item_V[:num_rows]
        return item_V


def fit_advantage(
    histories: FlatHistories,
    *,
    num_items: int,
    until: int,
    event_types: Mapping[str, int],
    config: CriticConfig,
    learns_U: np.ndarray | None = None,
) -> Advantage:
    """The critic of all events up to `until` (Unix seconds). `event_types`: indices by name; `learns_U`:
    bool, the users whose futures it learns from, None for all.

    Raises InputError where too few occasions were followed to the end of the horizon.
    """
    occasions = occasions_of(
        histories, until=until, horizon_days=config.horizon_days, event_types=event_types
    )
    watched_S = occasions.watched_S
    if learns_U is not None:
        watched_S = watched_S & learns_U[occasions.user_S]
    if watched_S.sum() < LEAST_OCCASIONS:
        raise InputError(
            f"{int(watched_S.sum())} occasions were followed for {config.horizon_days} days, fewer than "
            f"{LEAST_OCCASIONS}; lower dial.critic.horizon_days or collect a longer log"
        )
    kept_F = _kept_signals(occasions)
    signal_GF = occasions.signal_GF[:, kept_F]
    mean_F = signal_GF.mean(axis=0)
    evoked_SF = _sum_by(occasions.occasion_G, signal_GF - mean_F, len(watched_S))
    fit = _fit(occasions, evoked_SF, watched_S)
    rate_VF = _shrunk_rates(occasions.item_G, signal_GF, num_items)
    effect_V = (rate_VF - mean_F) @ fit.theta_F
    spread = float(effect_V[occasions.item_G].std()) if len(signal_GF) else 0.0
    reliability = max(0.0, 1.0 - len(fit.theta_F) / fit.wald) if fit.wald > 0 else 0.0
    item_V = np.zeros(num_items + 1)
    if spread > 0:
        item_V = reliability * np.tanh(effect_V / spread)
    item_V[0] = 0.0
    signals = [name for name, kept in zip(_signal_names(event_types), kept_F, strict=True) if kept]
    found = {f"effect/{name}": float(t) for name, t in zip(signals, fit.theta_F, strict=True)}
    found |= {f"error/{name}": float(e) for name, e in zip(signals, fit.error_F, strict=True)}
    found |= {"reliability": reliability, "item_effect_sd": spread, "wald": fit.wald}
    found |= {"num_occasions": float(watched_S.sum()), "mean_days": fit.mean_days}
    return Advantage(item_V.astype(np.float32), fit.control_C, fit.constant, fit.mean_days, found)


class _Fit(NamedTuple):
    theta_F: np.ndarray
    error_F: np.ndarray  # clustered by user
    wald: float
    control_C: np.ndarray
    constant: float
    mean_days: float


def _fit(occasions: Occasions, evoked_SF: np.ndarray, watched_S: np.ndarray) -> _Fit:
    raw_SD = np.concatenate([evoked_SF, occasions.control_SC], axis=1)[watched_S]
    days_S, user_S = occasions.days_S[watched_S], occasions.user_S[watched_S]
    mean_D, scale_D = raw_SD.mean(axis=0), raw_SD.std(axis=0)
    scale_D = np.where(scale_D > 0, scale_D, 1.0)
    design_SD = (raw_SD - mean_D) / scale_D
    regression = PoissonRegressor(alpha=_PENALTY, solver="newton-cholesky", max_iter=100)
    regression.fit(design_SD, days_S)
    expected_S = regression.predict(design_SD)
    with_one_SD = np.concatenate([np.ones((len(design_SD), 1)), design_SD], axis=1)
    hessian_DD = (with_one_SD * expected_S[:, None]).T @ with_one_SD
    hessian_DD += _PENALTY * len(design_SD) * np.eye(len(hessian_DD))
    score_UD = _sum_by(
        np.unique(user_S, return_inverse=True)[1], with_one_SD * (days_S - expected_S)[:, None]
    )
    inverse_DD = np.linalg.inv(hessian_DD)
    covariance_DD = inverse_DD @ (score_UD.T @ score_UD) @ inverse_DD
    num_signals = evoked_SF.shape[1]
    picked = slice(1, 1 + num_signals)
    coefficient_D = regression.coef_ / scale_D
    error_F = np.sqrt(np.diag(covariance_DD)[picked]) / scale_D[:num_signals]
    standard_F = regression.coef_[:num_signals]
    wald = (
        float(standard_F @ np.linalg.solve(covariance_DD[picked, picked], standard_F)) if num_signals else 0
    )
    control_C = coefficient_D[num_signals:]
    constant = float(regression.intercept_ - mean_D[num_signals:] @ control_C)
    return _Fit(coefficient_D[:num_signals], error_F, wald, control_C, constant, float(expected_S.mean()))


def _kept_signals(occasions: Occasions) -> np.ndarray:
    """bool (F,): those that vary, without the most common type of event, which the others are told from."""
    kept_F = occasions.signal_GF.std(axis=0) > 0
    num_types = len(kept_F) - 1
    kept_F[int(occasions.signal_GF[:, :num_types].mean(axis=0).argmax())] = False
    return kept_F


def _signal_names(event_types: Mapping[str, int]) -> list[str]:
    names = {index: name for name, index in event_types.items()}
    return [names.get(index, str(index)) for index in range(1, max(names) + 1)] + ["log_money"]


def _shrunk_rates(item_G: np.ndarray, signal_GF: np.ndarray, num_items: int) -> np.ndarray:
    """(V, F): mean signals of every item's engagements, drawn to the mean of all as far as chance explains
    their differences (one-way random effects, moments).
    """
    count_V = np.bincount(item_G, minlength=num_items + 1).astype(np.float64)
    mean_F = signal_GF.mean(axis=0)
    sum_VF = _sum_by(item_G, signal_GF, num_items + 1)
    mean_VF = sum_VF / np.maximum(count_V, 1)[:, None]
    within_F = ((signal_GF - mean_VF[item_G]) ** 2).sum(axis=0)
    within_F /= max(len(item_G) - int((count_V > 0).sum()), 1)
    between_F = (count_V[:, None] * (mean_VF - mean_F) ** 2).sum(axis=0) - (count_V > 0).sum() * within_F
    between_F = np.maximum(between_F / max(len(item_G) - (count_V**2).sum() / max(len(item_G), 1), 1), 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        prior_F = np.where(between_F > 0, within_F / between_F, math.inf)
        drawn_VF = (mean_VF - mean_F) * (count_V[:, None] / (count_V[:, None] + prior_F))
    rate_VF: np.ndarray = mean_F + np.where(count_V[:, None] > 0, drawn_VF, 0.0)
    return rate_VF


def cross_fitted(
    histories: FlatHistories,
    *,
    num_items: int,
    until: int,
    event_types: Mapping[str, int],
    config: CriticConfig,
) -> np.ndarray:
    """float32 (2, V): b(i) of two critics, the k-th learned from the futures of the users that are not of
    fold k (user index from 1, modulo 2). Judged on its own fold, a critic has not seen the outcomes it is
    judged by.
    """
    fold_U = np.arange(1, histories.num_users + 1) % NUM_FOLDS
    return np.stack(
        [
            fit_advantage(
                histories,
                num_items=num_items,
                until=until,
                event_types=event_types,
                config=config,
                learns_U=fold_U != fold,
            ).item_V
            for fold in range(NUM_FOLDS)
        ]
    )


def _sum_by(group_R: np.ndarray, value_RF: np.ndarray, size: int | None = None) -> np.ndarray:
    size = int(group_R.max(initial=-1)) + 1 if size is None else size
    columns = [np.bincount(group_R, weights=column, minlength=size) for column in value_RF.T]
    return np.stack(columns, axis=1) if columns else np.zeros((size, 0))
