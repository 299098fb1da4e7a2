"""A shop written down by hand: events in, and what training reads of feature tables out, by plain loops."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch

from recsys.batch import Histories
from recsys.data.content import ItemContent
from recsys.data.cut_tables import CutTable
from recsys.data.flat import FlatHistories
from recsys.data.tables import Items
from recsys.schema import UserNumeric
from tests.nn.small_model import catalogue

DAY = 86_400
PURCHASE, RETURN, VIEW = 1, 2, 3


class Event(NamedTuple):
    """Times in days."""

    user: int
    day: float
    item: int
    value: float = 1.0
    kind: int = PURCHASE
    returned_day: float = 0
    dwell_s: float = 0
    words: tuple[int, ...] = ()


def flat(events: list[Event], *, num_users: int) -> FlatHistories:
    """Events by user and, within a user, in the order given."""
    rows = sorted(events, key=lambda e: e.user)
    counts = [sum(e.user == u for e in rows) for u in range(1, num_users + 1)]
    return FlatHistories(
        offsets=np.cumsum([0, *counts]),
        item_index=np.array([e.item for e in rows], np.int32),
        event_type=np.array([e.kind for e in rows], np.int32),
        timestamp=np.array([round(e.day * DAY) for e in rows], np.int64),
        value=np.array([e.value for e in rows], np.float64),
        returned_at=np.array([round(e.returned_day * DAY) for e in rows], np.int64),
        user_key=np.array([f"key{u}" for u in range(1, num_users + 1)]),
        dwell_s=np.array([e.dwell_s for e in rows], np.float32),
        word_start=np.cumsum([0, *(len(e.words) for e in rows)]),
        word=np.array([w for e in rows for w in e.words], np.int32),
    )


def tensors(histories: Histories) -> list[torch.Tensor]:
    """All that is in them."""
    assert histories.words is not None
    return [part for part in histories if torch.is_tensor(part)] + [*histories.words]


@dataclass
class Shop:
    """Stands where FeatureTables stands. Days of cuts; a table holds every user."""

    events: list[Event]
    num_users: int
    num_items: int = 20
    train_cut_days: tuple[float, ...] = (20, 40)
    validation_day: float = 60
    test_day: float = 80
    last_day: float = 120
    horizons_days: list[int] = field(default_factory=lambda: [7, 30])
    window_days: int = 30
    is_time_split: bool = True
    has_value: bool = True
    filter_seen: bool = False
    version: str = "v1"
    fingerprint: str = "0" * 64

    def __post_init__(self) -> None:
        self.histories = flat(self.events, num_users=self.num_users)
        self.target_types = np.array([PURCHASE])
        self._files = TemporaryDirectory()
        self.dir, self.cache_dir = Path(self.version), Path(self._files.name)
        cuts: dict[str, Any] = {"train": [round(d * DAY) for d in self.train_cut_days]}
        cuts |= {"validation": round(self.validation_day * DAY), "test": round(self.test_day * DAY)}
        self.metadata = {
            "split": {"cuts": cuts if self.is_time_split else {"validation": 0, "test": 0}},
            "filter_seen": self.filter_seen,
            "date_range": [round(at(e.day for e in self.events) * DAY) for at in (min, max)],
        }

    @property
    def has_time(self) -> bool:
        return self.is_time_split

    def cut(self, split: str) -> int:
        return int(self.metadata["split"]["cuts"][split])  # type: ignore[index]

    def content(self, split: str, times: np.ndarray) -> ItemContent:
        """That of the small model's items, all of them learned and as popular at all times."""
        items = catalogue(num_items=self.num_items)
        return ItemContent(
            categorical_VF=items.categorical_VF.numpy(),
            numeric_VN=items.numeric_VN.numpy(),
            tokens_VT=items.tokens_VT.numpy(),
            in_training_V=np.arange(self.num_items + 1) > 0,
            popularity_VTW=items.popularity_TVW.repeat(len(times), 1, 1).swapaxes(0, 1).numpy(),
        )

    def items(self, split: str) -> Items:
        """Every item learned, as known at the cut."""
        known = catalogue(num_items=self.num_items)
        num_rows = self.num_items + 1
        times = [[e.day for e in self.events if e.item == item] for item in range(num_rows)]
        return Items(
            categorical=known.categorical_VF.numpy(),
            numeric=known.numeric_VN.numpy(),
            tokens=known.tokens_VT.numpy(),
            in_training=np.arange(num_rows) > 0,
            popularity=np.array([sum(day * DAY <= self.cut(split) for day in own) for own in times]),
            price=np.full(num_rows, np.nan),
            first_seen=np.array([round(min(own, default=0) * DAY) for own in times]),
            item_id=np.array([f"item{item}" for item in range(num_rows)], object),
            text=np.array([""] * num_rows, object),
        )

    def at_cut(self, *, split: str, cut: int | None = None) -> CutTable:
        cut = self.cut(split) if cut is None else cut
        users = range(1, self.num_users + 1)
        mine = [[e for e in self.events if e.user == u] for u in users]
        before = [[e for e in own if e.day * DAY <= cut] for own in mine]
        after = [[e for e in own if e.day * DAY > cut] for own in mine]
        bought = [[e for e in own if e.kind == PURCHASE] for own in after]
        hold_out = {"validation": 2, "test": 1}.get(split, 0)
        prefix = [
            len(b) if self.is_time_split else max(len(m) - hold_out, 0)
            for b, m in zip(before, mine, strict=True)
        ]

        def per_horizon(of: list[list[Event]], count: Any) -> np.ndarray:
            return np.array(
                [
                    [count([e for e in own if e.day * DAY <= cut + h * DAY]) for h in self.horizons_days]
                    for own in of
                ]
            )

        return CutTable(
            cut=cut,
            user_index=np.array(users),
            prefix_length=np.array(prefix),
            activity=np.array([self._activity(own, cut) for own in before]),
            profile=np.array([[u % 2 + 1] for u in users]),
            spend=per_horizon(after, lambda es: float(sum(e.value for e in es if e.kind != VIEW))),
            num_purchases=per_horizon(bought, len),
            num_active_days=per_horizon(after, lambda es: len({int(e.day) for e in es})),
            next_active_days=np.array(
                [min([e.day - cut / DAY for e in own], default=np.inf) for own in after]
            ),
            observed_days=np.full(self.num_users, self.last_day - cut / DAY),
        )

    def _activity(self, own: list[Event], cut: int) -> list[float]:
        if not own:
            return [np.nan] * len(UserNumeric.ALL)
        days, spend = [e.day for e in own], float(sum(e.value for e in own))
        known = {
            UserNumeric.NUM_EVENTS: len(own),
            UserNumeric.NUM_ORDERS: len(set(days)),
            UserNumeric.NUM_ACTIVE_DAYS: len({int(d) for d in days}),
            UserNumeric.RECENCY_DAYS: cut / DAY - max(days),
            UserNumeric.TENURE_DAYS: cut / DAY - min(days),
            UserNumeric.SPEND: spend,
            UserNumeric.SPEND_30D: spend,
            UserNumeric.SPEND_90D: spend,
        }
        return [known[name] for name in UserNumeric.ALL]


def many_users(*, num_users: int = 21, seed: int = 0) -> Shop:
    """Users of 1 to 15 events, no two at one time; an event's value is its number, so it names the row."""
    rng = np.random.default_rng(seed)
    events, number = [], 0
    for user in range(1, num_users + 1):
        days = np.sort(rng.uniform(1, 110, 1 + (user * 7) % 15))
        for day in days:
            number += 1
            item, kind = int(rng.integers(1, 21)), int(rng.choice([PURCHASE, PURCHASE, VIEW]))
            told = {"dwell_s": float(number % 7), "words": (1 + number % 8, 2)[: number % 3]}
            events.append(Event(user, round(float(day), 3), item, float(number), kind, **told))
    return Shop(events, num_users)
