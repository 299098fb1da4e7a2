"""Settings of training samples."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.settings import check_range


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """How histories become samples.

    max_length: events of a window; longer users become windows that overlap by half.
    target_window_days: items bought within this many days after the query are its targets.
    recency_half_life_days: weight of a query halves with every so many days before the boundary; 0 = equal.
    max_targets: targets of one query, drawn at random where there are more.
    dated_query_share: share of a user's period starts that ask, drawn anew each epoch.
    dated_query_weight: weight of such a query beside those within an order.
    inner_query_share: share of the positions within a moment (an order's lines) that ask as well, drawn anew
        each epoch; the order of a moment's events is shuffled each epoch, having no meaning.
    num_negatives: items drawn each step beside those of its rows and targets; a catalogue that is not larger
        is looked at whole.
    """

    max_length: int = 200
    target_window_days: int = 30
    recency_half_life_days: float = 120.0
    max_targets: int = 64
    dated_query_share: float = 0.5
    dated_query_weight: float = 3.0
    inner_query_share: float = 0.15
    num_negatives: int = 10_000

    def __post_init__(self) -> None:
        for name, least in (
            ("max_length", 2),
            ("target_window_days", 1),
            ("recency_half_life_days", 0),
            ("max_targets", 1),
            ("dated_query_weight", 0),
            ("num_negatives", 2),
        ):
            check_range(f"data.samples.{name}", getattr(self, name), least=least)
        for name in ("dated_query_share", "inner_query_share"):
            check_range(f"data.samples.{name}", getattr(self, name), least=0, most=1)
