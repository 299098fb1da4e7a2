"""BG/NBD: how many more purchases a customer will make (Fader, Hardie and Lee 2005, Marketing Science 24(2)).

While active a customer buys at rate l ~ Gamma(r, rate alpha) and leaves after each repeat purchase with
chance p ~ Beta(a, b). All arrays have shape (U,); times share one unit. Q quadrature nodes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.optimize import minimize
from scipy.special import expit, gammaln

from recsys.schema import InputError

NUM_NODES = 96
TINY = 1e-12
LOG_BOUND = 7.0  # parameters in scaled time lie within e^-7 .. e^7
STARTS = ((0.5, 1.0, 1.0, 2.0), (0.2, 0.3, 0.5, 3.0), (2.0, 2.0, 0.2, 1.0))


@dataclass(frozen=True)
class BgNbd:
    """Fitted parameters; `alpha` has the unit of time."""

    r: float
    alpha: float
    a: float
    b: float

    def probability_active(
        self, *, frequency: np.ndarray, recency: np.ndarray, age: np.ndarray
    ) -> np.ndarray:
        """P(still a customer at `age` | history): 1 without repeat purchases."""
        x = frequency
        log_odds_gone = (
            np.log(self.a)
            - np.log(self.b + np.maximum(x, 1) - 1)
            + (self.r + x) * (np.log(self.alpha + age) - np.log(self.alpha + recency))
        )
        return np.where(x > 0, expit(-log_odds_gone), 1.0)

    def expected_purchases(
        self, *, horizon: float, frequency: np.ndarray, recency: np.ndarray, age: np.ndarray
    ) -> np.ndarray:
        """E[purchases in (age, age + horizon] | history], the value of eq. 10.

        For an active customer of known l and p it is (1 - exp(-l p horizon)) / p. The mean over
        l ~ Gamma(r + x, alpha + age) is exact, over p ~ Beta(a, b + x) a Gauss quadrature: unlike the
        hypergeometric closed form it neither overflows nor has poles (at a = 1, for one).
        """
        per_active = np.empty(len(frequency))
        odds = horizon / (self.alpha + age)
        for x in np.unique(frequency):
            same = frequency == x
            leave_Q, weight_Q = _beta_quadrature(self.a, self.b + float(x))
            spared = -np.expm1(-(self.r + x) * np.log1p(leave_Q * odds[same][:, None]))
            per_active[same] = (spared / leave_Q) @ weight_Q
        return per_active * self.probability_active(frequency=frequency, recency=recency, age=age)

    def probability_of_purchase(
        self, *, horizon: float, frequency: np.ndarray, recency: np.ndarray, age: np.ndarray
    ) -> np.ndarray:
        """P(at least one purchase in (age, age + horizon] | history).

        A customer leaves only after a purchase, so an active one stays silent with chance
        E[exp(-l horizon)] = ((alpha + age) / (alpha + age + horizon))^(r + x).
        """
        log_silent = (self.r + frequency) * (np.log(self.alpha + age) - np.log(self.alpha + age + horizon))
        active = self.probability_active(frequency=frequency, recency=recency, age=age)
        return active * -np.expm1(log_silent)


@functools.lru_cache(maxsize=4096)
def _beta_quadrature(a: float, b: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes in (0, 1) and weights summing to 1 of the Gauss rule for the Beta(a, b) distribution.

    Golub and Welsch (1969): eigenvalues and first components of the eigenvectors of the Jacobi matrix.
    """
    s, n = a + b, np.arange(1, NUM_NODES)
    middle = np.empty(NUM_NODES)
    middle[0] = (a - b) / s
    middle[1:] = (a - b) * (s - 2.0) / ((2 * n + s - 2.0) * (2 * n + s))
    squared = np.empty(NUM_NODES - 1)
    squared[0] = 4.0 * a * b / (s**2 * (s + 1.0))
    m = n[1:]
    squared[1:] = 4.0 * m * (m + a - 1.0) * (m + b - 1.0) * (m + s - 2.0)
    squared[1:] /= (2 * m + s - 2.0) ** 2 * (2 * m + s - 1.0) * (2 * m + s - 3.0)
    node, vector = eigh_tridiagonal(middle, np.sqrt(squared))
    return np.clip((1.0 + node) / 2.0, TINY, 1.0), vector[0] ** 2


def log_likelihood(
    model: BgNbd, *, frequency: np.ndarray, recency: np.ndarray, age: np.ndarray
) -> np.ndarray:
    """Of each customer's history, eq. 6, in logarithms."""
    r, alpha, a, b, x = model.r, model.alpha, model.a, model.b, frequency
    purchases = gammaln(r + x) - gammaln(r) + r * np.log(alpha)
    stayed = gammaln(a + b) + gammaln(b + x) - gammaln(b) - gammaln(a + b + x)
    active = -(r + x) * np.log(alpha + age)
    gone = np.log(a) - np.log(b + np.maximum(x, 1) - 1) - (r + x) * np.log(alpha + recency)
    return purchases + stayed + np.logaddexp(active, np.where(x > 0, gone, -np.inf))


def fit_bg_nbd(*, frequency: np.ndarray, recency: np.ndarray, age: np.ndarray) -> BgNbd:
    """Maximum likelihood over customers with a first purchase (frequency >= 0).

    Time is scaled to a mean age of 1 for the search; equal histories are counted once.

    Raises:
        InputError: fewer than two customers or no repeat purchase to learn from.
    """
    if len(frequency) < 2 or frequency.max() == 0:
        raise InputError("BG/NBD needs customers with repeat purchases before the cut; choose a later cut")
    scale = float(age.mean())
    histories, counts = np.unique(np.stack([frequency, recency, age]), axis=1, return_counts=True)
    x, t_x, t = histories[0], histories[1] / scale, histories[2] / scale

    def loss(log_parameters: np.ndarray) -> float:
        model = BgNbd(*np.exp(log_parameters).tolist())
        return -float(counts @ log_likelihood(model, frequency=x, recency=t_x, age=t)) / len(frequency)

    bounds = [(-LOG_BOUND, LOG_BOUND)] * 4
    searches = [minimize(loss, np.log(start), method="L-BFGS-B", bounds=bounds) for start in STARTS]
    best = min(searches, key=lambda search: search.fun)
    r, alpha, a, b = np.exp(best.x).tolist()
    return BgNbd(r=r, alpha=alpha * scale, a=a, b=b)
