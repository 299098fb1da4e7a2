"""The dial from accuracy (0) to long-term value: its settings, and which of them a bundle starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recsys.policy.advantage import CriticConfig
from recsys.settings import check_range


@dataclass(frozen=True, kw_only=True)
class DialConfig:
    """`settings`: of the dial, that a front is made of besides 0; `category_penalty` and
    `category_memory_days`: of the policy whose slates are judged (`PolicyConfig`); `most_ndcg_loss`: the
    share of NDCG that the default may cost, penalty included; `level`: of intervals and of the lower bound of
    the gain. Raises InputError.
    """

    critic: CriticConfig = field(default_factory=CriticConfig)
    settings: list[float] = field(
        default_factory=lambda: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0]
    )
    category_penalty: float = 0.0
    category_memory_days: float = 0.0
    most_ndcg_loss: float = 0.02
    level: float = 0.95

    def __post_init__(self) -> None:
        for setting in self.settings:
            check_range("dial.settings", setting, above=0)
        check_range("dial.category_penalty", self.category_penalty, least=0)
        check_range("dial.category_memory_days", self.category_memory_days, least=0)
        check_range("dial.most_ndcg_loss", self.most_ndcg_loss, least=0, below=1)
        check_range("dial.level", self.level, above=0, below=1)


def default_dial(front: Sequence[Mapping[str, Any]], *, most_ndcg_loss: float) -> float:
    """The largest dial of a front whose NDCG loss is small enough and whose gain has a lower bound above 0; 0
    where there is none. A front's rows name `dial`, `ndcg_loss` and `gain_lower` (None: refused).
    """
    fit = [
        float(row["dial"])
        for row in front
        if row["gain_lower"] is not None and row["gain_lower"] > 0 and row["ndcg_loss"] <= most_ndcg_loss
    ]
    return max(fit, default=0.0)
