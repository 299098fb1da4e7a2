"""Whether a challenger may take the champion's place: the rules, and the reasons.

Legend: U users.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from recsys.metrics.interval import bootstrap, paired_difference, paired_statistic_difference
from recsys.metrics.value import normalised_gini, total_bias
from recsys.settings import check_range

_FIRST = "there is no champion yet: judged without a comparison"
_NO_VALUE = (True, "value: none in this data set, not judged")


class PerUser(Protocol):
    """One bundle's figures for every user of one cut.

    `ndcg10_U` is nan for a user without targets. Spend is that within `horizon_days` of the cut, the longest
    horizon watched to its end; `spend_actual_U` is nan where it was not. The two spend arrays are None where
    the data set has no money, `horizon_days` as well where no horizon was watched to its end.
    """

    @property
    def cut(self) -> int: ...
    @property
    def table_version(self) -> str: ...
    @property
    def split_hash(self) -> str: ...
    @property
    def user_index_U(self) -> np.ndarray: ...
    @property
    def ndcg10_U(self) -> np.ndarray: ...
    @property
    def horizon_days(self) -> int | None: ...
    @property
    def spend_actual_U(self) -> np.ndarray | None: ...
    @property
    def spend_predicted_U(self) -> np.ndarray | None: ...


@dataclass(frozen=True, kw_only=True)
class PromotionRules:
    """What a challenger may lose; conf/promote.yaml says how each is meant."""

    ndcg_relative_margin: float
    gini_margin: float
    max_abs_bias: float
    min_users: int
    num_resamples: int
    seed: int

    def __post_init__(self) -> None:
        for name in ("ndcg_relative_margin", "gini_margin", "max_abs_bias"):
            check_range(f"rules.{name}", getattr(self, name), least=0)
        for name in ("min_users", "num_resamples"):
            check_range(f"rules.{name}", getattr(self, name), least=1)
        check_range("rules.seed", self.seed, least=0)


@dataclass(frozen=True)
class Verdict:
    """`reasons` has a sentence for every rule looked at, those that failed first."""

    promote: bool
    reasons: tuple[str, ...]


def judge(
    *, challenger: PerUser, champion: PerUser | None, rules: PromotionRules, unreadable: str | None = None
) -> Verdict:
    """Non-inferiority of the challenger, by paired bootstrap over users (see conf/promote.yaml).

    `champion` None: the first one is held to the limits that need no comparison: its figures are finite, the
    users are enough, its bias is within the rule. `unreadable`: that there is a champion, but
    none to compare with.
    """
    broken = _broken_figures(challenger)
    if broken:
        return Verdict(False, (broken,))
    if champion is None:
        return _verdict([(True, unreadable or _FIRST), *_judge_first(challenger, rules)])
    mismatch = _mismatch(challenger, champion)
    if mismatch:
        return Verdict(False, (f"cannot be compared: {mismatch}",))
    return _verdict([_judge_ndcg(challenger, champion, rules), *_judge_value(challenger, champion, rules)])


def _verdict(outcomes: list[tuple[bool, str]]) -> Verdict:
    failed = tuple(reason for holds, reason in outcomes if not holds)
    held = tuple(reason for holds, reason in outcomes if holds)
    return Verdict(not failed, failed + held)


def _judge_first(challenger: PerUser, rules: PromotionRules) -> list[tuple[bool, str]]:
    outcomes = [_enough_targets(challenger, rules)]
    predicted_U, actual_U = challenger.spend_predicted_U, challenger.spend_actual_U
    if predicted_U is None or actual_U is None:
        return [*outcomes, _NO_VALUE]
    observed_U = np.isfinite(actual_U)
    if few := _too_few_observed(observed_U, challenger, rules):
        return [*outcomes, (False, few)]
    mine_U = predicted_U[observed_U]
    return [*outcomes, _judge_bias(_over(challenger), actual_U[observed_U], mine_U, None, rules)]


def _enough_targets(challenger: PerUser, rules: PromotionRules) -> tuple[bool, str]:
    num_users = int((~np.isnan(challenger.ndcg10_U)).sum())
    if num_users < rules.min_users:
        return False, f"NDCG@10: {num_users} users have targets, fewer than min_users={rules.min_users}"
    return True, f"NDCG@10: {np.nanmean(challenger.ndcg10_U):.4f} over {num_users} users"


def _over(challenger: PerUser) -> str:
    return f"over {challenger.horizon_days} days"


def _too_few_observed(observed_U: np.ndarray, challenger: PerUser, rules: PromotionRules) -> str | None:
    if challenger.horizon_days is None:
        return "value: no horizon was watched to its end after the cut; judge it on newer tables"
    if (num_users := int(observed_U.sum())) >= rules.min_users:
        return None
    return (
        f"value {_over(challenger)}: {num_users} users were observed, fewer than min_users={rules.min_users}"
    )


def _broken_figures(challenger: PerUser) -> str | None:
    if np.isinf(challenger.ndcg10_U).any() or np.isnan(challenger.ndcg10_U).all():
        return "the challenger's NDCG@10 is not finite: the model did not train"
    predicted_U = challenger.spend_predicted_U
    if predicted_U is not None and not np.isfinite(predicted_U).all():
        return "the challenger's predicted spend is not finite: the model did not train"
    return None


def _mismatch(challenger: PerUser, champion: PerUser) -> str | None:
    """Why the two cannot be compared user by user, if so."""
    for name, mine, theirs in (
        ("table version", challenger.table_version, champion.table_version),
        ("split", challenger.split_hash, champion.split_hash),
        ("cut", challenger.cut, champion.cut),
    ):
        if mine != theirs:
            return f"the challenger was evaluated on {name} {mine}, the champion on {theirs}"
    if not np.array_equal(challenger.user_index_U, champion.user_index_U):
        return "the two were evaluated on different users"
    if not np.array_equal(np.isnan(challenger.ndcg10_U), np.isnan(champion.ndcg10_U)):
        return "the two have ranking targets for different users"
    if (
        challenger.spend_actual_U is not None
        and champion.spend_actual_U is not None
        and not np.array_equal(challenger.spend_actual_U, champion.spend_actual_U, equal_nan=True)
    ):
        return "the two were evaluated against different actual spend"
    return None


def _judge_ndcg(challenger: PerUser, champion: PerUser, rules: PromotionRules) -> tuple[bool, str]:
    enough = _enough_targets(challenger, rules)
    if not enough[0]:
        return enough
    has_targets_U = ~np.isnan(champion.ndcg10_U)
    a_U, b_U = challenger.ndcg10_U[has_targets_U], champion.ndcg10_U[has_targets_U]
    difference = paired_difference(a_U, b_U, num_resamples=rules.num_resamples, seed=rules.seed)
    margin = rules.ndcg_relative_margin * float(b_U.mean())
    return difference.low >= -margin, (
        f"NDCG@10: {a_U.mean():.4f} against {b_U.mean():.4f}, difference {difference.value:+.4f} "
        f"[{difference.low:+.4f}, {difference.high:+.4f}], may lose {margin:.4f}"
    )


def _judge_value(challenger: PerUser, champion: PerUser, rules: PromotionRules) -> list[tuple[bool, str]]:
    if challenger.spend_predicted_U is None or challenger.spend_actual_U is None:
        if champion.spend_predicted_U is None:
            return [_NO_VALUE]
        return [(False, "value: the challenger predicts none, the champion does")]
    observed_U = np.isfinite(challenger.spend_actual_U)
    if few := _too_few_observed(observed_U, challenger, rules):
        return [(False, few)]
    over = _over(challenger)
    actual_U, mine_U = challenger.spend_actual_U[observed_U], challenger.spend_predicted_U[observed_U]
    if champion.spend_predicted_U is None:
        return [_judge_bias(over, actual_U, mine_U, None, rules)]
    theirs_U = champion.spend_predicted_U[observed_U]
    if not np.isfinite(theirs_U).all():
        return [_judge_bias(over, actual_U, mine_U, None, rules)]
    return [
        _judge_gini(over, actual_U, mine_U, theirs_U, rules),
        _judge_bias(over, actual_U, mine_U, theirs_U, rules),
    ]


def _judge_gini(
    over: str, actual_U: np.ndarray, mine_U: np.ndarray, theirs_U: np.ndarray, rules: PromotionRules
) -> tuple[bool, str]:
    difference = paired_statistic_difference(
        normalised_gini, actual_U, mine_U, theirs_U, num_resamples=rules.num_resamples, seed=rules.seed
    )
    return difference.low >= -rules.gini_margin, (
        f"value Gini {over}: {normalised_gini(actual_U, mine_U):.4f} against "
        f"{normalised_gini(actual_U, theirs_U):.4f}, difference {difference.value:+.4f} "
        f"[{difference.low:+.4f}, {difference.high:+.4f}], may lose {rules.gini_margin:.4f}"
    )


def _judge_bias(
    over: str, actual_U: np.ndarray, mine_U: np.ndarray, theirs_U: np.ndarray | None, rules: PromotionRules
) -> tuple[bool, str]:
    mine = bootstrap(total_bias, actual_U, mine_U, num_resamples=rules.num_resamples, seed=rules.seed)
    theirs = None if theirs_U is None else total_bias(actual_U, theirs_U)
    limit = rules.max_abs_bias if theirs is None else max(rules.max_abs_bias, abs(theirs))
    against = "no prediction to compare with" if theirs is None else f"{theirs:+.1%}"
    return mine.low <= limit and mine.high >= -limit, (
        f"value bias {over}: {mine.value:+.1%} [{mine.low:+.1%}, {mine.high:+.1%}] against {against}, "
        f"must not lie wholly beyond {limit:.1%} (rules.max_abs_bias)"
    )
