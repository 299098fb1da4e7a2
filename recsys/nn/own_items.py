"""A user's own earlier items at a query: what each counts in the user vector, and how likely it comes again.

Legend: B rows, L events, D width, Q queries, V items, W columns of popularity, K half-lives.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from recsys.batch import Histories
from recsys.schema import SECONDS_PER_DAY

_KEY_WIDTH = 32
_MAX_LOG_WEIGHT = 10.0
_HALF_LIVES_DAYS = (30.0, 90.0, 360.0)


class Recall(nn.Module):
    """Weight of an own item: sum over its events of exp(attention - decay * log(1 + days to the newest))."""

    def __init__(self, *, width: int, has_time: bool) -> None:
        super().__init__()
        self.has_time = has_time
        self.query = nn.Linear(width, _KEY_WIDTH)
        self.key = nn.Linear(width, _KEY_WIDTH)
        self.decay = nn.Parameter(torch.tensor(-1.0))
        for parameter in self.query.parameters():
            nn.init.zeros_(parameter)  # begin with age alone

    def forward(
        self, hidden_BLD: Tensor, histories: Histories, row_Q: Tensor, length_Q: Tensor, num_items: int
    ) -> Tensor:
        """(Q, V), 0 for items the prefix does not hold."""
        query_QK = self.query(hidden_BLD[row_Q, length_Q])
        key_BLK = self.key(hidden_BLD[:, 1:])
        log_QL = torch.einsum("qk,qlk->ql", query_QK, key_BLK[row_Q]) / _KEY_WIDTH**0.5
        if self.has_time:
            log_QL = log_QL - F.softplus(self.decay) * torch.log1p(age_days(histories, row_Q, length_Q))
        weight_QL = log_QL.clamp(max=_MAX_LOG_WEIGHT).exp()
        return per_item(weight_QL, histories, row_Q, length_Q, num_items)


class Repeats(nn.Module):
    """Log-odds an own item gains over others: linear in log decayed counts, dated popularity and nearness.

    Few weights on purpose: attention over the own items fits the training months and orders them worse later.
    """

    half_lives_K: Tensor

    def __init__(self, *, num_popularity: int, has_time: bool) -> None:
        super().__init__()
        half_lives = _HALF_LIVES_DAYS if has_time else (float("inf"),)
        self.register_buffer("half_lives_K", torch.tensor(half_lives), persistent=False)
        self.gain = nn.Linear(len(half_lives) + num_popularity + 1, 1)
        with torch.no_grad():
            self.gain.weight.zero_()
            self.gain.weight[:, : len(half_lives)] = 1.0 / len(half_lives)
            self.gain.bias.fill_(1.0)

    def features(
        self,
        nearness_QV: Tensor,
        popularity_QVW: Tensor,
        histories: Histories,
        row_Q: Tensor,
        length_Q: Tensor,
    ) -> Tensor:
        """(Q, V, K + W + 1): log(1 + decayed count) per half-life, popularity, nearness."""
        age_QL, num_items = age_days(histories, row_Q, length_Q), nearness_QV.shape[1]
        counts = [
            per_item(torch.exp2(-age_QL / half_life), histories, row_Q, length_Q, num_items)
            for half_life in self.half_lives_K
        ]
        return torch.cat([torch.stack(counts, -1).log1p(), popularity_QVW, nearness_QV[..., None]], -1)


def age_days(histories: Histories, row_Q: Tensor, length_Q: Tensor) -> Tensor:
    """float32 (Q, L): days before the newest event of the prefix, so that later silence changes nothing."""
    time_QL = histories.timestamp_BL[row_Q]
    newest_Q1 = time_QL.gather(1, (length_Q - 1).clamp(min=0)[:, None])
    return (newest_Q1 - time_QL).clamp(min=0).float() / SECONDS_PER_DAY


def own_items(histories: Histories, row_Q: Tensor, length_Q: Tensor, num_items: int) -> Tensor:
    """bool (Q, V): items the prefix holds."""
    ones_QL = torch.ones(len(row_Q), histories.item_BL.shape[1], device=row_Q.device)
    return per_item(ones_QL, histories, row_Q, length_Q, num_items) > 0


def per_item(
    weight_QL: Tensor, histories: Histories, row_Q: Tensor, length_Q: Tensor, num_items: int
) -> Tensor:
    """(Q, V): sum of the weights of each item's events within the prefix."""
    known_QL = torch.arange(weight_QL.shape[1], device=weight_QL.device) < length_Q[:, None]
    weight_QL = torch.where(known_QL, weight_QL, torch.zeros_like(weight_QL))
    total_QV = torch.zeros(len(row_Q), num_items, dtype=weight_QL.dtype, device=weight_QL.device)
    return total_QV.scatter_add(1, histories.item_BL[row_Q], weight_QL)
