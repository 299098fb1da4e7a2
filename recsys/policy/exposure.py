"""No item gets more than a share of all slots: a price an item, found before anybody is shown anything.

An item that would be shown more often than `max_share` gets a price, which every user's score of it falls by,
until it is shown as often as it may be (dual ascent on the caps). With the prices fixed slates are drawn one
by one as before: propensities are exact, and a slate depends on the prices and its user alone. The cap holds
in the mean over draws and, where prices were found on a sample of the users, over samples.

Legend: B users, V items (column 0 is padding).
"""

from __future__ import annotations

import numpy as np

from recsys.policy.slates import PolicyConfig, draw_slates
from recsys.schema import PAD, InputError

MOST_USERS = 2000  # that prices are found on
_ROUNDS = 60
_AIM = 0.97  # of the cap: what is aimed at, so that chance seldom passes it
_LARGEST_STEP = 2.0  # of a price, in temperatures


def exposure_prices(
    *,
    scores_BV: np.ndarray,
    user_index_B: np.ndarray,
    config: PolicyConfig,
    occasion: int = 0,
    category_V: np.ndarray | None = None,
) -> np.ndarray:
    """float32 (V,): what to take off every score; 0 for all without `max_share`.

    Arguments as in `draw_slates`. Raises InputError where the candidates are too few for the cap.
    """
    price_V = np.zeros(scores_BV.shape[1])
    if config.max_share is None or not len(scores_BV):
        return price_V.astype(np.float32)
    num_candidates = int(np.isfinite(scores_BV).any(axis=0).sum())
    if config.max_share * num_candidates < 1:
        raise InputError(
            f"policy.max_share={config.max_share} cannot be kept with {num_candidates} candidates; raise it "
            f"to {1 / max(num_candidates, 1):.2g} or more"
        )
    unit = _unit(scores_BV, config)
    best_V, best_excess = price_V, np.inf
    for round_ in range(_ROUNDS):
        drawn = draw_slates(
            scores_BV=scores_BV - price_V.astype(np.float32),
            user_index_B=user_index_B,
            config=config,
            occasion=occasion,
            category_V=category_V,
        )
        share_V = np.bincount(drawn.item_BK.ravel(), minlength=len(price_V)).astype(float)
        share_V[PAD] = 0
        share_V /= max(share_V.sum(), 1)
        excess = float(share_V.max()) / config.max_share
        if excess < best_excess:
            best_V, best_excess = price_V, excess
        if excess <= 1:
            break
        step = unit / (1 + round_ / 10)
        ratio_V = np.log(np.maximum(share_V, 1e-9) / (_AIM * config.max_share))
        price_V = np.maximum(price_V + step * np.clip(ratio_V, -_LARGEST_STEP, _LARGEST_STEP), 0)
    return best_V.astype(np.float32)


def _unit(scores_BV: np.ndarray, config: PolicyConfig) -> float:
    """What a score must fall by for a share to fall by a factor e: exact for draws, a guess for rankings."""
    if not config.is_deterministic:
        return config.temperature
    finite_R = scores_BV[np.isfinite(scores_BV)]
    return 0.25 * float(finite_R.std()) if len(finite_R) else 1.0
