"""FLOPs of a training step in closed form: every matrix product of the model, forward and backward.

A product of (m, k) and (k, n) is 2mkn. Backward costs as much again for each side that is learned. Causal
attention is counted in full, as FlopCounterMode counts it; elementwise work is no FLOP here.

Legend: B rows, L events, D width, S score width, Q queries, O own items, V candidates, R cut features.
"""

from __future__ import annotations

from typing import NamedTuple

from recsys.nn.own_items import HALF_LIVES_DAYS, KEY_WIDTH
from recsys.nn.user_model import NUM_POPULARITY, UserModelConfig
from recsys.parallel.planner.sizes import Workload


class Product(NamedTuple):
    """`learned_sides`: how many of the two factors get a gradient; `again`: forward runs once more in
    backward."""

    part: str
    forward: int
    learned_sides: int = 2
    again: bool = False

    @property
    def step(self) -> int:
        return self.forward * (1 + self.learned_sides + self.again)


def products(config: UserModelConfig, work: Workload) -> list[Product]:
    """Every matrix product of a step."""
    D, S, V = config.width, config.score_width, work.candidates
    events, positions = work.rows * work.events, work.positions
    again = config.activation_checkpointing
    attention = 4 * work.rows * (work.events + 1) ** 2 * D  # scores and mixing
    found = [
        Product("tokens", 2 * events * 3 * D, 1),
        # qkv 3, gate 1, out 1, up 4, down 2
        Product("blocks", config.num_blocks * 22 * positions * D * D, again=again),
        Product("block attention", config.num_blocks * attention, again=again),
        Product("cross-attention", config.cross_attention * (8 * positions * D * D + attention)),
        Product("item vectors", 2 * V * D * S),
        Product("item numbers", 2 * V * config.item_tower.num_numeric * D, 1),
        Product("popularity", 2 * work.periods * V * NUM_POPULARITY, 1),
        Product("recall", 2 * KEY_WIDTH * (work.queries * D + events * D + work.queries * work.events)),
        Product("user vectors", 2 * work.queries * D * S),
        Product("scores", 2 * work.queries * (S + 1) * V),
    ]
    if config.repeats:
        num_features = (len(HALF_LIVES_DAYS) if config.has_time else 1) + NUM_POPULARITY + 1
        found.append(Product("repeats", 2 * work.queries * work.own * num_features))
    return found + _value_products(config, work)


def _value_products(config: UserModelConfig, work: Workload) -> list[Product]:
    heads = config.value_heads
    if heads is None:
        return []
    D, R, cuts = heads.width, heads.num_features, work.rows * work.cuts
    num_outputs = 3 * len(heads.horizons_days) + len(heads.bin_ends_days) + 1
    return [
        Product("value features", 2 * cuts * R * (D + num_outputs), 1),
        Product("value states", 4 * work.positions * D * D),
        Product("value cuts", 2 * cuts * (4 * D * D + D * num_outputs)),  # embed, query and the mix of both
        Product("value attention", 4 * cuts * (work.events + 1) * D),
    ]


def step_flops(config: UserModelConfig, work: Workload) -> int:
    """Of one micro batch, forward and backward."""
    return sum(product.step for product in products(config, work))
