"""What is remembered of slates, by hand, and that a log tells the same as going along."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from recsys.policy.memory import CategoryMemory, shown_before
from recsys.policy.slates import PolicyConfig, draw_slates
from recsys.schema import SECONDS_PER_DAY, Impression

DAY = SECONDS_PER_DAY
SHOWN = [  # (user from 0, day, item)
    *[(0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 4, 3)],
    *[(1, 2, 4), (1, 2, 1)],
]
CATEGORY = np.array([0, 1, 1, 2, 0])  # of the items 1 to 4


def gone_along(at_day: int) -> np.ndarray:
    memory = CategoryMemory(num_users=2, num_categories=2, half_life_days=2)
    for day in sorted({day for _, day, _ in SHOWN}):
        for user in (0, 1):
            items = [item for u, d, item in SHOWN if (u, d) == (user, day)]
            if items:
                memory.add(np.array([user]), CATEGORY[np.array([items])], at=day * DAY)
    return memory.carried(np.array([0, 1]), at=at_day * DAY)


def test_counts_fade_by_half_every_half_life() -> None:
    assert gone_along(6).tolist() == [
        [0, 2 * 0.125, 0.125 + 0.5],
        [0, pytest.approx(0.25), 0],
    ]


def test_a_log_tells_the_same() -> None:
    table = pa.table(
        {
            Impression.USER_KEY: ["a" if user == 0 else "b" for user, *_ in SHOWN] + ["stranger", "a"],
            Impression.ITEM_ID: [f"i{item}" for *_, item in SHOWN] + ["i1", "unknown"],
            Impression.TIMESTAMP: [day * DAY for _, day, _ in SHOWN] + [0, 0],
        }
    )
    arguments = {
        "user_key_U": np.array(["a", "b"]),
        "item_id_V": np.array(["", "i1", "i2", "i3", "i4"], object),
        "category_V": CATEGORY,
        "half_life_days": 2,
    }
    found = shown_before(table, at=6 * DAY, **arguments).toarray()
    assert found[0].tolist() == [0, 0, 0]
    assert found[1:] == pytest.approx(gone_along(6))
    early = shown_before(table, at=1 * DAY, **arguments).toarray()
    assert early[1] == pytest.approx([0, 2 * 0.5**0.5, 0.5**0.5]), "nothing after the time counts"


def test_what_is_remembered_costs_the_penalty() -> None:
    """Item 1 is worth 2 - 0.8 x 1.5 = 0.8, below item 3; then item 2 is worth 1 - 0.8 x 2.5."""
    policy = PolicyConfig(kind="deterministic", slate_size=4, category_penalty=0.8, category_memory_days=2.0)
    score_BV = np.array([[-np.inf, 2.0, 1.0, 1.0, -0.5]], np.float32)
    drawn = draw_slates(
        scores_BV=score_BV,
        user_index_B=np.array([1]),
        config=policy,
        category_V=CATEGORY,
        carried_BC=np.array([[0.0, 1.5, 0.0]]),
    )
    assert drawn.item_BK.tolist() == [[3, 1, 4, 2]]
    assert drawn.score_BK[0].tolist() == [1.0, 2.0, -0.5, 1.0], "what is logged is the score itself"
