"""A bundle in service answers as Spark's tables of the same log and `recommend` would have it answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.bundle import load_bundle
from recsys.data.tables import FeatureTables
from recsys.market_log import MarketLog
from recsys.market_policies import Drawn, PolicyParts, make_policies
from recsys.market_service import Service
from recsys.policy.slates import PolicyConfig
from recsys.pseudonym import load_key, pseudonym
from recsys.schema import InputError, Recommendation
from recsys.simulator.market import Market
from recsys.simulator.scene import scene_of
from tests import tiny
from tests.simulator.worlds import load_world

SIZES = ("world=default", "seed=0", "users=500", "items=200", "shelf_size=200")
SPLIT = tuple(
    f"dataset.split.{name}" for name in ("test_days_before_end=7", "window_days=7", "horizons_days=[7]")
)
SPARK = ("spark.master='local[2]'", "spark.driver_memory=1g", "spark.shuffle_partitions=2")
TRAIN = tuple(each for each in tiny.TRAIN_OVERRIDES if not each.startswith("fit_until"))
DIAL, DAYS, RENEW_DAYS = 0.5, 30, 15
POLICY = PolicyConfig(kind="plackett_luce", slate_size=5, dial=DIAL)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Working folder: logs/1, the tables `first` of it and a bundle `loop`."""
    place = tmp_path_factory.mktemp("market")
    name = "myopic_revenue_stochastic"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECSYS_MARKET_LOG", str(place / "logs" / "1"))
        logged = ("output_dir=sim", f"policies=[{name}]", f"log={name}", "days=60")
        tiny.run("-m", "recsys", "simulate", *SIZES, *logged, cwd=place)
        (place / "logs").mkdir()
        (place / "sim" / "log").rename(place / "logs" / "1")
        (place / "first").symlink_to(build_tables(place))
        tiny.run("-m", "recsys", "train", "dataset=market", "name=loop", *TRAIN, cwd=place)
        yield place


def build_tables(place: Path) -> Path:
    """Of all logs there are."""
    events = f"dataset.events.path='{place / 'logs' / '*' / 'events.parquet'}'"
    tiny.run("-m", "spark_jobs", "dataset=market", events, *SPLIT, *SPARK, cwd=place)
    return (place / "features" / "market" / "latest").resolve()


def service_of(place: Path, market: Market, *, renew_days: int) -> Service:
    return Service(
        bundle=load_bundle(place / "models" / "market" / "loop"),
        tables=FeatureTables(tables_dir=place / "first", cache_dir=place / "cache"),
        market=market,
        key=load_key({}),
        policy=POLICY,
        renew_days=renew_days,
    )


def market_after(place: Path) -> Market:
    state = place / "logs" / "1" / "state.npz"
    return Market(world=load_world(), num_users=500, num_items=200, seed=0, state_file=state)


def asked_of_all(service: Service, market: Market) -> np.ndarray:
    """(U, V + 1) Scores of everybody on the market's next day."""
    scene = scene_of(
        day=market.state.day,
        user_B=np.arange(500),
        seed=0,
        world=market.world,
        users=market.users,
        items=market.items,
        state=market.state,
    )
    return np.concatenate([score_BV for _, score_BV in service(scene)])


def recommended(place: Path, name: str) -> np.ndarray:
    """(U, V + 1) Scores as `recommend` writes them, from the newest tables."""
    shown = (f"output_dir={name}", "top_k=200", f"policy.dial={DIAL}", "show_names=false")
    tiny.run("-m", "recsys", "recommend", "dataset=market", "bundle=loop", *shown, cwd=place)
    table = pq.read_table(place / name / "top_k.parquet")
    scores = np.full((501, 201), -np.inf)
    row = {pseudonym(f"u{user}", load_key({})): user for user in range(500)} | {Recommendation.ANYONE: 500}
    rows = np.array([row[key] for key in table["user_key"].to_pylist()])
    items = np.array([int(item[1:]) for item in table["item_id"].to_pylist()])
    scores[rows, items] = table["score"].to_numpy()
    unnamed = ~np.isin(np.arange(500), rows)
    scores[:500][unnamed] = scores[500]
    return scores[:500]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_scores_are_those_of_recommend_on_spark_tables_of_the_log_so_far(place: Path) -> None:
    market = market_after(place)
    service = service_of(place, market, renew_days=RENEW_DAYS)
    before = asked_of_all(service, market)
    np.testing.assert_allclose(before, recommended(place, "before"), atol=1e-4)
    drawn = Drawn(service, config=POLICY, fingerprint="x", saw=service.saw)
    with MarketLog(place / "logs" / "2", market, drawn, load_key({})) as log:
        for _ in range(DAYS):
            day = market.day(drawn)
            drawn.saw(day)
            log.add(day)
    events = [pq.read_table(place / "logs" / name / "events.parquet") for name in ("1", "2")]
    users, items = ([set(table[column].to_pylist()) for table in events] for column in ("user_id", "item_id"))
    assert users[1] - users[0], "somebody came for the first time"
    assert items[1] - items[0], "something was found for the first time"
    build_tables(place)
    after = recommended(place, "after")
    found = asked_of_all(service, market)  # the next renewal falls on this day
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(after))
    np.testing.assert_allclose(found, after, atol=1e-4)
    both = np.isfinite(before) & np.isfinite(found)
    assert np.abs(found[both] - before[both]).max() > 0.01


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_between_renewals_scores_stay(place: Path) -> None:
    market = market_after(place)
    service = service_of(place, market, renew_days=3)
    drawn = Drawn(service, config=POLICY, fingerprint="x", saw=service.saw)
    scores = []
    for _ in range(4):
        scores.append(asked_of_all(service, market))
        drawn.saw(market.day(drawn))
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])
    assert (scores[3] != scores[0]).any()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_tables_of_another_market_are_refused(place: Path) -> None:
    other = Market(world=load_world(), num_users=500, num_items=30, seed=0)
    with pytest.raises(InputError, match="whom this market does not have"):
        service_of(place, other, renew_days=7)


def test_nothing_is_served_without_a_bundle() -> None:
    parts = PolicyParts(slates=POLICY, shelf_size=12, weights=[], top_k=None, key=load_key({}))
    market = Market(world=load_world(), num_users=5, num_items=5, seed=0)
    with pytest.raises(InputError, match="set bundle to its folder and tables"):
        make_policies(["served"], market, parts)
