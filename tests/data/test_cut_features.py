"""Features of a cut query, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recsys.data.cut_features import NUM_CUT_FEATURES, CutScaler, num_cut_features, raw_cut_features
from recsys.schema import UserNumeric


def activity(**known: float) -> np.ndarray:
    return np.array([[known.get(name, 0.0) for name in UserNumeric.ALL]])


def test_logs_and_rates() -> None:
    row_UA = activity(num_events=9, num_orders=4, recency_days=15, tenure_days=60, spend=100)
    logs_and_rates = raw_cut_features(row_UA)[0]
    expected = {"num_events": math.log(10), "num_orders": math.log(5), "spend": math.log(101)}
    for name, value in expected.items():
        assert logs_and_rates[UserNumeric.ALL.index(name)] == pytest.approx(value)
    rates = [15 / 60, math.log1p(4 / 60 * 30), math.log1p(100 / 60 * 30)]
    assert logs_and_rates[-7:-4].tolist() == pytest.approx(rates)


def test_silence_beside_the_own_rhythm() -> None:
    row_UA = activity(num_orders=4, recency_days=15, tenure_days=60, spend=100)
    left, stayed, rate, order_value = raw_cut_features(row_UA)[0, -4:]
    assert left == pytest.approx(3.25 * math.log((30 + 60) / (30 + 45)))
    assert stayed == pytest.approx(-math.log(1 + math.exp(left) / 5))
    assert rate == pytest.approx(math.log(4.25 / 90))
    assert order_value == pytest.approx(math.log(26))
    once = raw_cut_features(activity(num_orders=1, recency_days=60, tenure_days=60))[0, -4]
    assert once == 0  # nobody is taken to have left before a second order
    longer = raw_cut_features(activity(num_orders=4, recency_days=45, tenure_days=90, spend=100))[0, -4:]
    assert longer[0] > left
    assert longer[1] < stayed


def test_without_history_and_with_debts_it_is_finite() -> None:
    assert raw_cut_features(np.full((1, len(UserNumeric.ALL)), np.nan)).tolist() == [[0.0] * NUM_CUT_FEATURES]
    assert np.isfinite(raw_cut_features(activity(spend=-50, tenure_days=0))).all()


def test_scaling_is_by_the_fitted_cuts_and_bounded() -> None:
    two_UA = np.concatenate([activity(num_events=0), activity(num_events=math.e**2 - 1)])  # logs 0 and 2
    raw_UR = raw_cut_features(two_UA)
    scaler = CutScaler.fit(lambda: [raw_UR])
    assert scaler(raw_UR)[:, 0].tolist() == pytest.approx([-1, 1])
    assert scaler(raw_cut_features(activity(num_events=1e9)))[0, 0] == 5
    assert CutScaler.fit(lambda: [])(raw_UR)[:, 0].tolist() == pytest.approx([0, 2])


@pytest.mark.parametrize("size", [1, 7, 5000])
def test_the_scaler_is_that_of_all_rows_to_the_last_bit_whatever_the_blocks(size: int) -> None:
    raw_UR = np.random.default_rng(0).lognormal(size=(3000, NUM_CUT_FEATURES))
    scaler = CutScaler.fit(lambda: (raw_UR[k : k + size] for k in range(0, len(raw_UR), size)))
    assert scaler.mean == raw_UR.mean(0).tolist()
    assert scaler.std == raw_UR.std(0).tolist()


def test_edges_of_a_graph_come_last_as_logs_and_change_nothing_else() -> None:
    row_UA = activity(num_events=9, num_orders=3, recency_days=5, tenure_days=60, spend=90)
    with_graph_UA = np.column_stack([row_UA, [[3.0, 0.0]]])
    raw_UR = raw_cut_features(with_graph_UA)
    assert raw_UR.shape[1] == num_cut_features(with_graph_UA.shape[1]) == NUM_CUT_FEATURES + 2
    assert raw_UR[0, :-2].tolist() == raw_cut_features(row_UA)[0].tolist()
    assert raw_UR[0, -2:].tolist() == pytest.approx([np.log(4), 0])
    assert not raw_cut_features(np.full((1, with_graph_UA.shape[1]), np.nan)).any()
    empty = CutScaler.fit(lambda: [], num_features=raw_UR.shape[1])
    assert empty(raw_UR).shape == raw_UR.shape
