"""What an event tells beside its item and type: amounts, and the words of a search.

Legend: B rows, L events, D width, A amounts, K words.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from recsys.batch import Histories
from recsys.nn.learned import learned

NUM_AMOUNTS = 3
_TYPICAL_LOG = 3.0  # logs of money, hours and seconds are brought near 1


def amounts(histories: Histories, *, has_time: bool, has_dwell: bool) -> Tensor:
    """(B, L, A): log money, log time since the event before and whether there is any, log dwell."""
    value_BL = torch.sign(histories.value_BL) * torch.log1p(histories.value_BL.abs())
    gap_BL = F.pad((histories.timestamp_BL[:, 1:] - histories.timestamp_BL[:, :-1]).clamp(min=0), (1, 0))
    gap_BL = torch.log1p(gap_BL / 3600.0) if has_time else torch.zeros_like(value_BL)
    columns = [value_BL / _TYPICAL_LOG, gap_BL / _TYPICAL_LOG, (gap_BL > 0).float()]
    if has_dwell:
        dwell_BL = torch.zeros_like(value_BL) if histories.dwell_BL is None else histories.dwell_BL
        columns.append(torch.log1p(dwell_BL) / _TYPICAL_LOG)
    return torch.stack(columns, -1)


def searched(histories: Histories, words: nn.Embedding) -> Tensor:
    """(B, L, D): the content that an item of each search's words would have, 0 where there are none.

    Also without any word the table is asked: ranks must run the same modules.
    """
    shape, none = histories.item_BL.shape, histories.item_BL.new_zeros(0)
    place_K, word_K = (none, none) if histories.words is None else histories.words
    word_K = learned(word_K, words)
    word_KD = words(word_K)
    total_ED = word_KD.new_zeros(shape.numel(), word_KD.shape[1]).index_add(0, place_K, word_KD)
    known_K = (word_K > 0).to(word_KD.dtype)
    count_E = known_K.new_zeros(shape.numel()).index_add(0, place_K, known_K)
    return (total_ED / count_E.clamp(min=1).sqrt()[:, None]).view(*shape, -1)
