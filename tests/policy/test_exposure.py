"""Caps on exposure hold, cost nothing where they do not bind, and leave propensities exact."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.policy.exposure import exposure_prices
from recsys.policy.slates import PolicyConfig, Slates, draw_slates, slate_propensities
from recsys.schema import InputError

NUM_USERS, NUM_ITEMS = 600, 40


def scores() -> np.ndarray:
    """Everybody likes the first items best, and has a taste beside."""
    random = np.random.default_rng(0)
    score_BV = random.normal(size=(NUM_USERS, NUM_ITEMS + 1)) + 4 * np.exp(-np.arange(NUM_ITEMS + 1) / 4)
    score_BV[:, 0] = -np.inf
    return score_BV.astype(np.float32)


def config(kind: str, max_share: float | None) -> PolicyConfig:
    return PolicyConfig(kind=kind, slate_size=4, max_share=max_share)


def drawn(policy: PolicyConfig, *, occasion: int = 0) -> tuple[Slates, np.ndarray, np.ndarray]:
    users_B = np.arange(1, NUM_USERS + 1)
    price_V = exposure_prices(scores_BV=scores(), user_index_B=users_B, config=policy)
    slates = draw_slates(scores_BV=scores() - price_V, user_index_B=users_B, config=policy, occasion=occasion)
    share_V = np.bincount(slates.item_BK.ravel(), minlength=NUM_ITEMS + 1) / slates.item_BK.size
    return slates, share_V, price_V


@pytest.mark.parametrize("kind", ["deterministic", "plackett_luce"])
def test_no_item_gets_more_than_its_share(kind: str) -> None:
    assert drawn(config(kind, None))[1].max() > 0.15
    slates, share_V, price_V = drawn(config(kind, 0.06))
    assert share_V.max() <= 0.06
    assert slates.mask_BK.all()
    assert (price_V >= 0).all()
    assert 0 < (price_V > 0).sum() < NUM_ITEMS / 2, "only what is shown too often has a price"


def test_the_cap_holds_on_other_luck_but_for_chance() -> None:
    """A share of 0.06 of 2,400 slots has a standard error of 0.005."""
    _, share_V, _ = drawn(config("plackett_luce", 0.06), occasion=99)
    assert share_V.max() < 0.06 + 3 * 0.005


def test_without_a_cap_and_with_one_that_does_not_bind_there_are_no_prices() -> None:
    assert not drawn(config("plackett_luce", None))[2].any()
    assert not drawn(config("plackett_luce", 0.9))[2].any()


def test_propensities_are_those_of_the_priced_scores() -> None:
    policy = config("plackett_luce", 0.06)
    slates, _, price_V = drawn(policy)
    again_BK = slate_propensities(scores_BV=scores() - price_V, item_BK=slates.item_BK, config=policy)
    np.testing.assert_allclose(slates.propensity_BK, again_BK, rtol=1e-12)


def test_a_cap_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(InputError, match="max_share"):
        drawn(config("plackett_luce", 0.02))
