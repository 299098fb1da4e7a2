"""What forward keeps for backward, tensor by tensor as autograd saves them, and the scores' working copies.

Fused kernels of GPUs keep less than the plain ones of processors: RMSNorm no normalised copy, dropout a mask
of one byte an element.

Legend: D width, S score width, Q queries.
"""

from __future__ import annotations

from recsys.nn.own_items import HALF_LIVES_DAYS, KEY_WIDTH
from recsys.nn.user_model import NUM_POPULARITY, UserModelConfig
from recsys.parallel.planner.sizes import Workload

INDEX_BYTES = 8
FLOAT_BYTES = 4  # of the loss, of statistics of norms and softmax


def saved_bytes(
    config: UserModelConfig, work: Workload, *, activation_bytes: int, fused: bool
) -> dict[str, int]:
    """Bytes kept from forward to backward, by part of the model."""
    a, mask, copies = activation_bytes, 1 if fused else activation_bytes, 0 if fused else 1
    D, positions = config.width, work.positions
    statistics = FLOAT_BYTES * positions
    token = a * positions * D
    block = _block(config, work, activation_bytes=a, fused=fused)
    if config.activation_checkpointing:
        block = token  # its input
    return {
        "items": _items(config, work, a=a, copies=copies),
        "tokens": work.rows * work.events * (3 * a + INDEX_BYTES) + mask * positions * D,
        "blocks": config.num_blocks * block,
        # norm's input and output, sum, content, q, k, v, mixed
        "cross-attention": config.cross_attention
        * ((8 + copies) * token + statistics * (1 + config.num_heads)),
        "user vectors": _user_vectors(config, work, a=a, mask=mask),
        # cosine, nearness, closed items, logits
        "scores": work.queries * work.candidates * (2 * a + 1 + FLOAT_BYTES),
        "value": _value(config, work, a=a, mask=mask, copies=copies),
    }


def peak_bytes(config: UserModelConfig, work: Workload, *, activation_bytes: int, fused: bool) -> int:
    """Most that a step holds: when backward begins, all that is saved beside logits and their gradients;
    where blocks are computed again, perhaps while one is.
    """
    saved = saved_bytes(config, work, activation_bytes=activation_bytes, fused=fused)
    peak = sum(saved.values()) + working_bytes(work)
    if not config.activation_checkpointing:
        return peak
    token = activation_bytes * work.positions * config.width
    block = _block(config, work, activation_bytes=activation_bytes, fused=fused)
    vectors = FLOAT_BYTES * work.candidates * config.width  # gradients of the items, from the scores
    again = sum(saved[part] for part in ("items", "tokens", "blocks")) + block + 4 * token + vectors
    return max(peak, again)


def working_bytes(work: Workload) -> int:
    """At the peak, when backward begins, beside all that is saved: logits and their gradients."""
    return 4 * FLOAT_BYTES * work.queries * work.candidates


def _block(config: UserModelConfig, work: Workload, *, activation_bytes: int, fused: bool) -> int:
    """What one block saves."""
    a, mask, copies = activation_bytes, 1 if fused else activation_bytes, 0 if fused else 1
    token = a * work.positions * config.width
    # norm's input, output, qkv 3, mixed, out, gate; norm's input, output, up 4, silu 2, product 2
    block = (18 + 2 * copies) * token + 2 * mask * work.positions * config.width
    return block + FLOAT_BYTES * work.positions * (2 + config.num_heads)


def _items(config: UserModelConfig, work: Workload, *, a: int, copies: int) -> int:
    tower = config.item_tower
    ids = INDEX_BYTES * (work.words + len(tower.field_sizes) + 1)
    vectors = a * ((1 + copies) * config.width + 3 * config.score_width + 1)
    return work.candidates * (ids + vectors + 8 * FLOAT_BYTES)


def _user_vectors(config: UserModelConfig, work: Workload, *, a: int, mask: int) -> int:
    D, S, Q = config.width, config.score_width, work.queries
    recall = a * (Q * D + work.rows * work.events * D + KEY_WIDTH * Q * (work.events + 1))
    weights = Q * work.events * (3 * a + 1 + INDEX_BYTES) + Q * work.own * (mask + a + INDEX_BYTES)
    bags = a * 3 * Q * S + (a + mask) * Q * D
    num_features = (len(HALF_LIVES_DAYS) if config.has_time else 1) + NUM_POPULARITY + 1
    repeats = Q * work.own * (FLOAT_BYTES * num_features + 1) if config.repeats else 0
    return recall + weights + bags + repeats + 40 * work.targets


def _value(config: UserModelConfig, work: Workload, *, a: int, mask: int, copies: int) -> int:
    if config.value_heads is None:
        return 0
    cuts, D = work.rows * work.cuts, config.width
    states = 2 * a * work.positions * D  # keys and values
    return states + cuts * (
        D * ((11 + 2 * copies) * a + 3 * mask) + FLOAT_BYTES * (work.events + 1 + config.num_heads)
    )
