"""Spend adds up over horizons, survival falls, and both are what the parameters say."""

from __future__ import annotations

import math

import pytest
import torch

from recsys.nn.value_heads import ValueHeads, ValueHeadsConfig, ValueOutput


def make_heads() -> ValueHeads:
    torch.manual_seed(3)
    heads = ValueHeads(
        ValueHeadsConfig(
            width=8,
            num_heads=2,
            num_features=3,
            horizons_days=(7, 30, 90),
            bin_ends_days=(1, 7, 30, 90),
            log_spend=(1.0, 2.0, 3.0),
        )
    )
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.add_(torch.randn_like(parameter))
    return heads.eval()


def test_expected_spend_by_hand() -> None:
    output = ValueOutput(
        payer_logit_BCH=torch.tensor([[[0.0, math.log(3)]]]),  # chances 1/2 and 3/4
        mu_BCH=torch.tensor([[[math.log(10), math.log(100)]]]),
        sigma_BCH=torch.tensor([[[1.0, 0.5]]]),
        hazard_logit_BCJ=torch.tensor([[[0.0, math.log(1 / 3)]]]),  # hazards 1/2 and 1/4
        conversion_logit_BC=torch.zeros(1, 1),
    )
    first, second = 0.5 * 10 * math.exp(0.5), 0.75 * 100 * math.exp(0.125)
    assert output.expected_spend()[0, 0].tolist() == pytest.approx([first, first + second], rel=1e-5)
    assert output.survival()[0, 0].tolist() == pytest.approx([1 / 2, 3 / 8], rel=1e-5)


def test_cumulative_spend_never_falls_and_survival_never_rises() -> None:
    rng = torch.Generator().manual_seed(4)
    hidden_BLD, features_BCR = torch.randn(50, 6, 8, generator=rng), torch.randn(50, 4, 3, generator=rng)
    length_BC = torch.randint(0, 6, (50, 4), generator=rng)
    output = make_heads()(hidden_BLD, length_BC, features_BCR)
    spend_BCH, survival_BCJ = output.expected_spend(), output.survival()
    assert (spend_BCH > 0).all()
    assert (spend_BCH.diff(dim=-1) >= 0).all()
    assert ((survival_BCJ >= 0) & (survival_BCJ <= 1)).all()
    assert (survival_BCJ.diff(dim=-1) <= 0).all()


def test_a_cut_sees_no_state_after_its_prefix() -> None:
    rng = torch.Generator().manual_seed(5)
    hidden_BLD, features_BCR = torch.randn(1, 6, 8, generator=rng), torch.randn(1, 3, 3, generator=rng)
    length_BC = torch.tensor([[0, 2, 5]])
    later_BLD = hidden_BLD.clone()
    later_BLD[:, 3:] += 5
    heads = make_heads()
    before, after = heads(hidden_BLD, length_BC, features_BCR), heads(later_BLD, length_BC, features_BCR)
    assert torch.equal(before.mu_BCH[:, :2], after.mu_BCH[:, :2])
    assert not torch.allclose(before.mu_BCH[:, 2], after.mu_BCH[:, 2])


def test_amounts_start_at_the_typical_spend_and_stay_bounded() -> None:
    heads = make_heads()
    fresh = ValueHeads(heads.config)
    assert fresh.out.bias[3:6].tolist() == [1.0, 2.0, 3.0]
    output = heads(torch.randn(4, 3, 8) * 1e3, torch.full((4, 1), 2), torch.randn(4, 1, 3) * 1e3)
    assert output.mu_BCH.abs().max() <= 12
    assert ((output.sigma_BCH >= 0) & (output.sigma_BCH <= 1.5)).all()
    assert torch.isfinite(output.expected_spend()).all()
