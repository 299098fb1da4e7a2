"""The baselines that stand beside the model in every ranking table."""

from __future__ import annotations

from recsys.baselines.collaborative import Ease, ItemKnn
from recsys.baselines.interactions import Interactions
from recsys.baselines.ranking import MostPopular, Ranker, RepeatPurchase

_EASE_MAX_ITEMS = 10_000


def ranking_baselines(interactions: Interactions) -> list[Ranker]:
    """Most popular of the last 30 days, own repeats, and EASE (item-kNN where the catalogue is large)."""
    neighbours: Ranker
    if interactions.num_items <= _EASE_MAX_ITEMS:
        neighbours = Ease(interactions=interactions)
    else:
        neighbours = ItemKnn(interactions=interactions)
    return [MostPopular(interactions=interactions), RepeatPurchase(interactions=interactions), neighbours]
