"""What a bundle's own policy would have earned, estimated from the log of another one that explored.

The policy is the one `recommend` draws slates by: the bundle's scores of each logged moment, the dial turned,
Plackett-Luce at a temperature. It is asked how likely it would have shown each logged item, given the slots
above it as they were. Only slates count that came after all the bundle has learned from and after the
validation cut: no model is judged by the outcomes it was fitted on, and what it knows of items is what was
known at that cut.

Legend: R rows of the log, S slates, K slots, V items (entry 0 pads), B slates of a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.bundle import Bundle
from recsys.bundle_fit import catalogue_for
from recsys.data.cut_features import CutScaler
from recsys.data.cut_tables import CutTable
from recsys.data.tables import FeatureTables
from recsys.evaluation.dial import NO_CRITIC, NO_LOG, advantage_of
from recsys.evaluation.scoring import score_users
from recsys.evaluation.views import candidate_scores, category_of, seen_and_targets
from recsys.policy.occasions import controls_of
from recsys.policy.off_policy.from_log import check_evaluable
from recsys.policy.off_policy.panel import PanelConfig, decision_panel
from recsys.policy.off_policy.refusal import OverlapRules
from recsys.policy.off_policy.tilt import TiltedLog, slates_of
from recsys.policy.slates import PolicyConfig, slate_propensities
from recsys.schema import SECONDS_PER_DAY, Impression, InputError, Split, Table
from recsys.settings import check_range

TILTED, OWN = "tilted", "own"
_KNOWN_AT = Split.VALIDATION


@dataclass(frozen=True, kw_only=True)
class OffPolicyConfig:
    """`num_slates`: of the log, at most, that the bundle's own policy is asked about (a random sample).
    `most_reward`: as in `PanelConfig`, of what a user brings from a slate to the end of the horizon. Raises
    InputError.
    """

    num_slates: int = 2000
    most_reward: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("off_policy.num_slates", self.num_slates, least=1)
        check_range("off_policy.seed", self.seed, least=0)
        if self.most_reward is not None:
            check_range("off_policy.most_reward", self.most_reward, above=0)


def tilted_panel(front: dict[str, Any], *, horizon_days: int) -> dict[str, Any]:
    """The panel that a dial front was made with, taken out of it: `policy`, `dial`, `horizon_days`, `refused`
    (a list of reasons), and all of `decision_panel` where there is an estimate.
    """
    panel, dial = front.pop("panel"), front.pop("panel_dial")
    found = {"policy": TILTED, "dial": dial, "horizon_days": horizon_days}
    return found | (panel or {"refused": [front["refused"] or NO_LOG]})


def own_panel(
    *,
    bundle: Bundle,
    tables: FeatureTables,
    split: str,
    policy: PolicyConfig,
    horizon_days: int,
    level: float,
    config: OffPolicyConfig,
) -> dict[str, Any]:
    """As `tilted_panel`, of the policy that the bundle would follow; `num_slates` and `num_slates_known` tell
    the sample from all there were, `zero_share` is that of logged items it would never show. The horizon is
    half of the time between that and the cut, `horizon_days` at most. A policy that
    cannot be asked about this log is refused, with the reason.
    """
    policy = replace(policy, dial=bundle.dial if policy.dial is None else policy.dial)
    found: dict[str, Any] = {
        "policy": OWN,
        "dial": policy.dial,
        "kind": policy.kind,
        "temperature": None if policy.is_deterministic else policy.temperature,
    }
    try:
        return found | _own_panel(bundle, tables, split, policy, horizon_days, level, config)
    except InputError as error:
        return found | {"refused": [str(error)]}


def own_lines(panels: list[dict[str, Any]]) -> list[str]:
    """A line for people on the bundle's own policy: the doubly robust gain with its lower bound, or why there
    is none. The front has told of the tilt.
    """
    lines = []
    for panel in panels:
        if panel["policy"] == OWN and panel["refused"]:
            lines.append(f"this bundle's policy: no estimate: {'; '.join(panel['refused'])}")
        elif panel["policy"] == OWN:
            gain = panel["estimates"]["dr"]["gain"]
            found = f"gain a slot {gain['value']:+.5f} [{gain['lower']['t']:+.5f}]"
            lines.append(f"this bundle's policy, dial {panel['dial']:g}: {found}")
    return lines


def _own_panel(
    bundle: Bundle,
    tables: FeatureTables,
    split: str,
    policy: PolicyConfig,
    horizon_days: int,
    level: float,
    config: OffPolicyConfig,
) -> dict[str, Any]:
    folder = tables.dir / Table.IMPRESSIONS
    table = pq.read_table(folder) if tables.has_value and folder.is_dir() else None
    if table is None or not table.num_rows:
        raise InputError(NO_LOG)
    if policy.dial and not bundle.advantage:
        raise InputError(NO_CRITIC)
    if policy.max_share is not None or policy.category_memory_days:
        raise InputError(
            "with policy.max_share or policy.category_memory_days a slate depends on others, which an "
            "estimate of one slate does not follow; evaluate without them"
        )
    start, cut = max(int(bundle.trained_on["learned_until"]), tables.cut(_KNOWN_AT)), tables.cut(split)
    horizon_days = min(horizon_days, (cut - start) // (2 * SECONDS_PER_DAY))
    if horizon_days < 1:
        raise InputError(
            "no outcome is left between what the model has learned from and this cut; evaluate it at a later "
            "one (split=test, or newer tables)"
        )
    check_evaluable(table)
    table = table.filter(
        pc.and_(
            pc.greater(table[Impression.TIMESTAMP], start),
            pc.less_equal(table[Impression.TIMESTAMP], cut - horizon_days * SECONDS_PER_DAY),
        )
    )
    table, num_known = _sample(table, config)
    log = TiltedLog(
        table,
        histories=tables.histories,
        item_id_V=tables.items(split).item_id,
        until=cut,
        horizon_days=horizon_days,
        event_types=tables.metadata["event_types"],
    )
    target_R = _target_propensities(log, bundle, tables, policy)
    panel = decision_panel(
        log.decisions_of(target_R),
        config=PanelConfig(level=level, most_reward=config.most_reward),
        rules=OverlapRules(),
    )
    return {
        "horizon_days": horizon_days,
        "num_slates": len(slates_of(log.rows)[1]),
        "num_slates_known": num_known,
        "zero_share": float((target_R == 0).mean()),
        **panel,
    }


def _sample(table: pa.Table, config: OffPolicyConfig) -> tuple[pa.Table, int]:
    """(the rows of at most so many slates, the number of slates there were)."""
    slate_id = pc.unique(table[Impression.SLATE_ID])
    num_known = len(slate_id)
    if num_known > config.num_slates:
        drawn = np.random.default_rng(config.seed).choice(num_known, config.num_slates, replace=False)
        picked = slate_id.take(pa.array(np.sort(drawn)))
        table = table.filter(pc.is_in(table[Impression.SLATE_ID], value_set=picked))
    return table, num_known


def _target_propensities(
    log: TiltedLog, bundle: Bundle, tables: FeatureTables, policy: PolicyConfig
) -> np.ndarray:
    """(R,) With which the policy shows each logged item in its slot, given those above; 0: never."""
    slate_R, first_S = slates_of(log.rows)
    user_S, timestamp_S = log.user_R[first_S], log.rows[Impression.TIMESTAMP].to_numpy()[first_S]
    row_R, place_R = _places(slate_R, log.rows[Impression.SLOT].to_numpy())
    item_SK = np.zeros((len(first_S), int(place_R.max()) + 1), np.int64)
    item_SK[slate_R[row_R], place_R] = log.item_R[row_R]

    items, event_types = tables.items(_KNOWN_AT), tables.metadata["event_types"]
    advantage = advantage_of(bundle) if policy.dial else None
    weight_S = np.ones(len(first_S), np.float32)
    if advantage is not None:
        weight_S = advantage.weights_of(
            controls_of(tables.histories, user_S, timestamp_S, event_types=event_types)
        )
    table = _moments(tables, user_S, timestamp_S)
    seen = seen_and_targets(tables, table)[0] if tables.metadata["filter_seen"] else None
    known_V = items.in_training & (np.arange(len(items.in_training)) > 0)
    category_V = category_of(tables, items)
    propensity_SK = np.zeros(item_SK.shape)
    for chunk in score_users(
        model=bundle.model,
        catalogue=catalogue_for(bundle, tables, _KNOWN_AT),
        tables=tables,
        table=table,
        scaler=CutScaler(**bundle.scaler),
    ):
        score_BV = candidate_scores(chunk.score_BV, candidate=known_V, seen=seen, rows=chunk.rows)
        if advantage is not None:
            score_BV = advantage.scores(score_BV, weight_S[chunk.rows], dial=policy.dial or 0.0)
        propensity_SK[chunk.rows] = slate_propensities(
            scores_BV=score_BV, item_BK=item_SK[chunk.rows], config=policy, category_V=category_V
        )
    target_R = np.empty(len(slate_R))
    target_R[row_R] = propensity_SK[slate_R[row_R], place_R]
    return np.nan_to_num(target_R, nan=0.0)


def _places(slate_R: np.ndarray, slot_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows by slate and slot, the place of each of them in its slate from 0)."""
    row_R = np.lexsort((slot_R, slate_R))
    starts_R = np.searchsorted(slate_R[row_R], slate_R[row_R])
    return row_R, np.arange(len(row_R)) - starts_R


def _moments(tables: FeatureTables, user_S: np.ndarray, timestamp_S: np.ndarray) -> CutTable:
    """The users as they were just before each slate: what scores of items are made from, nothing else."""
    histories, now = tables.histories, tables.at_cut(split=_KNOWN_AT)
    first_S, last_S = histories.offsets[user_S - 1], histories.offsets[user_S]
    length_S = [
        int(np.searchsorted(histories.timestamp[first:last], time))
        for first, last, time in zip(first_S, last_S, timestamp_S, strict=True)
    ]
    at_S = np.minimum(np.searchsorted(now.user_index, user_S), len(now.user_index) - 1)
    table = now.rows(at_S)
    profile_SF = np.where((table.user_index == user_S)[:, None], table.profile, 0)
    return replace(
        table,
        user_index=user_S,
        prefix_length=np.array(length_S, np.int64),
        profile=profile_SF,
        activity=np.full_like(table.activity, np.nan),
    )
