"""Against hand calculations and sklearn."""

import math

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from recsys.metrics.calibration import brier, expected_calibration_error, roc_auc


def test_auc_and_brier_agree_with_sklearn() -> None:
    rng = np.random.default_rng(0)
    predicted = np.round(rng.random(400), 1)  # many ties
    actual = (rng.random(400) < predicted).astype(int)
    assert roc_auc(actual, predicted) == pytest.approx(roc_auc_score(actual, predicted))
    assert brier(actual, predicted) == pytest.approx(brier_score_loss(actual, predicted))


def test_auc_without_both_kinds_is_undefined() -> None:
    assert math.isnan(roc_auc(np.ones(3), np.array([0.1, 0.2, 0.3])))


def test_calibration_error_by_hand() -> None:
    # Ten bins of two users; every bin's probability is 0.1 above its outcome but the last, exact.
    actual = np.tile([0, 1], 10)
    predicted = np.repeat(np.linspace(0.6, 0.60009, 10), 2)
    predicted[-2:] = 0.9
    error = (np.abs(predicted[::2] - 0.5)).mean()
    assert expected_calibration_error(actual, predicted) == pytest.approx(error)


def test_a_right_constant_has_no_calibration_error() -> None:
    actual = np.array([1] * 30 + [0] * 70)  # sorted by outcome: ties must not follow the rows
    assert expected_calibration_error(actual, np.full(100, 0.3)) == pytest.approx(0)


def test_other_outcomes_are_refused() -> None:
    with pytest.raises(AssertionError, match="0 or 1"):
        roc_auc(np.array([0, 2]), np.array([0.1, 0.2]))
