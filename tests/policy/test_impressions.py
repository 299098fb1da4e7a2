"""The impression log: columns, one row a shown slot, ids that can be recomputed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.policy.feedback_log import append_rows
from recsys.policy.impressions import (
    IMPRESSION_KEY,
    IMPRESSION_SCHEMA,
    check_impressions,
    impression_table,
)
from recsys.policy.rows import read_rows
from recsys.policy.slates import PolicyConfig, Slates, draw_slates
from recsys.schema import Impression, InputError

ANN, BOB = "a" * 64, "b" * 64
NAN = float("nan")


def two_users() -> pa.Table:
    slates = Slates(
        item_BK=np.array([[3, 1], [2, 0]], dtype=np.int32),
        score_BK=np.array([[0.5, 2.0], [1.5, NAN]], dtype=np.float32),
        propensity_BK=np.array([[0.25, 0.75], [1.0, NAN]]),
        candidates_hash_B=("h-ann", "h-bob"),
        is_deterministic=False,
    )
    return impression_table(
        slates=slates,
        config=PolicyConfig(kind="plackett_luce", slate_size=2, temperature=0.5),
        policy_version="pl-1",
        user_key_B=[ANN, BOB],
        item_id_V=["", "apple", "pear", "plum"],
        timestamp=1_300_000_000,
    )


def test_one_row_for_each_slot_that_holds_an_item() -> None:
    table = two_users()
    assert tuple(table.schema.names) == Impression.ALL
    ann = hashlib.sha256(f"pl-1\n{ANN}\n1300000000\n0".encode()).hexdigest()[:32]
    bob = hashlib.sha256(f"pl-1\n{BOB}\n1300000000\n0".encode()).hexdigest()[:32]
    first, second, third = (tuple(row.values()) for row in table.to_pylist())
    assert first == ("pl-1", ann, ANN, 3, "plum", 1, 0.5, 0.5, 0.25, False, "h-ann", 1_300_000_000)
    assert second == ("pl-1", ann, ANN, 1, "apple", 2, 2.0, 0.5, 0.75, False, "h-ann", 1_300_000_000)
    assert third == ("pl-1", bob, BOB, 2, "pear", 1, 1.5, 0.5, 1.0, False, "h-bob", 1_300_000_000)


@pytest.mark.parametrize("change", [{"seed": 1}, {"timestamp": 1_300_086_400}, {}])
def test_another_seed_or_occasion_can_be_handed_in_beside_the_first(
    tmp_path: Path, change: dict[str, int]
) -> None:
    """The same draw again is the same rows; another one has ids of its own."""

    def drawn(*, seed: int = 0, timestamp: int = 1_300_000_000) -> pa.Table:
        config = PolicyConfig(kind="plackett_luce", slate_size=2, seed=seed)
        scores_BV = np.tile(np.array([-np.inf, 1.0, 0.9, 0.8], dtype=np.float32), (20, 1))
        users_B = np.arange(20)
        slates = draw_slates(scores_BV=scores_BV, user_index_B=users_B, config=config, occasion=timestamp)
        return impression_table(
            slates=slates,
            config=config,
            policy_version="pl-1",
            user_key_B=[f"{user:064x}" for user in users_B],
            item_id_V=["", "apple", "pear", "plum"],
            timestamp=timestamp,
        )

    appended = [
        append_rows(
            table=table, folder=tmp_path, key_columns=IMPRESSION_KEY, key_version="v", source=name
        ).num_new
        for name, table in (("first", drawn()), ("second", drawn(**change)))
    ]
    assert appended == [40, 40 if change else 0]


def test_a_drawn_log_passes_its_own_check_after_a_round_trip(tmp_path: Path) -> None:
    config = PolicyConfig(kind="deterministic", slate_size=2, temperature=0.5)
    slates = draw_slates(
        scores_BV=np.array([[-np.inf, 1.0, 2.0, 3.0]], dtype=np.float32),
        user_index_B=np.array([1]),
        config=config,
    )
    table = impression_table(
        slates=slates,
        config=config,
        policy_version="d-1",
        user_key_B=[ANN],
        item_id_V=["", "apple", "pear", "plum"],
        timestamp=1_300_000_000,
    )
    assert table[Impression.TEMPERATURE].to_pylist() == [0, 0]
    assert table[Impression.IS_DETERMINISTIC].to_pylist() == [True, True]
    pq.write_table(table, tmp_path / "log.parquet")
    again = read_rows(tmp_path / "log.parquet", IMPRESSION_SCHEMA)
    check_impressions(again, source="log")
    assert again.equals(table)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (Impression.USER_KEY, "bob", "user_key 'bob' in row 2 is no pseudonym"),
        (Impression.PROPENSITY, 0.0, "propensity 0.0 in row 2 must be above 0"),
        (Impression.PROPENSITY, NAN, "propensity nan in row 2"),
        (Impression.SLOT, 0, "slot 0 in row 2 must be 1 or more"),
        (Impression.ITEM_INDEX, 0, "item_index 0 in row 2"),
        (Impression.SLATE_ID, None, "column 'slate_id' is empty in row 2"),
        (Impression.SLATE_ID, "", "column 'slate_id' is empty in row 2"),
        (Impression.TIMESTAMP, 1_300_000_000_000, "probably milliseconds; divide by 1000"),
    ],
)
def test_a_row_that_cannot_be_an_impression_is_named(column: str, value: object, message: str) -> None:
    rows = two_users().to_pylist()
    rows[1][column] = value
    with pytest.raises(InputError, match=message):
        check_impressions(pa.Table.from_pylist(rows, schema=IMPRESSION_SCHEMA), source="log.parquet")
