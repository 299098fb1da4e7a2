"""Slates: exact propensities on a few items, frequencies, the floor, independence of the batch."""

from __future__ import annotations

import hashlib
import itertools
import math
import struct
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from recsys.policy.slates import PolicyConfig, draw_slates, slate_propensities
from recsys.schema import InputError

SCORES = (2.0, 1.0, 0.5, -1.0)  # items 1..4
CONF = Path(__file__).parents[2] / "conf" / "policy"


def stochastic(**changes: object) -> PolicyConfig:
    settings = {"kind": "plackett_luce", "slate_size": 2, "temperature": 0.7, "exploration_floor": 0.1}
    return PolicyConfig(**(settings | changes))


def same_for_all(num_users: int, scores: tuple[float, ...] = SCORES) -> np.ndarray:
    return np.tile(np.array([-np.inf, *scores], dtype=np.float32), (num_users, 1))


def by_hand(slate: tuple[int, ...], *, temperature: float, floor: float) -> list[float]:
    """The formula, one slot at a time, in plain Python."""
    remaining, propensities = {1, 2, 3, 4}, []
    for item in slate:
        weights = {other: math.exp(SCORES[other - 1] / temperature) for other in remaining}
        propensities.append((1 - floor) * weights[item] / sum(weights.values()) + floor / len(remaining))
        remaining.remove(item)
    return propensities


def test_propensities_match_the_formula_and_sum_to_one_over_all_slates() -> None:
    slates = list(itertools.permutations((1, 2, 3, 4)))
    propensity_BK = slate_propensities(
        scores_BV=same_for_all(24), item_BK=np.array(slates), config=stochastic(slate_size=4)
    )
    expected_BK = np.array([by_hand(slate, temperature=0.7, floor=0.1) for slate in slates])
    np.testing.assert_allclose(propensity_BK, expected_BK, rtol=1e-12)
    assert propensity_BK.prod(axis=1).sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("prefix", [(), (1,), (4,), (2, 3), (3, 1, 4)])
def test_propensities_sum_to_one_over_the_candidates_of_a_slot(prefix: tuple[int, ...]) -> None:
    slates = np.array([(*prefix, item) for item in (1, 2, 3, 4) if item not in prefix])
    propensity_BK = slate_propensities(
        scores_BV=same_for_all(len(slates)), item_BK=slates, config=stochastic(slate_size=4)
    )
    assert propensity_BK[:, -1].sum() == pytest.approx(1.0, abs=1e-12)


def test_a_drawn_slate_carries_its_own_propensities() -> None:
    config = stochastic(slate_size=3)
    slates = draw_slates(scores_BV=same_for_all(50), user_index_B=np.arange(1, 51), config=config)
    expected_BK = [by_hand(tuple(row), temperature=0.7, floor=0.1) for row in slates.item_BK.tolist()]
    np.testing.assert_allclose(slates.propensity_BK, expected_BK, rtol=1e-12)
    np.testing.assert_array_equal(slates.score_BK, np.array(SCORES, dtype=np.float32)[slates.item_BK - 1])


def test_frequencies_of_whole_slates_match_their_probability() -> None:
    num_users = 20_000
    slates = draw_slates(
        scores_BV=same_for_all(num_users), user_index_B=np.arange(1, num_users + 1), config=stochastic(seed=3)
    )
    for slate in itertools.permutations((1, 2, 3, 4), 2):
        probability = math.prod(by_hand(slate, temperature=0.7, floor=0.1))
        count = (slates.item_BK == slate).all(axis=1).sum()
        deviation = math.sqrt(num_users * probability * (1 - probability))
        assert abs(count - num_users * probability) < 4.5 * deviation, (
            slate
        )  # 12 slates: 1 in 10,000 by chance


def test_the_floor_holds_at_a_temperature_that_underflows() -> None:
    slates = draw_slates(
        scores_BV=same_for_all(4000),
        user_index_B=np.arange(1, 4001),
        config=stochastic(temperature=1e-4, exploration_floor=0.2, slate_size=4),
    )
    least_K = 0.2 / np.array([4, 3, 2, 1])
    assert (slates.propensity_BK >= least_K - 1e-15).all()
    least_seen = slates.propensity_BK[:, 0].min()
    assert least_seen == pytest.approx(0.05)  # exp(-10000) is 0: what is left is the floor
    assert set(slates.item_BK[:, 0].tolist()) == {1, 2, 3, 4}


