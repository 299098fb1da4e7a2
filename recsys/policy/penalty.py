"""What slots of an item's category take off its score: those before it, and those of earlier slates.

Legend: B users, V items (entry 0 is padding), N candidates, C categories.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.schema import PAD


@dataclass(frozen=True)
class Penalty:
    """`size`: what a slot of its category costs an item; category_V: 0 for none; carried_BC: earlier
    slots.
    """

    size: float
    category_V: np.ndarray
    carried_BC: np.ndarray | None

    @classmethod
    def of(
        cls,
        size: float,
        category_V: np.ndarray | None,
        carried_BC: np.ndarray | None,
        users: slice,
    ) -> Penalty | None:
        """None where there is none."""
        if size == 0 or category_V is None:
            return None
        if carried_BC is not None:
            carried_BC = carried_BC[users]
        return cls(size, category_V, carried_BC)

    def before_first(self, score_BN: np.ndarray, item_BN: np.ndarray) -> np.ndarray:
        """Scores (B, N) for the first slot."""
        if self.carried_BC is None:
            return score_BN
        category_BN = self.category_V[item_BN]
        count_BN = np.where(category_BN > 0, np.take_along_axis(self.carried_BC, category_BN, axis=1), 0)
        lowered: np.ndarray = score_BN - self.size * count_BN
        return lowered

    def after(self, score_BN: np.ndarray, item_BN: np.ndarray, item_B: np.ndarray) -> np.ndarray:
        """Scores (B, N) after a slot that holds `item_B`, PAD for none."""
        category_B1 = np.where(item_B == PAD, 0, self.category_V[item_B])[:, None]
        lowered: np.ndarray = score_BN - self.size * (
            (self.category_V[item_BN] == category_B1) & (category_B1 > 0)
        )
        return lowered
