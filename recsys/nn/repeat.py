"""What a user's own earlier items earn: a sparse term beside the cosine, so that retrieval stays exact.

Only items of the history get it, so the best K are among the nearest K by cosine and the history itself.
A vector of a few dozen numbers cannot hold which of thousands of items a user buys again and again; this can
(the copy mode of RepeatNet, Ren et al. 2019, here as an additive log term).

Legend: B rows, L events, D width, Q queries, V items.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from recsys.batch import Histories
from recsys.schema import SECONDS_PER_DAY

_KEY_WIDTH = 32


class RepeatHead(nn.Module):
    """strength * log(1 + sum over its earlier events of exp(attention - decay * log(1 + days before)))."""

    def __init__(self, *, width: int, has_time: bool) -> None:
        super().__init__()
        self.has_time = has_time
        self.query = nn.Linear(width, _KEY_WIDTH)
        self.key = nn.Linear(width, _KEY_WIDTH)
        self.bias = nn.Parameter(torch.tensor(0.5))
        self.decay = nn.Parameter(torch.tensor(-1.0))
        self.strength = nn.Parameter(torch.tensor(1.5))

    def forward(
        self, hidden_BLD: Tensor, histories: Histories, row_Q: Tensor, length_Q: Tensor, *, num_rows: int
    ) -> Tensor:
        """(Q, V). Days count back from the newest event of the prefix: later silence changes nothing."""
        query_QK = self.query(hidden_BLD[row_Q, length_Q])
        key_BLK = self.key(hidden_BLD[:, 1:])
        score_QL = torch.einsum("qk,qlk->ql", query_QK, key_BLK[row_Q]) / _KEY_WIDTH**0.5 + self.bias
        time_QL = histories.timestamp_BL[row_Q]
        newest_Q1 = time_QL.gather(1, (length_Q - 1).clamp(min=0)[:, None])
        age_QL = (newest_Q1 - time_QL).clamp(min=0).to(score_QL.dtype)
        age_QL = torch.log1p(age_QL / SECONDS_PER_DAY if self.has_time else age_QL)
        score_QL = (score_QL - F.softplus(self.decay) * age_QL).clamp(max=10.0)
        known_QL = torch.arange(score_QL.shape[1], device=score_QL.device) < length_Q[:, None]
        weight_QL = torch.where(known_QL, score_QL.exp(), torch.zeros_like(score_QL))
        total_QV = torch.zeros(len(row_Q), num_rows, dtype=weight_QL.dtype, device=weight_QL.device)
        return self.strength * torch.log1p(total_QV.scatter_add(1, histories.item_BL[row_Q], weight_QL))
