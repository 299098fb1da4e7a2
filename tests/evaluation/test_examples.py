"""The users that a page shows: what the model said of them, as it said it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from recsys.evaluation.examples import example_users
from recsys.evaluation.ranking import OWN_MODEL
from recsys.metrics.ragged import Ragged


def test_a_recommendation_is_shown_with_the_models_own_score() -> None:
    view = SimpleNamespace(name="all", rows=np.array([0]), targets=Ragged(np.array([0, 1]), np.array([2])))
    evaluation: Any = SimpleNamespace(
        ranked=SimpleNamespace(
            views=[view],
            ranked={"all": {OWN_MODEL: np.array([[3, 2, 0]])}},
            own_score={"all": np.array([[4.5, -1.25, 9.0]])},
        ),
        table=SimpleNamespace(prefix_length=np.array([1]), user_index=np.array([1])),
        estimates=SimpleNamespace(spend_UH=None),
    )
    flat = SimpleNamespace(offsets=[0, 1], timestamp=[86_400], item_index=[1], value=[2.5])
    tables: Any = SimpleNamespace(
        histories=flat,
        metadata={"has_time": True},
        items=lambda _: SimpleNamespace(text=np.array(["", "one", "two", "three"], object)),
    )
    (example,) = example_users(evaluation, tables=tables, split="test", num_users=1)
    assert example["recommendations"] == [
        {"item": "three", "score": 4.5, "hit": False},
        {"item": "two", "score": -1.25, "hit": True},
    ]
    assert example["history"] == [{"date": "1970-01-02", "item": "one", "value": 2.5}]
