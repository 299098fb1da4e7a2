"""Small hand-made interactions."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from recsys.baselines.interactions import Interactions
from recsys.schema import SECONDS_PER_DAY

CUT_DAY = 100


@pytest.fixture
def purchases() -> Callable[..., Interactions]:
    """From (user row, item, day, value) tuples, each a purchase and a target; the cut is day 100."""

    def make(
        events: Sequence[tuple[int, int, float, float]],
        *,
        num_users: int,
        num_items: int,
        has_time: bool = True,
    ) -> Interactions:
        row, item, day, value = (np.array(column) for column in zip(*events, strict=True))
        is_purchase = np.ones(len(events), dtype=bool)
        return Interactions.from_events(
            row=row,
            item_index=item,
            timestamp=(day * SECONDS_PER_DAY).astype(np.int64),
            value=value,
            is_target=is_purchase,
            is_purchase=is_purchase,
            num_users=num_users,
            num_items=num_items,
            cut=CUT_DAY * SECONDS_PER_DAY,
            has_time=has_time,
        )

    return make
