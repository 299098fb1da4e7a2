"""A user's own earlier items at a query: what each counts in the user vector, and how likely it comes again.

Legend: B rows, L events, D width, Q queries, O own items of a row, V items, W columns of popularity,
K half-lives, R features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from recsys.batch import Histories, Packing, most_distinct
from recsys.nn.attention import fused_attention
from recsys.nn.linear import Linear
from recsys.schema import PAD, SECONDS_PER_DAY

KEY_WIDTH = 32
_MAX_LOG_WEIGHT = 10.0
_LEAST_LOG_WEIGHT = -1e30  # of the largest, where there is none
HALF_LIVES_DAYS = (30.0, 90.0, 360.0)


class OwnItems(NamedTuple):
    """The distinct items of each query's row, in any order; those outside the prefix are not `known`, nor is
    PAD, which stands for events without an item.
    """

    row_Q: Tensor  # int64
    length_Q: Tensor  # int64, prefix length
    item_QO: Tensor  # int64, row of the catalogue
    known_QO: Tensor  # bool
    slot_QL: Tensor  # int64, which of the own items an event is of
    age_QL: Tensor  # float32, days before the newest event of the prefix, so that silence changes nothing
    counts_QL: Tensor  # bool, events of the prefix that have an item

    def per_item(self, weight_QL: Tensor) -> Tensor:
        """(Q, O): sum of the weights of each item's events within the prefix; 0 for PAD."""
        weight_QL = torch.where(self.counts_QL, weight_QL, torch.zeros_like(weight_QL))
        total_QO = torch.zeros(self.item_QO.shape, dtype=weight_QL.dtype, device=weight_QL.device)
        return total_QO.scatter_add(1, self.slot_QL, weight_QL)

    def among(self, num_items: int) -> Tensor:
        """bool (Q, V): which items of the catalogue are known."""
        own_QV = torch.zeros(len(self.row_Q), num_items, dtype=torch.bool, device=self.row_Q.device)
        return own_QV.scatter_(1, self.item_QO, self.known_QO)


def own_items(histories: Histories, row_Q: Tensor, length_Q: Tensor) -> OwnItems:
    """The items of each row, found by sorting its events."""
    item_BL, order_BL = histories.item_BL.sort(dim=1)
    sorted_slot_BL = F.pad((item_BL.diff(dim=1) != 0).long().cumsum(1), (1, 0))
    slot_BL = torch.empty_like(order_BL).scatter_(1, order_BL, sorted_slot_BL)
    most_own = histories.most_own or most_distinct(item_BL)
    item_BO = item_BL.new_zeros(len(item_BL), most_own).scatter_(1, sorted_slot_BL, item_BL)
    inside_QL = torch.arange(item_BL.shape[1], device=item_BL.device) < length_Q[:, None]
    own = OwnItems(
        row_Q=row_Q,
        length_Q=length_Q,
        item_QO=item_BO[row_Q],
        known_QO=item_BO[row_Q] > 0,
        slot_QL=slot_BL[row_Q],
        age_QL=_age_days(histories, row_Q, length_Q),
        counts_QL=inside_QL & (histories.item_BL != PAD)[row_Q],
    )
    return own._replace(known_QO=own.per_item(torch.ones_like(own.age_QL)) > 0)


class Recall(nn.Module):
    """Weight of an own item: sum over its events of exp(attention - decay * log(1 + days to the newest));
    without time in units of the largest of them, as `mix` knows no bound.
    """

    def __init__(self, *, width: int, has_time: bool) -> None:
        super().__init__()
        self.has_time = has_time
        self.query = Linear(width, KEY_WIDTH)
        self.key = Linear(width, KEY_WIDTH)
        self.decay = nn.Parameter(torch.tensor([-1.0]))
        for parameter in self.query.parameters():
            nn.init.zeros_(parameter)  # begin with age alone

    def forward(self, hidden_BLD: Tensor, own: OwnItems) -> Tensor:
        """(Q, O), 0 for items the prefix does not hold."""
        query_QK = self.query(hidden_BLD[own.row_Q, own.length_Q])
        key_BLK = self.key(hidden_BLD[:, 1:])
        log_QL = torch.einsum("qk,qlk->ql", query_QK, key_BLK[own.row_Q]).float() / KEY_WIDTH**0.5
        if self.has_time:
            log_QL = log_QL - F.softplus(self.decay) * torch.log1p(own.age_QL)
            return own.per_item(log_QL.clamp(max=_MAX_LOG_WEIGHT).exp())
        log_QL = log_QL.masked_fill(~own.counts_QL, float("-inf"))
        most_Q1 = log_QL.detach().amax(1, keepdim=True).clamp(min=_LEAST_LOG_WEIGHT)
        return own.per_item((log_QL - most_Q1).exp())

    def mix(self, hidden_BLD: Tensor, item_BLS: Tensor, packing: Packing | None = None) -> Tensor:
        """(B, L + 1, S): at each position the sum of its earlier events' item vectors by these weights,
        up to a factor; for data without time. The start weighs as well and adds nothing.

        hidden_BLD: (B, L + 1, D); item_BLS: (B, L, S), the events' item vectors.
        """
        assert not self.has_time, "the age of an event differs from position to position"
        S = item_BLS.shape[-1]
        item_BLS = F.pad(item_BLS, (0, max(KEY_WIDTH - S, 0), 1, 0))
        if packing is not None:
            hidden_BLD, item_BLS = packing.packed(hidden_BLD)[None], packing.packed(item_BLS)[None]
        mixed_BLS = fused_attention(
            self.query(hidden_BLD)[:, None],
            self.key(hidden_BLD)[:, None],
            item_BLS[:, None],
            scale=KEY_WIDTH**-0.5,
            packing=packing,
        )[:, 0, :, :S]
        return mixed_BLS if packing is None else packing.padded(mixed_BLS[0])


class Repeats(nn.Module):
    """Log-odds an own item gains over others: linear in log decayed counts, dated popularity and nearness.

    Few weights on purpose: attention over the own items fits the training months and orders them worse later.
    """

    half_lives_K: Tensor

    def __init__(self, *, num_popularity: int, has_time: bool) -> None:
        super().__init__()
        half_lives = HALF_LIVES_DAYS if has_time else (float("inf"),)
        self.register_buffer("half_lives_K", torch.tensor(half_lives), persistent=False)
        self.gain = nn.Linear(len(half_lives) + num_popularity + 1, 1)
        with torch.no_grad():
            self.gain.weight.zero_()
            self.gain.weight[:, : len(half_lives)] = 1.0 / len(half_lives)
            self.gain.bias.fill_(1.0)

    def features(self, own: OwnItems, popularity_QOW: Tensor, nearness_QO: Tensor) -> Tensor:
        """(Q, O, K + W + 1): log(1 + decayed count) per half-life, popularity, nearness."""
        counts = [own.per_item(torch.exp2(-own.age_QL / half_life)) for half_life in self.half_lives_K]
        return torch.cat([torch.stack(counts, -1).log1p(), popularity_QOW, nearness_QO[..., None]], -1)


def _age_days(histories: Histories, row_Q: Tensor, length_Q: Tensor) -> Tensor:
    """float32 (Q, L)."""
    time_QL = histories.timestamp_BL[row_Q]
    newest_Q1 = time_QL.gather(1, (length_Q - 1).clamp(min=0)[:, None])
    return (newest_Q1 - time_QL).clamp(min=0).float() / SECONDS_PER_DAY
