"""SASRec (Kang and McAuley 2018) as a user who knows PyTorch writes it: what the framework is compared with.

Batches of rows padded to their longest, pre-norm blocks, the item table tied to the output, logits at real
positions only, a fused Adam. Padding lies on the right, so that a causal mask hides it from real positions.

Legend: B rows, L positions, D width, N heads, H width of a head, T real targets, K negatives, V items.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from benchmarks.contender import NUM_NEGATIVES, Training
from benchmarks.train_workloads import Size, Workload

PAD = 0


class Block(nn.Module):
    """Pre-norm causal self-attention and a feed-forward of the model's width."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.num_heads, self.dropout = size.num_heads, size.dropout
        self.norm_attention, self.norm_feed = nn.LayerNorm(size.width), nn.LayerNorm(size.width)
        self.qkv, self.out = nn.Linear(size.width, 3 * size.width), nn.Linear(size.width, size.width)
        self.feed = nn.Sequential(
            nn.Linear(size.width, size.width),
            nn.ReLU(),
            nn.Dropout(size.dropout),
            nn.Linear(size.width, size.width),
            nn.Dropout(size.dropout),
        )

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        B, L, D = hidden_BLD.shape
        qkv_BLD = self.qkv(self.norm_attention(hidden_BLD)).chunk(3, -1)
        query, key, value = (x.view(B, L, self.num_heads, -1).transpose(1, 2) for x in qkv_BLD)
        mixed_BNLH = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        mixed_BLD = self.out(mixed_BNLH.transpose(1, 2).reshape(B, L, D))
        hidden_BLD = hidden_BLD + F.dropout(mixed_BLD, self.dropout, self.training)
        hidden_BLD = hidden_BLD + self.feed(self.norm_feed(hidden_BLD))
        return hidden_BLD


class SasRec(nn.Module):
    """Predicts each row's next item from those before it."""

    def __init__(self, size: Size, *, num_items: int) -> None:
        super().__init__()
        self.items = nn.Embedding(num_items + 1, size.width, padding_idx=PAD)
        self.position = nn.Embedding(size.max_length, size.width)
        for table in (self.items, self.position):
            nn.init.normal_(table.weight, std=0.02)
        self.dropout = nn.Dropout(size.dropout)
        self.blocks = nn.Sequential(*(Block(size) for _ in range(size.num_blocks)))
        self.norm = nn.LayerNorm(size.width)

    def states(self, item_BL: Tensor) -> Tensor:
        """(B, L, D): position t knows the events up to t."""
        hidden_BLD = self.items(item_BL) + self.position.weight[: item_BL.shape[1]]
        states_BLD: Tensor = self.norm(self.blocks(self.dropout(hidden_BLD)))
        return states_BLD

    def last_logits(self, item_BL: Tensor) -> Tensor:
        """(B, V + 1): of what follows each row."""
        length_B = (item_BL != PAD).sum(1)
        states_BLD = self.states(item_BL)
        return states_BLD[torch.arange(len(item_BL)), length_B - 1] @ self.items.weight.T

    def loss(self, item_BL: Tensor, *, loss: str) -> Tensor:
        """Mean cross-entropy over the real targets, of all items or of the target and shared negatives."""
        known_BL, target_BL = item_BL[:, :-1], item_BL[:, 1:]
        hidden_BLD = self.states(known_BL)
        is_real_BL = target_BL != PAD
        hidden_TD, target_T = hidden_BLD[is_real_BL], target_BL[is_real_BL]
        if loss == "full":
            return F.cross_entropy(hidden_TD @ self.items.weight.T, target_T)
        negative_K = torch.randint(1, len(self.items.weight), (NUM_NEGATIVES,))
        hit_T1 = (hidden_TD * self.items(target_T)).sum(-1, keepdim=True)
        logits_TK = torch.cat([hit_T1, hidden_TD @ self.items(negative_K).T], 1)
        return F.cross_entropy(logits_TK, torch.zeros_like(target_T))


def _endless(workload: Workload) -> Iterator[Tensor]:
    """item_BL int64, padded on the right to the longest row of each batch."""
    lengths = np.diff(workload.offsets).tolist()
    rows = torch.from_numpy(workload.item_index).long().split(lengths)
    loader = DataLoader(
        rows,  # type: ignore[arg-type]
        batch_size=workload.size.batch_rows,
        shuffle=True,
        drop_last=True,
        collate_fn=lambda rows: pad_sequence(rows, batch_first=True, padding_value=PAD),
    )
    while True:
        yield from loader


def training(workload: Workload, *, loss: str, precision: str) -> Training:
    torch.manual_seed(0)
    model = SasRec(workload.size, num_items=workload.num_items)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def step(item_BL: Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            found = model.loss(item_BL, loss=loss)
        found.backward()
        optimizer.step()
        optimizer.zero_grad()

    def num_targets(item_BL: Tensor) -> int:
        return int((item_BL[:, 1:] != PAD).sum())

    return Training(
        batches=_endless(workload),
        step=step,
        num_targets=num_targets,
        flops_per_target=lambda: flops_per_target(workload, loss=loss),
    )


def flops_per_target(workload: Workload, *, loss: str) -> float:
    """Of every matrix product, forward and twice as much backward; causal attention is counted in full."""
    size, known = workload.size, np.diff(workload.offsets) - 1
    num_logits = workload.num_items if loss == "full" else 1 + NUM_NEGATIVES
    weights = size.num_blocks * 6 * size.width**2 + num_logits * size.width  # qkv 3, out 1, feed 2
    attention = size.num_blocks * 4 * size.width * float((known**2).sum()) / float(known.sum())
    return 3 * (2 * weights + attention)
