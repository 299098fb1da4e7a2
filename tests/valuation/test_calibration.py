"""What a calibration does to the heads' parameters, by hand."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from recsys.valuation.calibration import ValueCalibration, no_calibration
from recsys.valuation.law import ValueParameters
from recsys.valuation.maps import MonotoneMap

RAW = ValueParameters(
    payer_UH=np.array([[0.5, 0.5, 0.9]]),
    mean_UH=np.array([[10.0, 20.0, 1e9]]),
    sigma_UH=np.array([[1.0, 0.5, 7.0]]),
    hazard_UJ=np.array([[0.5, 0.9]]),
    conversion_U=np.array([0.4]),
)


def calibration() -> ValueCalibration:
    """Two horizons and one bin learned, the rest extrapolated."""
    return dataclasses.replace(
        no_calibration(3, 2),
        num_learned=2,
        num_learned_bins=1,
        spend_maps=(MonotoneMap((1.0,), (0.5,)), MonotoneMap((1.0,), (2.0,)), MonotoneMap()),
        largest=(1e6, 30.0, 1e6),
        level=(1.0, 1.5, 1.0),
        spend_ratio=(0.0, 0.0, 0.4),
        hazard_ratio=(0.0, 2.0),
        conversion_map=MonotoneMap((1.0,), (0.5,)),
        spread=(1.0, 2.0, 3.0),
        dependence=0.5,
        decay="BG/NBD",
    )


def test_maps_cap_level_and_decay() -> None:
    told = calibration()(RAW)
    assert told.mean_UH[0].tolist() == pytest.approx([5.0, 45.0, 20.0])  # 45 = 1.5 x cap; 20 = 0.4 x 50
    assert told.payer_UH[0].tolist() == pytest.approx([0.5, 0.5, 1 - 0.25**0.4])
    assert told.sigma_UH[0].tolist() == pytest.approx([1.0, 1.0, 1.5])  # the last: 3 x 0.5 of the learned
    assert told.hazard_UJ[0].tolist() == pytest.approx([0.5, 0.75])  # 1 - 0.5^2
    assert told.conversion_U.tolist() == pytest.approx([0.2])
    assert (np.diff(told.spend_UH()) >= 0).all()


def test_what_the_heads_say_of_a_horizon_they_did_not_learn_is_not_heard() -> None:
    other = dataclasses.replace(RAW, mean_UH=np.array([[10.0, 20.0, 3.0]]), hazard_UJ=np.array([[0.5, 0.1]]))
    assert np.array_equal(calibration()(RAW).spend_UH(), calibration()(other).spend_UH())
    assert np.array_equal(calibration()(RAW).return_UJ(), calibration()(other).return_UJ())


def test_without_calibration_the_heads_are_taken_at_their_word() -> None:
    told = no_calibration(3, 2)(RAW)
    for name, values in vars(RAW).items():
        np.testing.assert_allclose(getattr(told, name), values, rtol=1e-12)


def test_it_comes_back_from_json() -> None:
    assert ValueCalibration.from_dict(json.loads(json.dumps(calibration().as_dict()))) == calibration()


def test_the_note_names_the_horizon_and_what_is_added() -> None:
    assert calibration().note([7, 30, 90]) == (
        "training cuts were watched for 30 days; spend beyond follows that before by BG/NBD: "
        "up to 90 days 1.40 times that"
    )
    assert no_calibration(3, 2).note([7, 30, 90]) is None
