"""A calibration fitted to what heads said and what came: wrong levels, unwatched horizons, wrong spread."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from recsys.nn.value_heads import ValueHeadsConfig
from recsys.schema import InputError
from recsys.valuation.law import ValueParameters, coverage
from recsys.value_calibration import CutRecords, Level, fit_calibration

HEADS = ValueHeadsConfig(
    width=8,
    num_heads=2,
    num_features=3,
    horizons_days=(7, 30, 90),
    bin_ends_days=(7, 30, 90),
    log_spend=(1.0, 1.0, 1.0),
)
NUM = 12_000
WATCHED_DAYS = np.repeat([30.0, 44.0, 58.0, 72.0, 86.0, 100.0], NUM // 6)  # of six cuts; one saw all 90 days
PAYER, MEAN, SIGMA = 0.5, np.array([10.0, 20.0, 30.0]), 0.6


def world(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Spend (K, H) of increments that pay half the time, lognormal, and the users' own factor (K,)."""
    rng = np.random.default_rng(seed)
    factor_K = np.exp(rng.normal(size=NUM) - 0.5)
    amount = np.exp(SIGMA * rng.normal(size=(NUM, 3)) - SIGMA**2 / 2) * factor_K[:, None] * MEAN / PAYER
    return np.where(rng.random((NUM, 3)) < PAYER, amount, 0.0), factor_K


def said(factor_K: np.ndarray, *, level: float, sigma: float) -> ValueParameters:
    return ValueParameters(
        payer_UH=np.full((len(factor_K), 3), PAYER),
        mean_UH=level * factor_K[:, None] * MEAN,
        sigma_UH=np.full((len(factor_K), 3), sigma),
        hazard_UJ=np.full((len(factor_K), 3), 0.4),
        conversion_U=np.full(len(factor_K), 0.9),
    )


def records(*, level: float = 2.0, sigma: float = 0.3) -> CutRecords:
    spend_KH, factor_K = world()
    return CutRecords(
        said=said(factor_K, level=level, sigma=sigma),
        fold_K=np.arange(NUM),
        spend_KH=spend_KH,
        observed_KH=np.array(HEADS.horizons_days) <= WATCHED_DAYS[:, None],
        next_active_days_K=np.where(spend_KH[:, 0] > 0, 3.0, np.inf),
        observed_days_K=WATCHED_DAYS,
        converted_K=spend_KH[:, 0] > 0,
    )


def at_boundary(factor_U: np.ndarray, *, expected: tuple[float, ...] = (10.0, 20.0, 15.0)) -> Level:
    """The decay expects as much as came, and of the third increment half of it: it fades."""
    return Level(
        expected_H=np.array(expected) * len(factor_U),
        ratio_H=np.array([1.0, 1.0, np.nan]),
        hazard_J=np.array([0.5, 0.2, 0.1]),
        said=said(factor_U, level=2.0, sigma=0.3),
        source="BG/NBD",
    )


FACTOR = np.exp(np.random.default_rng(9).normal(size=3000) - 0.5)


def test_a_horizon_that_one_cut_watched_is_extrapolated() -> None:
    found = fit_calibration(records(), at_boundary(FACTOR), HEADS)
    assert (found.num_learned, found.num_learned_bins, found.decay) == (2, 2, "BG/NBD")
    assert found.spend_ratio == pytest.approx((0.0, 0.0, 0.5))
    assert found.hazard_ratio == pytest.approx((0.0, 0.0, 0.1 / 0.7))
    told = found(said(FACTOR, level=2.0, sigma=0.3))
    assert told.mean_UH.mean(0) == pytest.approx([10.0, 20.0, 15.0], rel=1e-6)
    assert np.argsort(told.spend_UH()[:, 2]).tolist() == np.argsort(FACTOR).tolist()


