"""What turning the dial would have earned, from the log of a policy that explored.

The target is the policy that logged, tilted: every choice it made is made again with odds times exp(dial x
A(u, i)), one slot changed and all else left as logged. The log needs to name the propensity of what was shown
only, never of what was not: the tilted propensity is propensity x exp(dial A) / Z_u, where Z_u is the mean of
exp(dial A) over what the user was shown. A tilt has overlap by construction, which a new model's ranking
seldom has (compare the incremental propensity interventions of Kennedy 2019).

The reward of a decision is money: what the user paid on that day, and the days with an event within the
horizon after it at the user's own money a day until then. It is taken from the log, the advantage has no part
in it.

Legend: R rows of the log (decisions), U users, S occasions, V items.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.flat import FlatHistories
from recsys.policy.memory import place_of
from recsys.policy.occasions import controls_of, money_and_return
from recsys.policy.off_policy.decisions import Decisions
from recsys.policy.off_policy.from_log import check_evaluable, decisions_from_log
from recsys.policy.off_policy.panel import PanelConfig, decision_panel
from recsys.policy.off_policy.refusal import OverlapRules
from recsys.schema import Impression, InputError, Response

_ROUNDS = 20  # until clipping and dividing by the mean agree


def known_impressions(
    table: pa.Table, *, histories: FlatHistories, item_id_V: np.ndarray, until: int, horizon_days: int
) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """(rows of users and items that the tables know and whose horizon ended by `until`, user_R from 1,
    item_R). Raises InputError for a log that no estimate can come from.
    """
    check_evaluable(table)
    ended = pc.less_equal(table[Impression.TIMESTAMP], until - horizon_days * 86_400)
    table = table.filter(ended)
    user_R = place_of(table[Impression.USER_KEY], np.asarray(histories.user_key)) + 1
    item_R = place_of(table[Impression.ITEM_ID], np.asarray(item_id_V, dtype=object))
    known_R = (user_R > 0) & (item_R > 0)
    if not known_R.any():
        raise InputError(
            f"no impression was followed for {horizon_days} days; hand back a longer log or lower "
            "dial.critic.horizon_days"
        )
    return table.filter(pa.array(known_R)), user_R[known_R], item_R[known_R]


class TiltedLog:
    """A log of impressions whose rewards are in, ready for any dial.

    rows: the impressions that count; user_R, item_R: indices from 1 of their users and items.
    """

    def __init__(
        self,
        table: pa.Table,
        *,
        histories: FlatHistories,
        item_id_V: np.ndarray,
        until: int,
        horizon_days: int,
        event_types: Mapping[str, int],
    ) -> None:
        rows, user_R, item_R = known_impressions(
            table, histories=histories, item_id_V=item_id_V, until=until, horizon_days=horizon_days
        )
        self.user_R, self.item_R = user_R, item_R
        slate_R, first_R = slates_of(rows)
        timestamp_S = rows[Impression.TIMESTAMP].to_numpy()[first_R]
        reward_S = money_and_return(
            histories, user_R[first_R], timestamp_S, horizon_days=horizon_days, event_types=event_types
        )
        control_SC = controls_of(histories, user_R[first_R], timestamp_S, event_types=event_types)
        expected_S = _linear(control_SC, reward_S)
        self.rows = rows.drop_columns([n for n in (Response.VALUE,) if n in rows.column_names]).append_column(
            Response.VALUE, pa.array(reward_S[slate_R])
        )
        self._expected_R = expected_S[slate_R]

    def decisions(self, advantage_R: np.ndarray, dial: float) -> Decisions:
        """Decisions of the tilted policy; the reward model is one of the state alone, which lowers
        variance.
        """
        propensity_R = self.rows[Impression.PROPENSITY].to_numpy()
        weight_R = np.exp(dial * advantage_R)
        count_U = np.maximum(np.bincount(self.user_R), 1)
        for _ in range(_ROUNDS):  # what cannot rise above 1 is made up for by the user's other rows
            weight_R = np.minimum(weight_R, 1 / propensity_R)
            weight_R = weight_R / (np.bincount(self.user_R, weights=weight_R) / count_U)[self.user_R]
        return self.decisions_of(np.minimum(propensity_R * weight_R, 1.0))

    def decisions_of(self, target_propensity_R: np.ndarray) -> Decisions:
        """Decisions of any policy, by what it gives to the rows of this log."""
        found = decisions_from_log(self.rows, target_propensity_R=target_propensity_R)
        return replace(found, predicted_R=self._expected_R, expected_R=self._expected_R)

    def panel(
        self, item_FV: np.ndarray, weight_U: np.ndarray, *, dial: float, config: PanelConfig
    ) -> dict[str, Any]:
        """Every estimate of the tilt (`decision_panel`). `item_FV`: advantages of items by fold of users
        (index from 1, modulo the number of folds); `weight_U`: of users, by index from 1 (entry 0 pads).
        """
        fold_R = self.user_R % len(item_FV)
        advantage_R = weight_U[self.user_R] * item_FV[fold_R, self.item_R]
        return decision_panel(self.decisions(advantage_R, dial), config=config, rules=OverlapRules())

    def gain(
        self, item_FV: np.ndarray, weight_U: np.ndarray, *, dial: float, config: PanelConfig
    ) -> dict[str, Any]:
        """`gain_of` the panel of the tilt."""
        return gain_of(self.panel(item_FV, weight_U, dial=dial, config=config))


def gain_of(panel: Mapping[str, Any]) -> dict[str, Any]:
    """Paired gain a decision over the policy that logged: value, low, high, its lower bound, the value
    logged, and the reasons why it is refused.
    """
    found: dict[str, Any] = {"refused": panel["refused"], "logged": panel["logged"]["value"]}
    if panel["refused"]:
        return found | {"value": None, "low": None, "high": None, "lower": None}
    gain = panel["estimates"]["dr"]["gain"]
    return found | {name: gain[name] for name in ("value", "low", "high")} | {"lower": gain["lower"]["t"]}


def slates_of(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """(the number of each row's slate, the first row of each slate)."""
    code_R = rows[Impression.SLATE_ID].combine_chunks().dictionary_encode().indices.to_numpy()
    _, first_S, slate_R = np.unique(code_R, return_index=True, return_inverse=True)
    return slate_R, first_S


def _linear(control_SC: np.ndarray, reward_S: np.ndarray) -> np.ndarray:
    """(S,) What a line through the state says of the reward."""
    design_SC = np.concatenate([np.ones((len(control_SC), 1)), control_SC], axis=1)
    coefficient_C, *_ = np.linalg.lstsq(design_SC, reward_S, rcond=None)
    assert math.isfinite(float(coefficient_C.sum()))
    fitted: np.ndarray = design_SC @ coefficient_C
    return fitted
