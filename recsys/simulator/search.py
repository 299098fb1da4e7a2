"""Searches: users look for a topic by taste and open what looks best of what they find. No policy has a say.

Legend: N items found by a search.
"""

from __future__ import annotations

import numpy as np

from recsys.schema import PAD
from recsys.simulator.luck import Stream, slot_luck, user_luck
from recsys.simulator.scene import Scene

NUM_FOUND = 3


def search(scene: Scene) -> np.ndarray:
    """int64 (B,): the item that everyone present opened by a search; 0 for those who did not search."""

    def luck(stream: Stream) -> np.ndarray:
        return user_luck(scene.user_B, seed=scene.seed, day=scene.day, stream=stream)

    born_V = scene.items.born(scene.day)
    num_topics = scene.taste_UT.shape[1]
    order_V = born_V[np.argsort(scene.items.topic_V[born_V], kind="stable")]
    count_T = np.bincount(scene.items.topic_V[born_V], minlength=num_topics)
    reach_BT = np.cumsum(scene.taste_UT[scene.user_B], axis=1)
    topic_B = (reach_BT <= (luck(Stream.SEARCH_TOPIC) * reach_BT[:, -1])[:, None]).sum(axis=1)
    topic_B = np.minimum(topic_B, num_topics - 1)
    luck_BN = slot_luck(scene.user_B, NUM_FOUND, seed=scene.seed, day=scene.day, stream=Stream.SEARCH_ITEM)
    place_BN = (np.cumsum(count_T) - count_T)[topic_B, None] + (luck_BN * count_T[topic_B, None]).astype(
        np.int64
    )
    found_BN = order_V[np.minimum(place_BN, len(order_V) - 1)]
    looks_BN = scene.quality_V[found_BN] + scene.items.bait_V[found_BN]
    best_B = np.take_along_axis(found_BN, looks_BN.argmax(axis=1)[:, None], 1)[:, 0]
    searches_B = (luck(Stream.SEARCH) < scene.world.choice.search_share) & (count_T[topic_B] > 0)
    return np.where(searches_B, best_B, PAD)
