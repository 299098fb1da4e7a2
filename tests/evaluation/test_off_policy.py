"""What the bundle's own policy would have shown in a logged market: asked about its own slates, weight 1."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from recsys.bundle import load_bundle
from recsys.data.tables import FeatureTables
from recsys.evaluation.off_policy import OffPolicyConfig, own_lines, own_panel, tilted_panel
from recsys.policy.slates import PolicyConfig
from recsys.schema import Split
from tests import tiny
from tests.evaluation.conftest import DATASET, hand_back

TEMPERATURE = 0.7


def policy(**changes: Any) -> PolicyConfig:
    given = {"kind": "plackett_luce", "slate_size": 10, "temperature": TEMPERATURE, "num_candidates": 40}
    return PolicyConfig(**(given | {"exploration_floor": 0.05, "category_penalty": 0.3} | changes))


def judged(tables: FeatureTables, bundle: Path, **changes: Any) -> dict[str, Any]:
    settings = {"policy": policy(), "horizon_days": 30, "level": 0.95, "config": OffPolicyConfig()}
    return own_panel(bundle=load_bundle(bundle), tables=tables, split=Split.TEST, **(settings | changes))


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_evaluate_shows_the_front_and_both_panels_and_the_loop(market: Path) -> None:
    (market / "loop.json").write_text(json.dumps({"default/round1/values": {"dialled": 7.25}}))
    more = ("policy.temperature=3", "loop=loop.json", "output_dir=test", "off_policy.num_slates=100")
    said = tiny.run("-m", "recsys", "evaluate", DATASET, "bundle=loop", *more, cwd=market).stdout
    assert "this bundle's policy" in said
    found = json.loads((market / "test" / "metrics.json").read_text())
    assert [row["dial"] for row in found["dial"]["front"]][:2] == [0.0, 0.1]
    assert "panel" not in found["dial"]
    tilted, own = found["off_policy"]
    assert (tilted["policy"], own["policy"]) == ("tilted", "own")
    assert (own["num_slates"], own["horizon_days"]) == (100, 3)
    assert own["num_slates_known"] > 100
    # a policy that could show all that was logged has weights that average 1
    strayed = abs(own["overlap"]["mean_weight"] - 1)
    assert strayed < 5 * own["overlap"]["mean_weight_error"] + own["zero_share"]
    assert own["refused"] or set(own["estimates"]) >= {"ips", "snips", "dm", "dr", "sndr", "switch_dr"}
    assert found["loop"][0]["values"] == {"dialled": 7.25}
    page = (market / "test" / "report.html").read_text()
    for words in ("The front of the dial", "own policy", "Effective sample", "$7.25"):
        assert words in page


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_slates_that_the_policy_drew_itself_weigh_one(market: Path) -> None:
    tables = FeatureTables(tables_dir=market / "features" / "market" / "latest", cache_dir=market / "cache")
    bundle = market / "models" / "market" / "loop"
    cut = tables.cut(Split.VALIDATION)
    moment = datetime.datetime.fromtimestamp(cut + 1, datetime.UTC).isoformat()
    drawn = [f"policy.{name}={value}" for name, value in vars(policy(dial=0.0)).items() if value is not None]
    shown = ("at=validation", f"shown_at='{moment}'", "output_dir=own", "top_k=10")
    tiny.run("-m", "recsys", "recommend", DATASET, "bundle=loop", *shown, *drawn, cwd=market)
    impressions = market / "own" / "impressions.parquet"
    hand_back(market, impressions, "own_feedback")
    again = FeatureTables(tables_dir=market / "features" / "market" / "latest", cache_dir=market / "cache")

    found = judged(again, bundle, policy=policy(dial=0.0))
    assert found["overlap"]["num_weights"] == pq.read_metadata(impressions).num_rows
    assert found["overlap"]["max_weight"] == pytest.approx(1, abs=1e-4)
    assert found["overlap"]["effective_share"] == pytest.approx(1, abs=1e-6)
    assert found["zero_share"] == 0
    other = judged(again, bundle, policy=policy(dial=0.0, temperature=2.0))
    assert other["overlap"]["max_weight"] > 1.5
    deterministic = PolicyConfig(kind="deterministic", slate_size=10, dial=0.0)
    assert judged(again, bundle, policy=deterministic)["zero_share"] > 0.5
    few = judged(again, bundle, config=OffPolicyConfig(num_slates=7))
    assert few["num_slates"] == 7
    assert any("7 users are fewer than 100" in reason for reason in few["refused"])


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_outcomes_that_the_model_has_learned_from_are_refused(market: Path) -> None:
    tables = FeatureTables(tables_dir=market / "features" / "market" / "latest", cache_dir=market / "cache")
    bundle = load_bundle(market / "models" / "market" / "loop")
    settings = {"policy": policy(), "horizon_days": 30, "level": 0.95, "config": OffPolicyConfig()}
    found = own_panel(bundle=bundle, tables=tables, split=Split.VALIDATION, **settings)
    assert found["refused"][0].startswith(
        "no outcome is left between what the model has learned from and this cut"
    )
    assert "estimates" not in found


def test_the_own_policy_has_a_line_of_its_own() -> None:
    gain = {"value": 0.002, "lower": {"t": -0.001}}
    told = {"policy": "own", "dial": 0.4, "refused": [], "estimates": {"dr": {"gain": gain}}}
    refused = {"policy": "own", "dial": 0.4, "refused": ["one weight holds all"]}
    assert own_lines([{"policy": "tilted", "refused": ["x"]}, told, refused]) == [
        "this bundle's policy, dial 0.4: gain a slot +0.00200 [-0.00100]",
        "this bundle's policy: no estimate: one weight holds all",
    ]


def test_a_front_without_a_log_leaves_a_panel_with_the_reason() -> None:
    front = {"front": [], "default": 0.0, "refused": "there is no log", "panel": None, "panel_dial": None}
    found = tilted_panel(front, horizon_days=30)
    assert found == {"policy": "tilted", "dial": None, "horizon_days": 30, "refused": ["there is no log"]}
    assert "panel" not in front


def test_a_data_set_without_impressions_has_a_panel_with_the_reason(
    tiny_bundle: Path, tiny_tables: Path, tmp_path: Path
) -> None:
    tables = FeatureTables(tables_dir=tiny_tables, cache_dir=tmp_path)
    found = judged(tables, tiny_bundle)
    assert found["refused"][0].startswith("no impressions with propensities were handed back")
