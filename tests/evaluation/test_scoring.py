"""A model over the users of a cut: every user once, and silence changes value but no item score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recsys.data.cut_features import CutScaler, raw_cut_features
from recsys.data.cut_tables import CutTable
from recsys.evaluation.scoring import ScoredUsers, item_vectors, score_users
from recsys.nn.item_tower import ItemTowerConfig
from recsys.nn.user_model import UserModel
from recsys.schema import UserNumeric
from tests.data.shop import DAY, Shop, many_users
from tests.nn.small_model import catalogue, small_model


def model() -> UserModel:
    tower = ItemTowerConfig(capacity=24, field_sizes=(4,), num_numeric=1, num_tokens=20, width=8)
    return small_model(item_tower=tower)


def scored(shop: Shop, table: CutTable, *, chunk: int = 128) -> ScoredUsers:
    """All users, in the order of the table."""
    scaler = CutScaler.fit(lambda: [raw_cut_features(shop.at_cut(split="test").activity)])
    chunks = list(
        score_users(
            model=model(),
            catalogue=catalogue(num_items=20),
            tables=shop,  # type: ignore[arg-type]
            table=table,
            scaler=scaler,
            chunk=chunk,
        )
    )
    rows = np.concatenate([c.rows for c in chunks])
    assert sorted(rows.tolist()) == list(range(len(table.user_index)))
    order = np.argsort(rows)

    def together(name: str) -> np.ndarray:
        return np.concatenate([getattr(c, name) for c in chunks])[order]

    names = ("score_BV", "vector_BS", "spend_BH", "return_BJ", "conversion_B")
    return ScoredUsers(rows[order], *(together(name) for name in names))


def test_sixty_silent_days_change_value_and_no_item_score() -> None:
    shop = Shop(many_users().events, 22)  # the last user has no history
    now = shop.at_cut(split="test")
    later_UA = now.activity.copy()
    for name in (UserNumeric.RECENCY_DAYS, UserNumeric.TENURE_DAYS):
        later_UA[:, UserNumeric.ALL.index(name)] += 60
    later = replace(now, cut=now.cut + 60 * DAY, activity=later_UA)
    before, after = scored(shop, now), scored(shop, later)
    assert np.array_equal(before.score_BV, after.score_BV)
    assert np.array_equal(before.vector_BS, after.vector_BS)
    has_history = now.prefix_length > 0
    for name in ("spend_BH", "return_BJ", "conversion_B"):
        change = np.abs(getattr(before, name) - getattr(after, name))[has_history]
        assert (change > 1e-7).mean() > 0.95, name
        assert change.mean() > 2e-5, name
    cold = ~has_history
    assert cold.tolist() == [False] * 21 + [True]
    assert np.array_equal(before.spend_BH[cold], after.spend_BH[cold])  # type: ignore[index]


def test_the_chunk_a_user_is_in_does_not_matter() -> None:
    shop = many_users()
    table = shop.at_cut(split="test")
    whole, small = scored(shop, table), scored(shop, table, chunk=4)
    for name in ("score_BV", "spend_BH", "return_BJ", "conversion_B"):
        np.testing.assert_allclose(getattr(whole, name), getattr(small, name), atol=1e-4, rtol=1e-4)


def test_estimates_keep_to_their_ranges() -> None:
    found = scored(many_users(), many_users().at_cut(split="test"))
    assert (found.score_BV[:, 0] == -np.inf).all()
    assert np.isfinite(found.score_BV[:, 1:]).all()
    np.testing.assert_allclose(np.linalg.norm(found.vector_BS, axis=1), 1, atol=1e-5)
    assert (np.diff(found.spend_BH, axis=1) >= 0).all()  # type: ignore[arg-type]
    assert (np.diff(found.return_BJ, axis=1) >= 0).all()  # type: ignore[arg-type]
    assert ((found.return_BJ > 0) & (found.return_BJ < 1)).all()  # type: ignore[operator]


def test_nothing_after_the_cut_changes_a_score() -> None:
    shop = many_users()
    changed = [
        e._replace(item=e.item % 20 + 1, value=-e.value) if e.day > shop.test_day else e for e in shop.events
    ]
    other = Shop(changed, shop.num_users)
    before, after = (scored(s, s.at_cut(split="test")) for s in (shop, other))
    for name in ("score_BV", "vector_BS", "spend_BH", "return_BJ", "conversion_B"):
        assert np.array_equal(getattr(before, name), getattr(after, name)), name


def test_item_vectors_are_unit_vectors() -> None:
    vectors_VS = item_vectors(model(), catalogue(num_items=20))
    assert vectors_VS.shape == (21, 9)
    np.testing.assert_allclose(np.linalg.norm(vectors_VS[1:], axis=1), 1, atol=1e-5)
