"""Open Bandit, small, both ways: weights as a public library finds them, estimates within both errors."""

from __future__ import annotations

import pytest

from recsys.policy.off_policy.bounds import t_bounds
from recsys.policy.off_policy.overlap import decision_overlap
from recsys.policy.off_policy.panel import PanelConfig, decision_estimates
from recsys.policy.off_policy.refusal import OverlapRules, reasons_against
from recsys.policy.off_policy.single_step import ips, logged, snips
from tests.policy.off_policy.open_bandit import BTS, CAMPAIGNS, RANDOM, is_there, open_log

pytestmark = pytest.mark.skipif(not is_there(), reason="shared data open-bandit-small is not there")

CLICKS = {  # in 10,000 rows each, as the data's own description says
    RANDOM: {"all": 38, "men": 46, "women": 46},
    BTS: {"all": 42, "men": 69, "women": 46},
}


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_truths_are_the_clicks_of_the_other_log(campaign: str) -> None:
    for logged_by, target in ((RANDOM, BTS), (BTS, RANDOM)):
        log = open_log(logged_by=logged_by, campaign=campaign)
        assert logged(log.decisions).value == pytest.approx(CLICKS[logged_by][campaign] / 10_000)
        assert log.truth.value == pytest.approx(CLICKS[target][campaign] / 10_000)
        assert log.truth.relative_error == pytest.approx(CLICKS[target][campaign] ** -0.5, rel=0.01)


def test_weights_are_those_of_obp() -> None:
    """Effective share and largest weight of campaign `all` in a run of obp 0.5.7, propensities simulated."""
    forth = decision_overlap(open_log(logged_by=RANDOM, campaign="all").decisions, cap=10)
    back = decision_overlap(open_log(logged_by=BTS, campaign="all").decisions, cap=10)
    assert (forth.effective_share, forth.max_weight) == pytest.approx((0.164, 19.6), rel=0.02)
    assert (back.effective_share, back.max_weight) == pytest.approx((0.034, 277.8), rel=0.02)


@pytest.mark.parametrize(
    ("campaign", "ips_of_obp", "snips_of_obp"),
    [
        ("all", 0.00457056, 0.00479445209085089),
        ("men", 0.004541788, 0.00461243234590501),
        ("women", 0.0067997199999999995, 0.006793961913459486),
    ],
)
def test_estimates_are_those_of_obp(campaign: str, ips_of_obp: float, snips_of_obp: float) -> None:
    """obp 0.5.7 on its own copy of the data, given the same simulated propensities."""
    decisions = open_log(logged_by=RANDOM, campaign=campaign).decisions
    assert ips(decisions).value == pytest.approx(ips_of_obp, rel=0.02)
    assert snips(decisions).value == pytest.approx(snips_of_obp, rel=0.02)


def test_too_little_overlap_is_refused_one_way() -> None:
    forth = decision_overlap(open_log(logged_by=RANDOM, campaign="all").decisions, cap=10)
    back = decision_overlap(open_log(logged_by=BTS, campaign="all").decisions, cap=10)
    assert reasons_against(forth, OverlapRules()) == ()
    assert any("effective sample is 3." in reason for reason in reasons_against(back, OverlapRules()))


@pytest.mark.parametrize("campaign", CAMPAIGNS)
@pytest.mark.parametrize("logged_by", [RANDOM, BTS])
def test_estimates_agree_with_the_truth_within_both_errors(logged_by: str, campaign: str) -> None:
    """Three standard errors of the difference: the data cannot say more."""
    log = open_log(logged_by=logged_by, campaign=campaign)
    estimates = decision_estimates(log.with_model(), PanelConfig())
    truth_error = log.truth.value * log.truth.relative_error
    for name in ("ips", "snips", "dr", "sndr"):
        error = (estimates[name].standard_error ** 2 + truth_error**2) ** 0.5
        assert abs(estimates[name].value - log.truth.value) < 3 * error, name
        assert t_bounds(estimates[name]).lower < log.truth.value + 2 * truth_error
