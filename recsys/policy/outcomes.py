"""Outcomes as a platform hands them in: checked, and pseudonymised before anything is written."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from recsys.policy.rows import TIMESTAMP_CHECKS, Check, check_rows
from recsys.pseudonym import Key, pseudonym
from recsys.schema import Outcome

OUTCOME_FILE_SCHEMA = pa.schema(
    [
        (Outcome.OUTCOME_ID, pa.string()),
        (Outcome.USER_ID, pa.string()),
        (Outcome.ITEM_ID, pa.string()),
        (Outcome.EVENT_TYPE, pa.string()),
        (Outcome.TIMESTAMP, pa.int64()),
        (Outcome.VALUE, pa.float64()),
        (Outcome.SLATE_ID, pa.string()),
    ]
)
OUTCOME_KEY = (Outcome.OUTCOME_ID,)

_OPTIONAL = (Outcome.VALUE, Outcome.SLATE_ID)


def check_outcomes(table: pa.Table, *, source: str, event_types: Collection[str]) -> None:
    """Raise InputError naming the first thing in the rows that cannot be an outcome.

    `event_types` are the names that the data set's YAML knows.
    """
    known = pa.array(sorted(event_types), pa.string())
    check_rows(
        table,
        source=source,
        required=[name for name in Outcome.FILE if name not in _OPTIONAL],
        checks=(
            *TIMESTAMP_CHECKS,
            Check(Outcome.VALUE, pc.is_finite, "must be finite, or empty for none"),
            Check(
                Outcome.EVENT_TYPE,
                lambda column: pc.is_in(column, value_set=known),
                f"is unknown to this data set, which has {', '.join(sorted(event_types))}; "
                "correct it or add it to the data set's YAML",
            ),
        ),
    )


def pseudonymised(table: pa.Table, key: Key) -> pa.Table:
    """`table` with `user_key` in place of `user_id`, columns in the order of `Outcome.LOG`."""
    encoded = table[Outcome.USER_ID].combine_chunks().dictionary_encode()
    user_keys = pa.array([pseudonym(user_id, key) for user_id in encoded.dictionary.to_pylist()], pa.string())
    table = table.append_column(Outcome.USER_KEY, user_keys.take(encoded.indices))
    return table.select(list(Outcome.LOG))
