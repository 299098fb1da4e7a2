"""What the items are. Entry 0 of every array pads: a slot without an item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.schema import PAD
from recsys.simulator.world import ItemSettings

NEVER = np.iinfo(np.int32).max
_STREAM = 2  # of the seed; users draw from another
_LEAST_MAIN_SHARE = 0.6


@dataclass(frozen=True)
class Items:
    """topic_V, second_topic_V: int32; main_share_V: float32, weight of the first topic.

    quality_V, later_quality_V, bait_V, log_price_V (of price / median): float32; quality may drift from the
    first to the second; price_V: float64, whole cents; birth_V: int32, day it can first be shown.
    """

    topic_V: np.ndarray
    second_topic_V: np.ndarray
    main_share_V: np.ndarray
    quality_V: np.ndarray
    later_quality_V: np.ndarray
    bait_V: np.ndarray
    price_V: np.ndarray
    log_price_V: np.ndarray
    birth_V: np.ndarray

    @property
    def num_items(self) -> int:
        return len(self.topic_V) - 1

    def born(self, day: int) -> np.ndarray:
        """Indices of the items that can be shown, ascending."""
        return np.flatnonzero(self.birth_V <= day)


def draw_items(settings: ItemSettings, *, num_items: int, seed: int) -> Items:
    """The items of a seed; at least one is there on day 0."""
    random = np.random.default_rng((seed, _STREAM))
    size = num_items + 1
    topic_V = random.integers(0, settings.num_topics, size)
    step_V = random.integers(1, settings.num_topics, size)
    quality_V, later_quality_V, own_bait_V = random.normal(size=(3, size))
    rho = settings.bait_correlation
    price_V = np.round(settings.price_median * np.exp(random.normal(0, settings.price_sigma, size)), 2)
    price_V = np.maximum(price_V, 0.01)
    birth_V = np.where(
        random.random(size) < settings.born_share, 0, random.integers(1, settings.birth_days + 1, size)
    )
    birth_V[PAD], birth_V[PAD + 1] = NEVER, 0
    return Items(
        topic_V=topic_V.astype(np.int32),
        second_topic_V=((topic_V + step_V) % settings.num_topics).astype(np.int32),
        main_share_V=random.uniform(_LEAST_MAIN_SHARE, 1, size).astype(np.float32),
        quality_V=quality_V.astype(np.float32),
        later_quality_V=later_quality_V.astype(np.float32),
        bait_V=(rho * quality_V + np.sqrt(1 - rho**2) * own_bait_V).astype(np.float32),
        price_V=price_V,
        log_price_V=np.log(price_V / settings.price_median).astype(np.float32),
        birth_V=birth_V.astype(np.int32),
    )
