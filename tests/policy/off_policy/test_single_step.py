"""Estimators of single decisions: by hand on three rows, and against obp's figures on twelve."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from recsys.policy.off_policy import single_step
from recsys.policy.off_policy.contributions import Contributions
from recsys.policy.off_policy.decisions import Decisions, unsupported_mass
from recsys.policy.off_policy.reward_model import ridge, with_ridge_model
from recsys.schema import InputError

# Twelve logged choices among three actions: the target policy and a reward model for each action.
ACTION = np.array([2, 0, 1, 2, 0, 2, 0, 1, 2, 0, 1, 0])
REWARD = np.array([1, 0, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1], dtype=float)
PROPENSITY = np.array([0.54, 0.79, 0.25, 0.21, 0.53, 0.13, 0.12, 0.46, 0.43, 0.74, 0.54, 0.46])
TARGET = np.array(
    [
        *([0.683, 0.304, 0.013], [0.151, 0.522, 0.327], [0.605, 0.004, 0.391], [0.068, 0.097, 0.835]),
        *([0.202, 0.546, 0.252], [0.834, 0.054, 0.112], [0.091, 0.44, 0.469], [0.081, 0.243, 0.676]),
        *([0.066, 0.095, 0.839], [0.355, 0.511, 0.134], [0.434, 0.254, 0.312], [0.041, 0.708, 0.251]),
    ]
)
MODEL = np.array(
    [
        *([0.4, 0.1, 0.97], [0.22, 0.67, 0.3], [0.87, 0.66, 0.13], [0.85, 0.94, 0.9], [0.57, 0.15, 0.19]),
        *([0.93, 0.55, 0.18], [0.88, 0.64, 0.57], [0.38, 0.41, 0.24], [0.04, 0.88, 0.47]),
        *([0.55, 0.32, 0.75], [0.03, 0.37, 0.03], [0.12, 0.97, 0.66]),
    ]
)
# obp 0.5.7 on these twelve rows, switch at 1 and shrinkage 2.
OBP = {
    "ips": 0.4315500053409558,
    "snips": 0.532390987187844,
    "dm": 0.5152641666666666,
    "dr": 0.42378025855131035,
    "sndr": 0.4024030670245616,
    "switch_dr": 0.6358181876764487,
    "dr_shrunk": 0.608147853833574,
}


def decisions(**changes: np.ndarray | None) -> Decisions:
    """Two users: the first has two rows of weight 2 and 0.5, the second one of weight 1."""
    rows = {
        "user_R": np.array(["a", "a", "b"]),
        "slate_R": np.array(["s", "t", "u"]),
        "slot_R": np.array([1, 1, 1]),
        "action_R": np.array([3, 4, 3]),
        "reward_R": np.array([3.0, 2.0, 1.0]),
        "propensity_R": np.array([0.25, 0.5, 0.5]),
        "target_propensity_R": np.array([0.5, 0.25, 0.5]),
        "predicted_R": np.array([2.0, 2.0, 2.0]),
        "expected_R": np.array([1.0, 2.0, 3.0]),
    }
    return Decisions(**(rows | changes))


def twelve() -> Decisions:
    rows = np.arange(12)
    return Decisions(
        user_R=rows,
        slate_R=rows,
        slot_R=np.ones(12, dtype=int),
        action_R=ACTION + 1,
        reward_R=REWARD,
        propensity_R=PROPENSITY,
        target_propensity_R=TARGET[rows, ACTION],
        predicted_R=MODEL[rows, ACTION],
        expected_R=(TARGET * MODEL).sum(axis=1),
    )


def every(log: Decisions, *, cap: float, shrinkage: float) -> dict[str, Contributions]:
    return {
        "ips": single_step.ips(log),
        "snips": single_step.snips(log),
        "dm": single_step.dm(log),
        "dr": single_step.dr(log),
        "sndr": single_step.sndr(log),
        "switch_dr": single_step.switch_dr(log, cap=cap),
        "dr_shrunk": single_step.dr_shrunk(log, shrinkage=shrinkage),
    }


def test_estimates_by_hand() -> None:
    """Weighted rewards 6, 1, 1 over three rows or weights of 3.5; residuals 1, 0, -1; model 1, 2, 3."""
    expected = {
        "ips": 8 / 3,
        "snips": 8 / 3.5,
        "dm": 2,
        "dr": 2 + (2 * 1 + 0.5 * 0 - 1) / 3,
        "sndr": 2 + (2 - 1) / 3.5,
        "switch_dr": 2 + (0 + 0 - 1) / 3,  # 2 lies above the cap of 1
        "dr_shrunk": 2 + (4 / 6 * 1 - 2 / 3) / 3,  # 2 w / (w^2 + 2) is 4/6, -, 2/3
    }
    found = every(decisions(), cap=1.0, shrinkage=2.0)
    assert {name: estimate.value for name, estimate in found.items()} == pytest.approx(expected)
    assert single_step.logged(decisions()).value == pytest.approx(2.0)


def test_rows_are_added_up_within_their_user() -> None:
    estimate = single_step.snips(decisions())
    np.testing.assert_allclose(estimate.numerator_UT, [[7.0], [1.0]])
    np.testing.assert_allclose(estimate.denominator_UT, [[2.5], [1.0]])
    ratio = 8 / 3.5
    np.testing.assert_allclose(estimate.influence_U, [(7 - 2.5 * ratio) / 1.75, (1 - ratio) / 1.75])


def test_a_paired_difference_is_the_difference_and_its_influence_too() -> None:
    log = decisions()
    gain = single_step.snips(log).minus(single_step.logged(log))
    assert gain.value == pytest.approx(8 / 3.5 - 2)
    np.testing.assert_allclose(
        gain.influence_U, single_step.snips(log).influence_U - single_step.logged(log).influence_U
    )


def test_figures_of_obp() -> None:
    found = {name: estimate.value for name, estimate in every(twelve(), cap=1.0, shrinkage=2.0).items()}
    assert found == pytest.approx(OBP, rel=1e-12)


@pytest.fixture
def obp() -> ModuleType:
    """The public library, whose pins keep it out of the lock: pip install --no-deps obp==0.5.7."""
    return pytest.importorskip("obp.ope")


def test_obp_itself_where_it_is_installed(obp: ModuleType) -> None:
    estimators = {
        "ips": obp.InverseProbabilityWeighting(),
        "snips": obp.SelfNormalizedInverseProbabilityWeighting(),
        "dm": obp.DirectMethod(),
        "dr": obp.DoublyRobust(),
        "sndr": obp.SelfNormalizedDoublyRobust(),
        "switch_dr": obp.SwitchDoublyRobust(lambda_=1.5),
        "dr_shrunk": obp.DoublyRobustWithShrinkage(lambda_=3.0),
    }
    found = every(twelve(), cap=1.5, shrinkage=3.0)
    for name, estimator in estimators.items():
        theirs = estimator.estimate_policy_value(
            reward=REWARD,
            action=ACTION,
            position=np.zeros(12, dtype=int),
            pscore=PROPENSITY,
            action_dist=TARGET[:, :, None],
            estimated_rewards_by_reg_model=MODEL[:, :, None],
        )
        assert found[name].value == pytest.approx(theirs, rel=1e-12), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"propensity_R": np.array([0.25, np.nan, 0.5])}, "purchase logs"),
        ({"propensity_R": np.array([0.25, 0.0, 0.5])}, "row 2 is 0"),
        ({"propensity_R": np.array([0.25, 0.5, 1.5])}, "row 3 is 1.5"),
        ({"target_propensity_R": np.array([np.nan, 0.5, 0.5])}, "target's propensity in row 1"),
        ({"reward_R": np.array([1.0, np.inf, 0.0])}, "reward_R in row 2"),
        ({"reward_R": np.array([1.0, 0.0])}, "reward_R has shape"),
        ({"predicted_R": None}, "both or neither"),
        ({"slate_R": np.array(["s", "s", "u"])}, "slate s holds slot 1 twice"),
        (
            {"slate_R": np.array(["s", "t", "s"]), "slot_R": np.array([1, 1, 2])},
            "slate s holds action 3 twice",
        ),
        ({"unsupported_R": np.array([0.0, 1.2, 0.0])}, "unsupported_R in row 2"),
    ],
)
def test_a_log_that_cannot_be_is_refused(changes: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        decisions(**changes)


def test_mass_on_what_is_never_logged() -> None:
    target_RN = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    logging_RN = np.array([[0.9, 0.1, 0.0], [0.98, 0.01, 0.01]])
    np.testing.assert_allclose(unsupported_mass(target_RN, logging_RN), [0.2, 0.0])
    np.testing.assert_allclose(unsupported_mass(target_RN, logging_RN, floor=0.01), [0.2, 0.9])


def test_ridge_is_that_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    features_RD, target_R = rng.normal(size=(40, 3)) + 2, rng.normal(size=40)
    theirs = linear_model.Ridge(alpha=3.0).fit(features_RD, target_R)
    theta_D, intercept = ridge(features_RD, target_R, penalty=3.0)
    np.testing.assert_allclose(theta_D, theirs.coef_, rtol=1e-10)
    assert intercept == pytest.approx(theirs.intercept_)


def test_a_reward_model_never_learns_from_the_user_it_predicts() -> None:
    """Moving one user's rewards moves no prediction of that user, and some of the others'."""
    rng = np.random.default_rng(1)
    log, features_RD = twelve(), rng.normal(size=(12, 2))
    moved_R = REWARD + np.where(np.arange(12) == 4, 100.0, 0.0)
    moved = Decisions(**(vars_of(log) | {"reward_R": moved_R}))
    first, second = (
        with_ridge_model(each, features_RD=features_RD, expected_features_RD=features_RD).predicted_R
        for each in (log, moved)
    )
    assert first is not None
    assert second is not None
    assert first[4] == second[4]
    assert (first != second).any()


def vars_of(log: Decisions) -> dict[str, np.ndarray]:
    return {name: getattr(log, name) for name in log.__dataclass_fields__}
