"""When an estimate is not to be believed: the rules, and the reason in words."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.policy.off_policy.overlap import Overlap
from recsys.settings import check_range


@dataclass(frozen=True, kw_only=True)
class OverlapRules:
    """What a log must offer before anything is estimated from it. Raises InputError for what cannot be.

    `min_effective_share` is of the effective sample size in the number of weights, `max_largest_share` what
    one weight may hold of them all, `max_mean_weight_errors` how many standard errors the mean weight may lie
    from 1, `max_unsupported_mass` how much of the target policy may lie where the log cannot show it.
    """

    min_users: int = 100
    min_rewarded: int = 20
    min_effective_share: float = 0.05
    min_effective_size: float = 100.0
    max_largest_share: float = 0.05
    max_mean_weight_errors: float = 5.0
    max_unsupported_mass: float = 0.01

    def __post_init__(self) -> None:
        check_range("rules.min_users", self.min_users, least=2)
        check_range("rules.min_rewarded", self.min_rewarded, least=1)
        check_range("rules.min_effective_share", self.min_effective_share, above=0, most=1)
        check_range("rules.min_effective_size", self.min_effective_size, least=2)
        check_range("rules.max_largest_share", self.max_largest_share, above=0, most=1)
        check_range("rules.max_mean_weight_errors", self.max_mean_weight_errors, above=0)
        check_range("rules.max_unsupported_mass", self.max_unsupported_mass, least=0, below=1)


def reasons_against(overlap: Overlap, rules: OverlapRules) -> tuple[str, ...]:
    """Why an estimate that rests on these weights is refused; empty where it is not."""
    if overlap.always_certain:
        return (
            "every logged action had propensity 1, so the policy was deterministic and its log shows nothing "
            "of any other; explore with policy.kind=plackett_luce",
        )
    unsupported = overlap.unsupported_mass or 0.0
    strayed = abs(overlap.mean_weight - 1)
    checks = (
        (
            overlap.num_users < rules.min_users,
            f"{overlap.num_users} users are fewer than {rules.min_users}; collect a longer log",
        ),
        (
            overlap.num_rewarded < rules.min_rewarded,
            f"{overlap.num_rewarded} rewards are fewer than {rules.min_rewarded}; collect a longer log",
        ),
        (
            overlap.effective_share < rules.min_effective_share,
            f"the effective sample is {overlap.effective_share:.2%} of the log, below "
            f"{rules.min_effective_share:.2%}; evaluate a policy closer to the one that logged",
        ),
        (
            overlap.effective_size < rules.min_effective_size,
            f"the effective sample size is {overlap.effective_size:.0f}, below "
            f"{rules.min_effective_size:.0f}; collect a longer log",
        ),
        (
            overlap.largest_share > rules.max_largest_share,
            f"one weight holds {overlap.largest_share:.1%} of them all, above {rules.max_largest_share:.1%}; "
            "explore with a higher floor",
        ),
        (
            unsupported > rules.max_unsupported_mass,
            f"{unsupported:.1%} of the target policy lies on items that were never shown, above "
            f"{rules.max_unsupported_mass:.1%}; evaluate a policy over the logged candidates",
        ),
        (
            strayed > rules.max_mean_weight_errors * overlap.mean_weight_error and strayed > 1e-6,
            f"weights average {overlap.mean_weight:.3f} with standard error {overlap.mean_weight_error:.3f}, "
            "not 1: the propensities are wrong, or the target shows items that were never logged",
        ),
    )
    return tuple(reason for is_broken, reason in checks if is_broken)
