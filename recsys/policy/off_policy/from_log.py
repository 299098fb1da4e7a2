"""The impressions table (impressions with what followed them) -> decisions to evaluate a policy on."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.policy.off_policy.decisions import Decisions
from recsys.schema import Impression, InputError, Response


def check_evaluable(table: pa.Table) -> None:
    """Raise InputError where no estimate can come from these rows, whatever the target policy.

    That is a log without propensities, as logs of purchases are, and one that a deterministic policy wrote,
    even in part.
    """
    missing = [
        name
        for name in (Impression.PROPENSITY, Impression.IS_DETERMINISTIC)
        if name not in table.column_names
    ]
    if missing or table[Impression.PROPENSITY].null_count:
        raise InputError(
            f"the log has no {missing[0] if missing else Impression.PROPENSITY} for its rows, as logs of "
            "purchases have none; only impressions of a stochastic policy can be evaluated"
        )
    certain = table.filter(pc.fill_null(table[Impression.IS_DETERMINISTIC], True))
    if certain.num_rows:
        version = certain[Impression.POLICY_VERSION][0].as_py()
        raise InputError(
            f"{certain.num_rows} of {table.num_rows} impressions are by a deterministic policy ({version}), "
            "which shows nothing of any other; leave them out, or explore with policy.kind=plackett_luce"
        )


def decisions_from_log(
    table: pa.Table,
    *,
    target_propensity_R: np.ndarray,
    reward_column: str = Response.VALUE,
    unsupported_R: np.ndarray | None = None,
) -> Decisions:
    """One decision a row, in the order of the table.

    `target_propensity_R` comes from `slates.slate_propensities` with the target policy's scores; nan, its
    mark for slots after one that the policy would never have filled so, counts as 0. `reward_column` is
    `Response.VALUE` (money) or `Response.NUM_OUTCOMES`.
    """
    check_evaluable(table)
    return Decisions(
        user_R=np.asarray(table[Impression.USER_KEY].to_pylist()),
        slate_R=np.asarray(table[Impression.SLATE_ID].to_pylist()),
        slot_R=table[Impression.SLOT].to_numpy(),
        action_R=table[Impression.ITEM_INDEX].to_numpy(),
        reward_R=table[reward_column].to_numpy().astype(np.float64),
        propensity_R=table[Impression.PROPENSITY].to_numpy(),
        target_propensity_R=np.nan_to_num(target_propensity_R, nan=0.0),
        unsupported_R=unsupported_R,
    )
