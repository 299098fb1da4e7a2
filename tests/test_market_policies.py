"""Slates drawn with propensities, and slates of a file that `recommend` wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.market_policies import Drawn, PolicyParts, make_policies, read_top_k
from recsys.policy.slates import PolicyConfig
from recsys.pseudonym import load_key, pseudonym
from recsys.schema import InputError
from recsys.simulator.market import Market
from tests.simulator.small import small_scene
from tests.simulator.worlds import load_world

KEY = load_key({})
SLATES = PolicyConfig(kind="plackett_luce", slate_size=2, temperature=1.0, exploration_floor=0.1)


def market() -> Market:
    return Market(world=load_world(users={"arrived_share": 1.0}), num_users=4, num_items=40, seed=0)


def parts(top_k: Path | None = None) -> PolicyParts:
    return PolicyParts(slates=SLATES, shelf_size=12, weights=[0.5, 2.0], top_k=top_k, key=KEY)


def write(path: Path, rows: list[tuple[str, int, str, float]]) -> Path:
    user_key, rank, item_id, score = zip(*rows, strict=True)
    table = {"user_key": user_key, "rank": rank, "item_id": item_id, "score": score}
    pq.write_table(pa.table({name: list(column) for name, column in table.items()}), path)
    return path


def user_key(user: int) -> str:
    return pseudonym(f"u{user}", KEY)


def test_drawn_slates_come_as_often_as_their_propensities_say() -> None:
    size = 20_000
    scores_BV = np.tile(np.array([-np.inf, *np.log([3, 2, 1])], np.float32), (size, 1))
    halves = np.array_split(np.arange(size), 2)
    drawn = Drawn(lambda _: ((row_B, scores_BV[row_B]) for row_B in halves), config=SLATES, fingerprint="x")
    slates = drawn(small_scene(num_users=size))
    # slot 1: 0.9 x (3, 2, 1) / 6 + 0.1 / 3
    first = dict(zip((1, 2, 3), 0.9 * np.array([3, 2, 1]) / 6 + 0.1 / 3, strict=True))
    assert sum(first.values()) == pytest.approx(1)
    for item, chance in first.items():
        shown_B = slates.item_BK[:, 0] == item
        np.testing.assert_allclose(slates.propensity_BK[shown_B, 0], chance, rtol=1e-6)
        assert shown_B.mean() == pytest.approx(chance, abs=4 * (chance / size) ** 0.5)
    after_1 = slates.item_BK[:, 0] == 1  # slot 2 after item 1: 0.9 x (2, 1) / 3 + 0.1 / 2
    is_2 = after_1 & (slates.item_BK[:, 1] == 2)
    np.testing.assert_allclose(slates.propensity_BK[is_2, 1], 0.65, rtol=1e-6)
    assert is_2.sum() / after_1.sum() == pytest.approx(0.65, abs=0.02)


def test_the_reference_comes_first_and_the_dial_once_a_weight() -> None:
    made = make_policies(["random", "value_aware", "random"], market(), parts())
    assert list(made) == ["myopic_revenue", "random", "value_aware_0.5", "value_aware_2"]


def test_unknown_policies_and_a_missing_file_are_named() -> None:
    with pytest.raises(InputError, match="'best' is unknown; use some of random, popular"):
        make_policies(["best"], market(), parts())
    with pytest.raises(InputError, match="top_k_stochastic shows what a file holds"):
        make_policies(["top_k_stochastic"], market(), parts())


def test_a_file_shows_each_user_their_own_and_the_others_what_is_for_anyone(tmp_path: Path) -> None:
    born = [f"i{item}" for item in market().items.born(0)[:4]]
    rows = [(user_key(2), 2, born[1], 0.5), (user_key(2), 1, born[0], 1.5), (user_key(2), 3, born[3], 0.1)]
    path = write(
        tmp_path / "top_k.parquet", [*rows, ("anyone", 1, born[2], 1.0), ("f" * 64, 1, born[2], 1.0)]
    )
    policies = make_policies(["top_k", "top_k_stochastic"], market(), parts(path))
    shown = market().day(policies["top_k"]).shown
    numbers = [int(name[1:]) for name in born]
    assert shown.item_BK.tolist() == [[numbers[2], 0], [numbers[2], 0], numbers[:2], [numbers[2], 0]]
    assert shown.propensity_BK[2].tolist() == [1, 1]
    by_chance = market().day(policies["top_k_stochastic"]).shown
    assert 0 < by_chance.propensity_BK[2, 0] < 1
    assert set(by_chance.item_BK[2]) <= {numbers[0], numbers[1], numbers[3]}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((user_key(1), 1, "i41", 1.0), "'i41', which this market does not have"),
        ((user_key(9), 1, "i1", 1.0), "names no user of this market"),
        (("anyone", 1, "i1", 1.0), "names no user of this market"),
        ((user_key(1), 0, "i1", 1.0), "must be 1 or more"),
        ((user_key(1), 1, "i1", float("nan")), "must be finite"),
    ],
)
def test_files_of_another_market_are_refused(tmp_path: Path, row: tuple, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_top_k(write(tmp_path / "top_k.parquet", [row]), market(), KEY)
