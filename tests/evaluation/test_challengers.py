"""What challengers may learn from: earlier cuts, as far as they were watched before the one to assess."""

from __future__ import annotations

import numpy as np

from recsys.evaluation.challengers import watched_cuts
from tests.data.shop import DAY, many_users


def test_a_horizon_that_ends_after_the_cut_is_unknown() -> None:
    shop = many_users()
    tables = [shop.at_cut(split="train", cut=round(day * DAY)) for day in (20, 40)]  # horizons 7 and 30
    past = watched_cuts(tables, shop.horizons_days, boundary=round(60 * DAY))
    has = [table.prefix_length > 0 for table in tables]
    early = int(has[0].sum())
    assert len(past.activity) == early + int(has[1].sum())
    np.testing.assert_array_equal(past.spend[:early], tables[0].spend[has[0]])
    np.testing.assert_array_equal(past.spend[early:, 0], tables[1].spend[has[1], 0])
    for column in (past.spend, past.returned, past.bought):  # day 40 + 30 lies after day 60
        assert np.isnan(column[early:, 1]).all()
        assert np.isfinite(column[early:, 0]).all()
    np.testing.assert_array_equal(past.returned[:early], tables[0].num_active_days[has[0]] > 0)
    np.testing.assert_array_equal(past.bought[:early], tables[0].num_purchases[has[0]] > 0)