def test_a_young_log_is_calibrated_by_the_cuts_it_has() -> None:
    """Two cuts, 30 and 44 days before its end: too few for what an older log asks, and all there is."""
    young = records()
    known_K = young.observed_days_K < 50
    of_them = {name: column[known_K] for name, column in vars(young).items() if name != "said"}
    heads = ValueParameters(*(column[known_K] for column in vars(young.said).values()))
    found = fit_calibration(CutRecords(said=heads, **of_them), at_boundary(FACTOR), HEADS)
    assert (found.num_learned, found.num_learned_bins) == (2, 2)
    told = found(said(FACTOR, level=2.0, sigma=0.3))
    assert told.mean_UH.mean(0) == pytest.approx([10.0, 20.0, 15.0], rel=1e-6)


def test_levels_follow_the_past_of_the_population_and_not_the_heads() -> None:
    for heads_say in (0.8, 2.0):
        level = dataclasses.replace(at_boundary(FACTOR), said=said(FACTOR, level=heads_say, sigma=0.3))
        found = fit_calibration(records(level=heads_say), level, HEADS)
        assert found(level.said).mean_UH.mean(0)[:2] == pytest.approx([10.0, 20.0], rel=1e-6)


def test_a_decay_that_is_far_off_is_not_believed() -> None:
    found = fit_calibration(records(), at_boundary(FACTOR, expected=(1000.0, 2000.0, 10.0)), HEADS)
    assert max(found.level) == 3.0


def test_chances_are_mended() -> None:
    found = fit_calibration(records(), at_boundary(FACTOR), HEADS)
    told = found(said(FACTOR, level=2.0, sigma=0.3))
    assert told.conversion_U.mean() == pytest.approx(0.5, abs=0.02)
    # nobody came in the second bin: nothing to mend it by
    assert told.hazard_UJ[0] == pytest.approx([0.5, 0.4, 1 - (0.5 * 0.6) ** (0.1 / 0.7)], abs=0.02)


def test_nine_tenths_lie_within_nine_tenths_of_the_law() -> None:
    heads_say = records()
    found = fit_calibration(heads_say, at_boundary(FACTOR), HEADS)
    assert found.spread[0] == pytest.approx(2.0, rel=0.25)  # the heads said half of it
    spend_KH, factor_K = world(seed=5)
    told = found(said(factor_K, level=2.0, sigma=0.3))
    draws_KHS = found.draws(told, np.arange(NUM))
    for h in (0, 1):
        came = spend_KH[:, : h + 1].sum(1)[:, None]
        covered = coverage((draws_KHS[:, h] < came).mean(1), (draws_KHS[:, h] <= came).mean(1))
        assert covered == pytest.approx(0.9, abs=0.015)


def test_heads_are_no_surer_at_the_boundary_than_at_the_cuts_that_taught_them() -> None:
    at_cuts, now = records(sigma=0.6), at_boundary(FACTOR)
    sure = dataclasses.replace(now, said=said(FACTOR, level=2.0, sigma=0.3))
    unsure = dataclasses.replace(now, said=said(FACTOR, level=2.0, sigma=0.9))
    usual = fit_calibration(at_cuts, dataclasses.replace(now, said=said(FACTOR, level=2.0, sigma=0.6)), HEADS)
    assert fit_calibration(at_cuts, sure, HEADS).spread == pytest.approx(2 * np.array(usual.spread))
    assert fit_calibration(at_cuts, unsure, HEADS).spread == pytest.approx(usual.spread)


def test_without_money_only_chances_are_touched() -> None:
    found = fit_calibration(records(), at_boundary(FACTOR), dataclasses.replace(HEADS, has_value=False))
    assert found.level == (1.0, 1.0, 1.0)
    assert found.conversion_map.actual[0] != 1.0


def test_heads_that_have_diverged_are_named() -> None:
    broken = records()
    broken.said.hazard_UJ[3, 1] = np.nan
    with pytest.raises(InputError, match=r"value estimates are not numbers; .* lower optimizer\.lr"):
        fit_calibration(broken, at_boundary(FACTOR), HEADS)