def test_a_slate_does_not_depend_on_the_batch() -> None:
    random = np.random.default_rng(0)
    scores_BV = random.normal(size=(60, 301)).astype(np.float32)
    scores_BV[:, 0] = -np.inf
    user_index_B = random.permutation(np.arange(1, 61))
    config = stochastic(slate_size=5, num_candidates=40, seed=11)
    whole = draw_slates(scores_BV=scores_BV, user_index_B=user_index_B, config=config, occasion=7)
    for rows in (np.array([17]), np.arange(59, -1, -1), np.arange(20, 33)):
        part = draw_slates(
            scores_BV=scores_BV[rows], user_index_B=user_index_B[rows], config=config, occasion=7
        )
        np.testing.assert_array_equal(part.item_BK, whole.item_BK[rows])
        np.testing.assert_array_equal(part.propensity_BK, whole.propensity_BK[rows])
        assert part.candidates_hash_B == tuple(whole.candidates_hash_B[row] for row in rows)


def test_seed_occasion_and_user_each_change_the_draw() -> None:
    scores_BV, user_index_B = same_for_all(200), np.arange(1, 201)
    first = draw_slates(scores_BV=scores_BV, user_index_B=user_index_B, config=stochastic()).item_BK
    assert (first != first[0]).any()
    for other in (
        draw_slates(scores_BV=scores_BV, user_index_B=user_index_B, config=stochastic(seed=1)),
        draw_slates(scores_BV=scores_BV, user_index_B=user_index_B, config=stochastic(), occasion=1),
        draw_slates(scores_BV=scores_BV, user_index_B=user_index_B + 1000, config=stochastic()),
    ):
        assert (first != other.item_BK).any(axis=1).sum() > 50


def test_filtered_items_never_appear_and_no_item_twice() -> None:
    scores_BV = np.random.default_rng(1).normal(size=(500, 31)).astype(np.float32)
    scores_BV[:, 0] = -np.inf
    scores_BV[:, 5:25] = -np.inf
    slates = draw_slates(
        scores_BV=scores_BV,
        user_index_B=np.arange(1, 501),
        config=stochastic(slate_size=8, exploration_floor=1.0),
    )
    assert set(np.unique(slates.item_BK).tolist()) == {1, 2, 3, 4, 25, 26, 27, 28, 29, 30}
    assert all(len(set(row)) == 8 for row in slates.item_BK.tolist())


@pytest.mark.parametrize("kind", ["plackett_luce", "deterministic"])
def test_slots_without_a_candidate_are_empty(kind: str) -> None:
    scores_BV = np.array([[-np.inf, 1.0, -np.inf, 0.5], [-np.inf] * 4], dtype=np.float32)
    config = PolicyConfig(kind=kind, slate_size=5)
    slates = draw_slates(scores_BV=scores_BV, user_index_B=np.array([1, 2]), config=config)
    assert slates.item_BK.shape == (2, 5)
    assert sorted(slates.item_BK[0].tolist()) == [0, 0, 0, 1, 3]
    np.testing.assert_array_equal(slates.mask_BK, [[True, True, False, False, False], [False] * 5])
    assert np.isnan(slates.propensity_BK[~slates.mask_BK]).all()
    assert np.isnan(slates.score_BK[~slates.mask_BK]).all()
    assert (slates.item_BK[1] == 0).all()


def test_no_users_give_no_slates() -> None:
    slates = draw_slates(scores_BV=same_for_all(0), user_index_B=np.array([], dtype=int), config=stochastic())
    assert slates.item_BK.shape == (0, 2)
    assert slates.candidates_hash_B == ()


def test_the_deterministic_policy_shows_the_best_with_ties_by_index() -> None:
    scores_BV = np.array([[-np.inf, 0.1, 0.9, 0.9, 0.3, 0.9]], dtype=np.float32)
    config = PolicyConfig(kind="deterministic", slate_size=4)
    slates = draw_slates(scores_BV=scores_BV, user_index_B=np.array([8]), config=config)
    assert slates.is_deterministic
    assert slates.item_BK.tolist() == [[2, 3, 5, 4]]
    assert slates.propensity_BK.tolist() == [[1, 1, 1, 1]]


def test_a_slate_the_policy_would_not_show_has_propensity_zero() -> None:
    item_BK = np.array([[1, 4], [4, 1], [1, 0]])
    scores_BV = same_for_all(3)
    greedy = slate_propensities(
        scores_BV=scores_BV, item_BK=item_BK, config=PolicyConfig(kind="deterministic", slate_size=2)
    )
    np.testing.assert_array_equal(greedy, [[1, 0], [0, np.nan], [1, np.nan]])
    narrow = slate_propensities(scores_BV=scores_BV, item_BK=item_BK, config=stochastic(num_candidates=3))
    assert narrow[0, 1] == 0  # item 4 is not among the best 3
    assert narrow[1, 0] == 0


def test_candidates_are_the_best_and_hashed_in_index_order() -> None:
    scores_BV = np.array([[-np.inf, 3.0, 1.0, 2.0, 2.0, 2.0]], dtype=np.float32)
    config = stochastic(num_candidates=3, exploration_floor=1.0)
    seen = set()
    for seed in range(60):
        slates = draw_slates(
            scores_BV=scores_BV,
            user_index_B=np.array([1]),
            config=stochastic(**vars(config) | {"seed": seed}),
        )
        seen.update(slates.item_BK[0].tolist())
    assert seen == {1, 3, 4}  # of the three tied items the two with the lower index
    assert slates.candidates_hash_B == (hashlib.sha256(struct.pack("<3i", 1, 3, 4)).hexdigest(),)


