"""Long-term value at a cut: spend per horizon, retention, conversion.

A separate query, made of the activity known at the cut (time since the last event, tenure, past spend),
attends over the same behaviour states as the item scores. The item scores never see it.

Spend is a sum of increments between horizons, each zero-inflated lognormal (Wang et al. 2019, eq. 3-5), so
the cumulative value is monotone. Retention is a discrete-time hazard over bins of days since the cut.

Legend: B rows, L positions, D width, C cuts, R cut features, H horizons, J hazard bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from recsys.nn.attention import attend

MAX_SIGMA = 1.5  # exp(mu + sigma^2 / 2) explodes under a shift in time beyond this
MIN_SIGMA = 0.01  # a likelihood has no bound where amounts are all but equal
MAX_MU = 12.0


@dataclass(frozen=True, kw_only=True)
class ValueHeadsConfig:
    """horizons_days rise; hazard bins end at `bin_ends_days`; log_spend: mean log of an increment's spend."""

    width: int
    num_heads: int
    num_features: int
    horizons_days: tuple[int, ...]
    bin_ends_days: tuple[int, ...]
    log_spend: tuple[float, ...]
    has_value: bool = True
    dropout: float = 0.85


class ValueOutput(NamedTuple):
    """Parameters at each cut; (B, C, H) for spend, (B, C, J) for the hazard, (B, C) for conversion."""

    payer_logit_BCH: Tensor
    mu_BCH: Tensor
    sigma_BCH: Tensor
    hazard_logit_BCJ: Tensor
    conversion_logit_BC: Tensor

    def expected_spend(self) -> Tensor:
        """(B, C, H): expected money up to each horizon."""
        mean_BCH = torch.exp(self.mu_BCH + self.sigma_BCH**2 / 2)
        return torch.cumsum(torch.sigmoid(self.payer_logit_BCH) * mean_BCH, -1)

    def survival(self) -> Tensor:
        """(B, C, J): probability of no event up to the end of each bin."""
        return torch.exp(torch.cumsum(F.logsigmoid(-self.hazard_logit_BCJ), -1))


class ValueHeads(nn.Module):
    def __init__(self, config: ValueHeadsConfig) -> None:
        super().__init__()
        self.config = config
        width, num_horizons = config.width, len(config.horizons_days)
        self.embed = nn.Sequential(nn.Linear(config.num_features, width), nn.SiLU(), nn.Linear(width, width))
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.norm = nn.RMSNorm(2 * width)
        self.dropout = nn.Dropout(config.dropout)
        self.mix = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), self.dropout)
        self.num_outputs = (3 * num_horizons, len(config.bin_ends_days), 1)
        self.out = nn.Linear(width, sum(self.num_outputs))
        self.direct = nn.Linear(config.num_features, sum(self.num_outputs), bias=False)  # carries the tail
        with torch.no_grad():
            self.out.weight.zero_()  # begin with the cut features alone
            self.out.bias.zero_()
            self.out.bias[num_horizons : 2 * num_horizons] = torch.tensor(config.log_spend)
        nn.init.zeros_(self.direct.weight)

    def forward(self, hidden_BLD: Tensor, length_BC: Tensor, features_BCR: Tensor) -> ValueOutput:
        cut_BCD = self.embed(features_BCR)
        order_L = torch.arange(hidden_BLD.shape[1], device=hidden_BLD.device)
        seen_BCL = order_L <= length_BC[..., None]
        mixed_BCD = attend(
            self.query(cut_BCD),
            self.key(hidden_BLD),
            self.value(hidden_BLD),
            num_heads=self.config.num_heads,
            mask_BLL=seen_BCL,
        )
        state_BCD = self.mix(self.dropout(self.norm(torch.cat([cut_BCD, mixed_BCD], -1))))
        return self._outputs(self.out(state_BCD) + self.direct(features_BCR))

    def linear(self, features_BCR: Tensor) -> ValueOutput:
        """What the cut features alone say: the heads without the states."""
        return self._outputs(self.out.bias + self.direct(features_BCR))

    def _outputs(self, raw_BCO: Tensor) -> ValueOutput:
        spend_BCO, hazard_BCJ, conversion_BC1 = raw_BCO.split(self.num_outputs, -1)
        payer_BCH, mu_BCH, sigma_BCH = spend_BCO.chunk(3, -1)
        return ValueOutput(
            payer_logit_BCH=payer_BCH,
            mu_BCH=mu_BCH.clamp(-MAX_MU, MAX_MU),
            sigma_BCH=(MAX_SIGMA * torch.sigmoid(sigma_BCH + math.log(2.0))).clamp(min=MIN_SIGMA),
            hazard_logit_BCJ=hazard_BCJ,
            conversion_logit_BC=conversion_BC1[..., 0],
        )
