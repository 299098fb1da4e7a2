"""Losses of the value heads; everything is masked by what was observed.

Legend: B rows, C cuts, H horizons, J hazard bins.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.batch import CutQueries
from recsys.nn.value_heads import ValueOutput


def spend_loss(output: ValueOutput, cuts: CutQueries) -> Tensor:
    """Zero-inflated lognormal negative log-likelihood of each increment: sum over cuts, mean over horizons.

    Source: Wang, Liu, Miao, "A Deep Probabilistic Model for Customer Lifetime Value Prediction", 2019, eq. 5.
    """
    spend_BCH = cuts.spend_BCH
    mask_BCH = cuts.observed_BCH & cuts.mask_BC[..., None]
    pays_BCH = spend_BCH > 0
    payer_BCH = F.binary_cross_entropy_with_logits(output.payer_logit_BCH, pays_BCH.float(), reduction="none")
    log_BCH = torch.log(spend_BCH.clamp(min=1e-2))
    sigma_BCH = output.sigma_BCH.float()  # squares and logs of half precision lose the loss
    z_BCH = (log_BCH - output.mu_BCH.float()) / sigma_BCH
    amount_BCH = 0.5 * z_BCH**2 + torch.log(sigma_BCH) + 0.5 * math.log(2 * math.pi)
    return ((payer_BCH + pays_BCH * amount_BCH) * mask_BCH).sum() / spend_BCH.shape[-1]


def retention_loss(output: ValueOutput, cuts: CutQueries, *, bin_ends_days: tuple[int, ...]) -> Tensor:
    """Discrete-time hazard likelihood, summed over cuts, mean over bins.

    A bin that was not watched to its end counts only if the event came within it.
    """
    silent_at = [cuts.next_active_days_BC > day for day in (0, *bin_ends_days)]
    at_risk_BCJ = torch.stack(silent_at[:-1], -1)
    happened_BCJ = at_risk_BCJ & ~torch.stack(silent_at[1:], -1)
    watched_BCJ = torch.stack([cuts.observed_days_BC >= day for day in bin_ends_days], -1)
    known_BCJ = happened_BCJ | (at_risk_BCJ & watched_BCJ)
    mask_BCJ = known_BCJ & cuts.mask_BC[..., None]
    nll_BCJ = F.binary_cross_entropy_with_logits(
        output.hazard_logit_BCJ, happened_BCJ.float(), reduction="none"
    )
    return (nll_BCJ * mask_BCJ).sum() / len(bin_ends_days)


def conversion_loss(output: ValueOutput, cuts: CutQueries) -> Tensor:
    """Binary cross-entropy of buying within the first horizon, summed over cuts."""
    mask_BC = cuts.mask_BC & cuts.observed_BCH[..., 0]
    nll_BC = F.binary_cross_entropy_with_logits(
        output.conversion_logit_BC, cuts.converted_BC.float(), reduction="none"
    )
    return (nll_BC * mask_BC).sum()
