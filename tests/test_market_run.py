"""What the worlds promise, at a small size: value-aware oracles gain in default, never in null_world."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recsys.market_run import SimulateSettings, Simulation, figures, table_lines
from recsys.policy.slates import PolicyConfig
from recsys.pseudonym import load_key
from recsys.schema import InputError
from recsys.simulator.market import Market
from recsys.simulator.policies import Ranked, ValueAware, expected_revenue
from recsys.simulator.truth import Ledger
from tests.simulator.worlds import load_world

SLATES = PolicyConfig(kind="plackett_luce", slate_size=10)


def simulate(world: str, seed: int, folder: Path) -> dict:
    settings = SimulateSettings(
        users=3000,
        items=1000,
        days=180,
        seed=seed,
        discount_per_day=0.999,
        policies=["value_aware"],
        weights=[0.2],
        shelf_size=12,
        cache_dir=str(folder),
        renew_days=7,
        output_dir=str(folder),
    )
    simulation = Simulation(settings, world=load_world(world), slates=SLATES, key=load_key({}))
    return simulation.run(folder, on_day=lambda name: None)["policies"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_oracle_of_the_default_world_gains_10_to_40_percent(seed: int, tmp_path: Path) -> None:
    found = simulate("default", seed, tmp_path)["value_aware_0.2"]
    assert 0.10 < found["gain"]["low"] < found["gain"]["high"] < 0.40
    assert found["retention"]["180"] > 0.15


def test_the_oracle_of_the_null_world_gains_nothing(tmp_path: Path) -> None:
    gain = simulate("null_world", 0, tmp_path)["value_aware_0.2"]["gain"]
    assert gain["low"] <= 0 <= gain["high"]


def test_who_believes_in_effects_that_the_null_world_lacks_only_pays_for_it() -> None:
    ledgers = {}
    believed = ValueAware(weight=0.2, effects=load_world().satisfaction)
    for name, scorer in (("myopic_revenue", expected_revenue), ("believer", believed)):
        market = Market(world=load_world("null_world"), num_users=3000, num_items=1000, seed=0)
        ledgers[name] = Ledger(market, discount_per_day=0.999)
        policy = Ranked(scorer, slate_size=10, shelf_size=12)
        for _ in range(180):
            ledgers[name].add(market.day(policy))
    found = figures(ledgers)
    assert found["believer"]["gain"]["high"] < 0
    assert found["believer"]["retention"] == found["myopic_revenue"]["retention"]


def test_figures_are_means_and_paired_differences() -> None:
    market = Market(world=load_world(), num_users=4, num_items=5, seed=0)
    ledgers = {name: Ledger(market, discount_per_day=1.0) for name in ("myopic_revenue", "other")}
    ledgers["myopic_revenue"].value_U[:] = [1, 2, 3, 4]
    ledgers["other"].value_U[:] = [2, 3, 4, 5]
    ledgers["other"].first_spend_U[:] = [0, 0, 0, 2]
    found = figures(ledgers)["other"]
    assert found["value"]["value"] == pytest.approx(3.5)
    np.testing.assert_allclose(list(found["difference"].values()), [1, 1, 1])  # the same for everybody
    np.testing.assert_allclose(list(found["gain"].values()), 0.4)
    assert found["first_visit_spend"] == 0.5
    assert found["retention"] == {"30": None, "90": None, "180": None}
    head, *rows = table_lines(figures(ledgers))
    assert head.startswith("policy")
    assert "+1.00 [+1.00, +1.00]" in rows[1]
    assert "+40.0%" in rows[1]


def test_only_drawn_policies_that_run_are_logged() -> None:
    for log in ("random", "myopic_revenue_stochastic"):
        with pytest.raises(InputError, match=f"log={log} cannot be logged"):
            Simulation(
                SimulateSettings(
                    users=5,
                    items=5,
                    days=1,
                    seed=0,
                    discount_per_day=1.0,
                    policies=["random"],
                    weights=[],
                    shelf_size=5,
                    cache_dir="nowhere",
                    renew_days=7,
                    log=log,
                    output_dir="nowhere",
                ),
                world=load_world(),
                slates=SLATES,
                key=load_key({}),
            )
