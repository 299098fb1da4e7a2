"""Value heads start as the best linear model of the cut features."""

from __future__ import annotations

import numpy as np
import torch

from recsys.data.cut_features import CutScaler
from recsys.data.cut_queries import CutQueryTable
from recsys.nn.value_heads import ValueHeads, ValueHeadsConfig
from recsys.value_start import start_value_heads

NUM = 4000
UNSCALED = CutScaler([0.0] * 3, [1.0] * 3)


def table() -> CutQueryTable:
    """Chances and amounts that follow the first feature; no spend in the second half is observed."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(NUM, 3))
    pays = rng.random(NUM) < 1 / (1 + np.exp(1 - 2 * features[:, 0]))
    spend = np.where(pays, np.exp(2 + 0.5 * features[:, 0] + 0.3 * rng.normal(size=NUM)), 0)[:, None]
    return CutQueryTable(
        start=np.array([0, NUM]),
        prefix=np.arange(NUM),
        features=features,
        spend=spend.astype(np.float32),
        observed=np.arange(NUM)[:, None] < NUM // 2,
        next_active_days=np.where(pays, 3.0, np.inf),
        observed_days=np.full(NUM, 30.0),
        converted=pays,
    )


def heads() -> ValueHeads:
    torch.manual_seed(0)
    config = ValueHeadsConfig(
        width=8, num_heads=2, num_features=3, horizons_days=(7,), bin_ends_days=(7, 30), log_spend=(0.0,)
    )
    return ValueHeads(config).eval()


def test_chance_amount_and_hazard_are_found_and_the_states_add_nothing_yet() -> None:
    fitted = heads()
    start_value_heads(fitted, table(), scaler=UNSCALED)
    features_BCR = torch.tensor([[[0.0, 0, 0]], [[1.0, 0, 0]], [[0.0, 1, 1]]])
    with torch.no_grad():
        output = fitted(torch.randn(3, 5, 8), torch.full((3, 1), 2), features_BCR)
    chance = torch.sigmoid(torch.tensor([-1.0, 1.0, -1.0]))
    for found in (
        output.payer_logit_BCH,
        output.hazard_logit_BCJ[..., :1],
        output.conversion_logit_BC[..., None],
    ):
        torch.testing.assert_close(torch.sigmoid(found).flatten(), chance, atol=0.05, rtol=0.1)
    torch.testing.assert_close(output.mu_BCH.flatten(), torch.tensor([2.0, 2.5, 2.0]), atol=0.06, rtol=0.0)
    assert torch.equal(output.mu_BCH, fitted.linear(features_BCR).mu_BCH)


def test_what_was_not_observed_teaches_nothing() -> None:
    one, other = heads(), heads()
    full = table()
    changed = np.where(full.observed, full.spend, full.spend * 9 + 1)
    start_value_heads(one, full, scaler=UNSCALED)
    start_value_heads(other, CutQueryTable(**(vars(full) | {"spend": changed})), scaler=UNSCALED)
    torch.testing.assert_close(one.direct.weight, other.direct.weight)
