"""The impression log: what was shown to whom, by which policy, with which propensity.

Legend: B users, K slots, V items (entry 0 is padding), R rows of the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.policy.rows import TIMESTAMP_CHECKS, Check, check_rows
from recsys.policy.slates import PolicyConfig, Slates
from recsys.schema import Impression

IMPRESSION_SCHEMA = pa.schema(
    [
        (Impression.POLICY_VERSION, pa.string()),
        (Impression.SLATE_ID, pa.string()),
        (Impression.USER_KEY, pa.string()),
        (Impression.ITEM_INDEX, pa.int32()),
        (Impression.ITEM_ID, pa.string()),
        (Impression.SLOT, pa.int32()),
        (Impression.SCORE, pa.float32()),
        (Impression.TEMPERATURE, pa.float32()),
        (Impression.PROPENSITY, pa.float64()),
        (Impression.IS_DETERMINISTIC, pa.bool_()),
        (Impression.CANDIDATES_HASH, pa.string()),
        (Impression.TIMESTAMP, pa.int64()),
    ]
)
IMPRESSION_KEY = (Impression.SLATE_ID, Impression.SLOT)


def impression_table(
    *,
    slates: Slates,
    config: PolicyConfig,
    policy_version: str,
    user_key_B: Sequence[str],
    item_id_V: Sequence[str],
    timestamp: int,
) -> pa.Table:
    """One row per slot that holds an item, in the order of the users and then of the slots.

    `item_id_V[item_index]` is the platform's own id; `timestamp` is when the slates are shown, the occasion
    they were drawn for. A deterministic policy logs temperature 0, its limit.
    """
    row_R, slot_R = np.nonzero(slates.mask_BK)
    item_R = slates.item_BK[row_R, slot_R]
    rows = row_R.tolist()
    slate_id_B = [slate_id(policy_version, user_key, timestamp, seed=config.seed) for user_key in user_key_B]
    num_rows = len(rows)
    columns = {
        Impression.POLICY_VERSION: [policy_version] * num_rows,
        Impression.SLATE_ID: [slate_id_B[row] for row in rows],
        Impression.USER_KEY: [user_key_B[row] for row in rows],
        Impression.ITEM_INDEX: item_R,
        Impression.ITEM_ID: [item_id_V[item] for item in item_R.tolist()],
        Impression.SLOT: (slot_R + 1).astype(np.int32),
        Impression.SCORE: slates.score_BK[row_R, slot_R],
        Impression.TEMPERATURE: np.full(
            num_rows, 0.0 if slates.is_deterministic else config.temperature, dtype=np.float32
        ),
        Impression.PROPENSITY: slates.propensity_BK[row_R, slot_R],
        Impression.IS_DETERMINISTIC: np.full(num_rows, slates.is_deterministic),
        Impression.CANDIDATES_HASH: [slates.candidates_hash_B[row] for row in rows],
        Impression.TIMESTAMP: np.full(num_rows, timestamp, dtype=np.int64),
    }
    return pa.table(columns, schema=IMPRESSION_SCHEMA)


def slate_id(policy_version: str, user_key: str, timestamp: int, *, seed: int) -> str:
    """32 hex digits of the SHA-256 of the four, a line each: all that a draw depends on, and nothing else.

    The same slate has the same id everywhere, and another draw has another.
    """
    return hashlib.sha256(f"{policy_version}\n{user_key}\n{timestamp}\n{seed}".encode()).hexdigest()[:32]


def check_impressions(table: pa.Table, *, source: str) -> None:
    """Raise InputError naming the first thing in the rows that cannot be an impression."""
    check_rows(
        table,
        source=source,
        required=Impression.ALL,
        checks=(
            Check(
                Impression.USER_KEY,
                lambda column: pc.match_substring_regex(column, "^[0-9a-f]{64}$"),
                "is no pseudonym; hand in the impression log that `recommend` wrote",
            ),
            Check(Impression.ITEM_INDEX, lambda column: pc.greater_equal(column, 1), "must be 1 or more"),
            Check(Impression.SLOT, lambda column: pc.greater_equal(column, 1), "must be 1 or more"),
            Check(Impression.SCORE, pc.is_finite, "must be finite"),
            Check(
                Impression.PROPENSITY,
                lambda column: pc.and_(pc.greater(column, 0), pc.less_equal(column, 1)),
                "must be above 0 and at most 1",
            ),
            *TIMESTAMP_CHECKS,
        ),
    )
