"""The law of what users will spend: payer or not x lognormal in each increment, tied together within a user.

Two hidden normal factors of a user, one for paying and one for amounts, give increments their dependence
(a one-factor Gaussian copula). Draws are stratified (scrambled Sobol points), shifted anew for each user.

Legend: U users, H horizons (increments), J hazard bins, S draws, X dimensions of one draw.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import qmc

from recsys.draws import draw

NUM_DRAWS = 256
INTERVAL = (0.05, 0.95)
_SEED = 20_240_229
_BLOCK = 2_000  # users at a time


@dataclass(frozen=True)
class ValueParameters:
    """What is known of the coming of U users.

    payer_UH: chance to spend in the increment; mean_UH: expected money of it, those who spend nothing
    included; sigma_UH: standard deviation of the log of what payers spend; hazard_UJ: chance of an event in
    the bin given none before; conversion_U: chance of a purchase within the first horizon. float64.
    """

    payer_UH: np.ndarray
    mean_UH: np.ndarray
    sigma_UH: np.ndarray
    hazard_UJ: np.ndarray
    conversion_U: np.ndarray

    def spend_UH(self) -> np.ndarray:
        """Expected money up to each horizon: never falls."""
        return np.cumsum(self.mean_UH, axis=1)

    def return_UJ(self) -> np.ndarray:
        """Chance of an event by the end of each bin: never falls."""
        return 1.0 - np.cumprod(1.0 - self.hazard_UJ, axis=1)


def log_amount(mean: np.ndarray, payer: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """mu of the lognormal amount for which payer x exp(mu + sigma^2 / 2) is the mean."""
    return np.log(np.maximum(mean, 1e-12)) - np.log(np.maximum(payer, 1e-12)) - sigma**2 / 2


def increment_cdf(
    spend: np.ndarray, *, mean: np.ndarray, payer: np.ndarray, sigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(P(increment < spend), P(increment <= spend)): they differ at 0 alone."""
    z = (np.log(np.maximum(spend, 1e-12)) - log_amount(mean, payer, sigma)) / sigma
    upper = np.where(spend > 0, 1 - payer + payer * ndtr(z), 1 - payer)
    return np.where(spend > 0, upper, 0.0), upper


def spend_draws(
    parameters: ValueParameters, user_index_U: np.ndarray, *, dependence: float, num_draws: int = NUM_DRAWS
) -> np.ndarray:
    """float32 (U, H, S): draws of cumulative spend, each a path that never falls.

    A user's draws depend on its index and parameters alone, not on who else is asked for.
    """
    num_users, num_horizons = parameters.payer_UH.shape
    out = np.empty((num_users, num_horizons, num_draws), np.float32)
    base_SX = _base(2 + 2 * num_horizons, num_draws)
    for low in range(0, num_users, _BLOCK):
        at = slice(low, low + _BLOCK)
        shift_UX = np.stack(
            [draw(user_index_U[at], seed=_SEED, epoch=0, stream=x) for x in range(base_SX.shape[1])], 1
        )
        uniform_UXS = (base_SX.T[None] + shift_UX[:, :, None]) % 1.0
        normal_UXS = ndtri(np.clip(uniform_UXS, 1e-6, 1 - 1e-6))
        own, common = np.sqrt(1 - dependence), np.sqrt(dependence)
        pays_UHS = ndtr(common * normal_UXS[:, :1] + own * normal_UXS[:, 2 : 2 + num_horizons])
        z_UHS = common * normal_UXS[:, 1:2] + own * normal_UXS[:, 2 + num_horizons :]
        payer, mean, sigma = (
            values[at][:, :, None]
            for values in (parameters.payer_UH, parameters.mean_UH, parameters.sigma_UH)
        )
        amount_UHS = np.exp(log_amount(mean, payer, sigma) + sigma * z_UHS)
        out[at] = np.cumsum(np.where(pays_UHS < payer, amount_UHS, 0.0), axis=1)
    return out


@functools.lru_cache(maxsize=8)
def _base(num_dimensions: int, num_draws: int) -> np.ndarray:
    return np.asarray(qmc.Sobol(num_dimensions, rng=_SEED).random(num_draws))


def coverage(below_K: np.ndarray, upto_K: np.ndarray, *, level: float = 0.9) -> float:
    """Share of records within the central interval of their law, from P(Y < y) and P(Y <= y) of each.

    At a point of mass the record counts by the part of its mass that lies in the interval (randomised
    probability integral transform: Czado, Gneiting, Held 2009, eq. 1), so that a right law covers `level`.
    """
    low, high = (1 - level) / 2, (1 + level) / 2
    mass_K = upto_K - below_K
    inside_K = np.clip(upto_K, low, high) - np.clip(below_K, low, high)
    at_point_K = (below_K >= low) & (below_K <= high)
    return float(np.where(mass_K > 1e-9, inside_K / np.maximum(mass_K, 1e-9), at_point_K).mean())
