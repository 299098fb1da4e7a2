"""How well a plain SASRec (`benchmarks/plain_sasrec.py`) tells each user's last item: what
`benchmarks.next_item_paired` and `benchmarks.short_histories` set beside the framework's model.

Legend: U users, E events, B rows, L positions, V items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from benchmarks.plain_sasrec import PAD, SasRec
from benchmarks.train_workloads import Size

ROWS, TOP_K = 128, 10


@dataclass(frozen=True)
class Log:
    """Each user's events, oldest first; the last is the test, the one before validates."""

    offsets_U: np.ndarray
    item_E: np.ndarray  # from 1
    num_items: int

    def rows(self, left_out: int, *, most: int) -> list[torch.Tensor]:
        """Histories less their last `left_out` events, of these the newest."""
        ends = self.offsets_U[1:] - left_out
        starts = np.maximum(self.offsets_U[:-1], ends - most)
        return [torch.from_numpy(self.item_E[a:b]).long() for a, b in zip(starts, ends, strict=True)]

    def targets(self, left_out: int) -> torch.Tensor:
        """The event after those."""
        return torch.from_numpy(self.item_E[self.offsets_U[1:] - left_out]).long()


@dataclass(frozen=True)
class Found:
    """Of the epoch that is best at validation, from 0, and its NDCG@10 there; at the test of each user."""

    epoch: int
    validation: float
    test_U: np.ndarray


def trained(log: Log, size: Size, *, seed: int, epochs: int, patience: int) -> Found:
    """Full cross-entropy, Adam at 0.001; ends after `patience` epochs that are no better."""
    torch.manual_seed(seed)
    model = SasRec(size, num_items=log.num_items)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    rows = log.rows(2, most=size.max_length)
    best = Found(-1, -1.0, np.zeros(0))
    for epoch in range(epochs):
        model.train()
        for at in torch.randperm(len(rows)).split(ROWS):
            loss = model.loss(pad_sequence([rows[k] for k in at.tolist()], batch_first=True), loss="full")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        validation = float(ndcg(model, log, left_out=2, most=size.max_length).mean())
        print(f"plain SASRec, epoch {epoch}: NDCG@10 {validation:.4f} on validation", flush=True)
        if validation > best.validation:
            best = Found(epoch, validation, ndcg(model, log, left_out=1, most=size.max_length))
        elif epoch - best.epoch >= patience:
            break
    return best


@torch.no_grad()
def ndcg(model: SasRec, log: Log, *, left_out: int, most: int) -> np.ndarray:
    """(U,): NDCG@10 of the event after the newest `most`, all items ranked, seen ones left out."""
    model.eval()
    found = []
    rows, targets = log.rows(left_out, most=most), log.targets(left_out)
    seen = log.rows(left_out, most=len(log.item_E))
    for low in range(0, len(rows), ROWS):
        at = slice(low, low + ROWS)
        logits_BV = model.last_logits(pad_sequence(rows[at], batch_first=True, padding_value=PAD))
        logits_BV.scatter_(1, pad_sequence(seen[at], batch_first=True, padding_value=PAD), -torch.inf)
        logits_BV[:, PAD] = -torch.inf
        rank_B = (logits_BV > logits_BV.gather(1, targets[at, None])).sum(1)
        found.append(torch.where(rank_B < TOP_K, 1 / torch.log2(rank_B + 2.0), 0.0))
    return torch.cat(found).numpy()