def test_scores_of_a_broken_model_are_refused() -> None:
    scores_BV = same_for_all(3)
    scores_BV[1, 2] = np.nan
    with pytest.raises(InputError, match="user_index 22 hold nan"):
        draw_slates(scores_BV=scores_BV, user_index_B=np.array([21, 22, 23]), config=stochastic())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "greedy"}, "policy.kind='greedy' is unknown"),
        ({"slate_size": 0}, "slate_size=0"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"exploration_floor": 1.5}, "exploration_floor=1.5"),
        ({"kind": "deterministic"}, "explores but policy.kind is deterministic"),
        ({"num_candidates": 1}, "num_candidates=1 cannot fill"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_settings_that_contradict_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        stochastic(**changes)


def test_the_version_follows_the_probabilities_and_nothing_else() -> None:
    version = stochastic().version(bundle_fingerprint="abc")
    assert version.startswith("plackett_luce-")
    assert version == stochastic(seed=5).version(bundle_fingerprint="abc")
    assert version != stochastic().version(bundle_fingerprint="abd")
    assert version != stochastic(temperature=0.8).version(bundle_fingerprint="abc")


@pytest.mark.parametrize("name", ["plackett_luce", "deterministic"])
def test_the_config_files_hold_valid_settings(name: str) -> None:
    config = PolicyConfig(**OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml")))
    assert config.kind == name


CATEGORY = np.array([0, 1, 1, 2, 0])  # of the items 1 to 4


def test_each_item_of_a_category_costs_the_next_ones_the_penalty() -> None:
    config = stochastic(slate_size=3, exploration_floor=0.0, temperature=1.0, category_penalty=0.8)
    found = slate_propensities(
        scores_BV=same_for_all(1), item_BK=np.array([[1, 2, 3]]), config=config, category_V=CATEGORY
    )[0]
    first = {item: math.exp(score) for item, score in enumerate(SCORES, 1)}
    second = {2: math.exp(1.0 - 0.8), 3: math.exp(0.5), 4: math.exp(-1.0)}
    third = {3: math.exp(0.5), 4: math.exp(-1.0)}
    by_formula = [
        first[1] / sum(first.values()),
        second[2] / sum(second.values()),
        third[3] / sum(third.values()),
    ]
    assert found == pytest.approx(by_formula, rel=1e-12)


def test_propensities_sum_to_one_with_a_penalty_too() -> None:
    slates = list(itertools.permutations((1, 2, 3, 4)))
    config = stochastic(slate_size=4, category_penalty=0.8)
    propensity_BK = slate_propensities(
        scores_BV=same_for_all(24), item_BK=np.array(slates), config=config, category_V=CATEGORY
    )
    assert propensity_BK.prod(axis=1).sum() == pytest.approx(1.0, abs=1e-12)


def test_what_is_drawn_with_a_penalty_carries_its_own_propensities() -> None:
    config = stochastic(slate_size=3, category_penalty=0.8)
    drawn = draw_slates(
        scores_BV=same_for_all(50), user_index_B=np.arange(50), config=config, category_V=CATEGORY
    )
    again = slate_propensities(
        scores_BV=same_for_all(50), item_BK=drawn.item_BK, config=config, category_V=CATEGORY
    )
    np.testing.assert_allclose(drawn.propensity_BK, again, rtol=1e-12)


def test_a_deterministic_slate_with_a_penalty_mixes_categories() -> None:
    """After item 1 item 2 of its category is worth 1.0 - 0.8 = 0.2, below item 3; item 4 has no category."""
    config = PolicyConfig(kind="deterministic", slate_size=4, category_penalty=0.8)
    drawn = draw_slates(
        scores_BV=same_for_all(2), user_index_B=np.arange(2), config=config, category_V=CATEGORY
    )
    assert drawn.item_BK.tolist() == [[1, 3, 2, 4]] * 2
    assert (drawn.propensity_BK == 1).all()


def test_a_penalty_without_categories_is_refused() -> None:
    with pytest.raises(InputError, match="category_penalty"):
        draw_slates(
            scores_BV=same_for_all(1), user_index_B=np.arange(1), config=stochastic(category_penalty=0.5)
        )


def test_dial_and_penalty_are_part_of_a_policys_name_where_they_are_on() -> None:
    plain = stochastic().version(bundle_fingerprint="b")
    assert stochastic(dial=0.0).version(bundle_fingerprint="b") == plain
    others = {stochastic(dial=0.5), stochastic(category_penalty=0.5)}
    names = {config.version(bundle_fingerprint="b") for config in others}
    assert len(names | {plain}) == 3
