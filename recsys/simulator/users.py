"""Who the users are: all that does not change by what they are shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.simulator.world import UserSettings

CHANNELS = ("organic", "search_ads", "social_ads", "referral")
_CHANNEL_SHARE = (0.4, 0.25, 0.25, 0.1)
_CHANNEL_HAZARD = (1.0, 1.1, 1.3, 0.8)  # of leaving for good, against organic
_STREAM = 1  # of the seed; items draw from another


@dataclass(frozen=True)
class Users:
    """taste_UT, later_taste_UT: float32, rows sum to 1; tastes may drift from the first to the second.

    price_sensitivity_U, log_whale_U, response_U, hazard_U: float32; budget_U: float64, money per 30 days;
    arrival_U: int32, day of the first visit; channel_U: int8, place in CHANNELS.
    """

    taste_UT: np.ndarray
    later_taste_UT: np.ndarray
    price_sensitivity_U: np.ndarray
    log_whale_U: np.ndarray
    response_U: np.ndarray
    hazard_U: np.ndarray
    budget_U: np.ndarray
    arrival_U: np.ndarray
    channel_U: np.ndarray

    def __len__(self) -> int:
        return len(self.arrival_U)


def draw_users(settings: UserSettings, *, num_users: int, num_topics: int, seed: int) -> Users:
    """The users of a seed."""
    random = np.random.default_rng((seed, _STREAM))
    log_whale_U = _log_of_mean_one(random, settings.whale_sigma, num_users)
    sensitivity_U = _log_of_mean_one(random, settings.price_sensitivity_sigma, num_users)
    is_later_U = random.random(num_users) >= settings.arrived_share
    arrival_U = np.where(is_later_U, random.integers(1, settings.arrival_days + 1, num_users), 0)
    channel_U = random.choice(len(CHANNELS), size=num_users, p=_CHANNEL_SHARE)
    return Users(
        taste_UT=_tastes(random, settings.taste_concentration, num_users, num_topics),
        later_taste_UT=_tastes(random, settings.taste_concentration, num_users, num_topics),
        price_sensitivity_U=(settings.price_sensitivity_mean * np.exp(sensitivity_U)).astype(np.float32),
        log_whale_U=log_whale_U.astype(np.float32),
        response_U=np.exp(_log_of_mean_one(random, settings.response_sigma, num_users)).astype(np.float32),
        hazard_U=np.array(_CHANNEL_HAZARD, dtype=np.float32)[channel_U],
        budget_U=settings.budget_mean * np.exp(log_whale_U),
        arrival_U=arrival_U.astype(np.int32),
        channel_U=channel_U.astype(np.int8),
    )


def _log_of_mean_one(random: np.random.Generator, sigma: float, size: int) -> np.ndarray:
    """Logarithms of a lognormal of mean 1."""
    return random.normal(-(sigma**2) / 2, sigma, size)


def _tastes(random: np.random.Generator, concentration: float, num_users: int, num_topics: int) -> np.ndarray:
    """Dirichlet rows, as normalised gammas."""
    gamma_UT = random.standard_gamma(concentration, size=(num_users, num_topics)) + 1e-12
    return (gamma_UT / gamma_UT.sum(axis=1, keepdims=True)).astype(np.float32)
