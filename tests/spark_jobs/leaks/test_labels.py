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


def small_shop(num_rows: int, seed: int) -> tuple[Sample, np.ndarray]:
    """Numbers of the past that repeat each other, an honest tier by one, and a leak: (sample, tier)."""
    rng = np.random.default_rng(seed)
    rate_N = rng.exponential(1.0, num_rows) * 10
    past = {
        "num_events": np.round(rate_N * 5),
        "num_orders": np.round(rate_N + rng.poisson(1, num_rows)),
        "num_active_days": np.round(rate_N * 2 + rng.poisson(1, num_rows)),
        "recency_days": rng.exponential(20, num_rows),
        "tenure_days": rng.uniform(1, 300, num_rows),
        "spend": rate_N * 20 * rng.lognormal(0, 0.3, num_rows),
    }
    tier_N = np.digitize(past["spend"], np.quantile(past["spend"], [0.25, 0.5, 0.75]))
    after_N = rate_N * rng.exponential(1.0, num_rows)
    undated = {
        "tier": [f"tier {tier}" for tier in tier_N],
        "eyes": list(rng.choice(list("bgw"), num_rows)),
        "shoe_size": text(rng.normal(40, 3, num_rows)),
        "bought": ["much" if spend > np.median(after_N) else "little" for spend in after_N],
    }
    return Sample(undated=undated, numbers=past, outcome=after_N), tier_N


@pytest.mark.parametrize(("num_rows", "num_shops"), [(150, 60), (1000, 20)])
def test_shuffled_labels_are_told_rightly_as_often_as_wrongly(num_rows: int, num_shops: int) -> None:
    means = []
    for seed in range(num_shops):
        sample, tier_N = small_shop(num_rows, seed)
        rng = np.random.default_rng(seed)
        label_NK = np.stack([rng.permutation(num_rows) % 2 for _ in range(60)], axis=1).astype(float)
        is_first_N = rng.permutation(num_rows) < num_rows // 2
        past_NP = np.stack(list(sample.numbers.values()), axis=1)
        expected = labels._explained(past_NP, label_NK, is_first_N)
        means.append(labels._area([tier_N], label_NK, expected, is_first_N).mean())
    assert np.mean(means) == pytest.approx(0.5, abs=3 * np.std(means) / np.sqrt(num_shops))


def test_a_small_honest_sample_is_no_fault_of_the_check_and_a_leak_in_it_is_found() -> None:
    for seed in range(100, 160):
        told = told_by_features(small_shop(150, seed)[0])
        assert all(one.low <= 0.5 <= one.high for one in told.values())
        assert told["bought"].beyond > 0.9


def test_what_the_teaching_half_expects_of_its_own_rows_is_fitted_on_the_others() -> None:
    sample, _ = small_shop(120, 0)
    past_NP = np.stack(list(sample.numbers.values())[:2], axis=1)
    is_first_N = np.arange(120) % 2 == 0
    label_NK = (np.arange(120) // 2 % 2).astype(float)[:, None]
    changed_NK = label_NK.copy()
    changed_NK[4] = 1 - changed_NK[4]
    (first, second), (first_after, second_after) = (
        labels._explained(past_NP, given, is_first_N) for given in (label_NK, changed_NK)
    )
    assert first[4] == pytest.approx(first_after[4])  # its own label has no part in it
    assert first[6] != pytest.approx(first_after[6])
    np.testing.assert_array_equal(second, second_after)  # nor in what the other half teaches


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
