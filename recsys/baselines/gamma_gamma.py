"""Gamma-Gamma: a customer's mean spend per purchase (Fader and Hardie 2013, "The Gamma-Gamma model").

Each purchase is Gamma(p, rate v), with v ~ Gamma(q, rate gamma) over customers, independent of how often they
buy. All arrays have shape (U,).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import gammaln

from recsys.schema import InputError

# q > 1 keeps the population mean finite; gamma is in units of the mean spend during the search.
LOG_BOUNDS = [(-4.0, 7.0), (np.log(1.02), 7.0), (-7.0, 7.0)]
STARTS = ((2.0, 3.0, 1.0), (6.0, 2.0, 0.3))


@dataclass(frozen=True)
class GammaGamma:
    """Fitted parameters; `gamma` has the unit of money."""

    p: float
    q: float
    gamma: float

    @property
    def population_mean(self) -> float:
        """Mean spend per purchase of a customer nobody knows: p gamma / (q - 1)."""
        return self.p * self.gamma / (self.q - 1.0)

    def expected_spend(self, *, num_purchases: np.ndarray, mean_spend: np.ndarray) -> np.ndarray:
        """E[mean spend per purchase | average of past ones], eq. 5: between that and the population mean.

        A customer without purchases gets the population mean.
        """
        total = num_purchases * mean_spend
        return self.p * (self.gamma + total) / (self.p * num_purchases + self.q - 1.0)


def log_likelihood(model: GammaGamma, *, num_purchases: np.ndarray, mean_spend: np.ndarray) -> np.ndarray:
    """Of each customer's average spend, eq. 1a, in logarithms."""
    p, q, gamma = model.p, model.q, model.gamma
    px = p * num_purchases
    return (
        gammaln(px + q)
        - gammaln(px)
        - gammaln(q)
        + q * np.log(gamma)
        + (px - 1.0) * np.log(mean_spend)
        + px * np.log(num_purchases)
        - (px + q) * np.log(gamma + num_purchases * mean_spend)
    )


def fit_gamma_gamma(*, num_purchases: np.ndarray, mean_spend: np.ndarray) -> GammaGamma:
    """Maximum likelihood over customers with at least one purchase and positive spend; others are left out.

    Raises:
        InputError: fewer than two such customers.
    """
    used = (num_purchases > 0) & (mean_spend > 0)
    if used.sum() < 2:
        raise InputError("Gamma-Gamma needs purchases with a positive value; check the value column")
    scale = float(mean_spend[used].mean())
    n, spend = num_purchases[used].astype(np.float64), mean_spend[used] / scale

    def loss(log_parameters: np.ndarray) -> float:
        model = GammaGamma(*np.exp(log_parameters).tolist())
        return -float(log_likelihood(model, num_purchases=n, mean_spend=spend).mean())

    searches = [minimize(loss, np.log(start), method="L-BFGS-B", bounds=LOG_BOUNDS) for start in STARTS]
    best = min(searches, key=lambda search: search.fun)
    p, q, gamma = np.exp(best.x).tolist()
    return GammaGamma(p=p, q=q, gamma=gamma * scale)
