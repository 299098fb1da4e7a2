"""What a feature tells beyond the past: planted leaks, honest features, and what chance shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from spark_jobs.leaks import labels
from spark_jobs.leaks.labels import Sample, Told, label_of, told_by_features

NUM_ROWS = 1200


def text(values: Any) -> list[str]:
    return [f"{value:.2f}" for value in values]


@pytest.fixture(scope="module")
def sample() -> Sample:
    """People who buy at a rate of their own before and after the cut."""
    rng = np.random.default_rng(3)
    rate_N = rng.gamma(1.0, 1.0, NUM_ROWS)
    orders_N = 1.0 + rng.poisson(5 * rate_N)
    before_N = orders_N * rng.gamma(5.0, 2.0, NUM_ROWS)
    after_N = rng.poisson(rate_N) * rng.gamma(5.0, 2.0, NUM_ROWS)
    later_N = rng.poisson(2 * rate_N) * 10.0  # after the window: a table exported today has it in as well
    total_N = before_N + after_N + later_N
    return Sample(
        undated={
            "after": text(after_N),
            "lifetime_spend": text(total_N),
            "bought": ["yes" if spend > 0 else "no" for spend in after_N],
            "rate": text(rate_N),  # that which the past only hints at
            "country": [("UK", "FR", "DE", None)[at] for at in rng.integers(0, 4, NUM_ROWS)],
            "shoe_size": text(rng.normal(40, 3, NUM_ROWS)),
        },
        numbers={"num_orders": orders_N, "spend": before_N},
        outcome=after_N,
    )


@pytest.fixture(scope="module")
def told(sample: Sample) -> dict[str, Told]:
    return told_by_features(sample)


def test_columns_made_of_the_future_are_told_from_honest_ones(told: dict[str, Told]) -> None:
    for name in ("after", "bought"):
        assert told[name].beyond > 0.95
    assert told["lifetime_spend"].beyond > 0.75  # the spend that was before the cut is in the way
    for name in ("country", "shoe_size", "rate", "num_orders", "spend"):
        assert told[name].beyond < 0.7
    for name in ("country", "shoe_size"):
        assert told[name].beyond < 0.56


def test_what_the_past_tells_too_is_no_news(told: dict[str, Told]) -> None:
    assert told["spend"].alone > 0.65
    assert told["spend"].beyond < 0.6


def test_shuffled_labels_are_told_by_chance_only(told: dict[str, Told]) -> None:
    for one in told.values():
        assert one.low < 0.5 < one.high
        assert one.high - one.low < 0.2


def test_a_seed_gives_the_same_figures_again(sample: Sample, told: dict[str, Told]) -> None:
    assert told_by_features(sample) == told
    assert told_by_features(sample, seed=1) != told


def test_pairs_within_one_stratum_are_the_area_under_the_curve() -> None:
    rng = np.random.default_rng(0)
    label, score = rng.random(200) < 0.3, rng.integers(0, 12, 200) / 12
    right, pairs = labels._pairs(label, score, np.zeros(200, np.int64))
    assert right / pairs == pytest.approx(roc_auc_score(label, score))


def test_pairs_of_two_strata_are_counted_by_hand() -> None:
    # first stratum: 3 > 1 and 3 > 2 of two pairs; second: 5 = 5 half right, 5 < 9 wrong
    label = np.array([True, False, False, True, False, False])
    score = np.array([3.0, 1.0, 2.0, 5.0, 5.0, 9.0])
    assert labels._pairs(label, score, np.array([0, 0, 0, 4, 4, 4])) == (2.5, 4.0)


def test_text_that_reads_as_numbers_or_dates_is_taken_for_them() -> None:
    days = [f"2024-01-{day:02}" for day in range(1, 31)]
    read = labels._as_numbers([*days, None])
    assert read is not None
    np.testing.assert_array_equal(np.diff(read[:30]), 1)
    assert np.isnan(read[30])
    assert labels._as_numbers(["0", "1"]) is None
    assert labels._as_numbers([f"town {n}" for n in range(50)]) is None


def test_too_few_rows_or_one_sided_ones_tell_nothing() -> None:
    assert label_of(np.arange(99.0)) is None
    assert label_of(np.r_[np.zeros(500), np.ones(19)]) is None
    label = label_of(np.r_[np.zeros(80), np.ones(20)])
    assert label is not None
    assert label.sum() == 20
    few = Sample(undated={"a": ["x"]}, numbers={"n": np.zeros(1)}, outcome=np.zeros(1))
    assert told_by_features(few) == {}
