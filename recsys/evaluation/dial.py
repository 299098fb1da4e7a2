"""What turning the dial costs in accuracy (`dial_accuracy`) and earns in value, setting by setting.

Legend: U users, V items, F folds of users.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys.bundle import Bundle
from recsys.data.tables import FeatureTables
from recsys.evaluation.dial_accuracy import accuracy_front, all_settings
from recsys.evaluation.views import impressions_of
from recsys.policy.advantage import Advantage, cross_fitted
from recsys.policy.dial import DialConfig, default_dial
from recsys.policy.off_policy.panel import PanelConfig
from recsys.policy.off_policy.tilt import TiltedLog, gain_of
from recsys.schema import InputError

NO_LOG = (
    "no impressions with propensities were handed back for these tables; show slates of policy.kind="
    "plackett_luce and hand their log in with `python -m recsys feedback`"
)

NO_CRITIC = (
    "this bundle has no critic: its data has no time, or too few visits were followed to the end of the "
    "horizon; train it anew on a longer log, or with a lower dial.critic.horizon_days"
)
NO_EFFECT = (
    "the critic found nothing that items do to later visits beyond chance, so the dial turns nothing; "
    "collect a longer log"
)


def advantage_of(bundle: Bundle) -> Advantage | None:
    """The critic of a bundle; None where it has none."""
    if not bundle.advantage:
        return None
    return Advantage.of_arrays({name: tensor.numpy() for name, tensor in bundle.advantage.items()})


def dial_front(
    *,
    bundle: Bundle,
    tables: FeatureTables,
    split: str,
    config: DialConfig,
    most_reward: float | None = None,
) -> dict[str, Any]:
    """front: a row a setting (dial, ndcg, ndcg_loss against pure accuracy with its interval, value@10,
    coverage@10, gain with its interval and lower bound); default: the dial to start from; refused: why there
    is no estimate of the gain; panel: every estimate (`decision_panel`) at the dial `panel_dial`, the default
    or, where that is 0, the largest setting that accuracy allows; None without a log. `most_reward`: as in
    `PanelConfig`.

    Accuracy is that of the view `all`, on what followed the cut; the gain is of decisions whose horizon ended
    before it, by critics that did not learn from the users they are judged on.
    """
    advantage = advantage_of(bundle)
    if advantage is None:
        found = {"front": [], "default": 0.0, "refused": NO_CRITIC, "split": split}
        return found | {"panel": None, "panel_dial": None}
    table = tables.at_cut(split=split)
    weight_U = advantage.user_weights(
        tables.histories, table.user_index, table.cut, event_types=tables.metadata["event_types"]
    )
    front = accuracy_front(bundle, tables, split, advantage, weight_U, config)
    index_weight_U = np.ones(tables.histories.num_users + 1)
    index_weight_U[table.user_index] = weight_U
    panels, refused = _panels(bundle, tables, split, index_weight_U, config, most_reward)
    for row in front:
        gain: dict[str, Any] = dict.fromkeys(("value", "low", "high", "lower"))
        if row["dial"] in panels:
            gain = gain_of(panels[row["dial"]])
            row["logged_value"] = gain["logged"]
            refused = refused or "; ".join(gain["refused"]) or None
        row |= {"gain": gain["value"], "gain_low": gain["low"], "gain_high": gain["high"]}
        row["gain_lower"] = gain["lower"]
    default = default_dial(front, most_ndcg_loss=config.most_ndcg_loss)
    shown = default or _largest_allowed(front, config.most_ndcg_loss)
    found = {"front": front, "default": default, "refused": refused, "split": split}
    return found | {"panel": None if shown is None else panels.get(shown), "panel_dial": shown}


def _panels(
    bundle: Bundle,
    tables: FeatureTables,
    split: str,
    index_weight_U: np.ndarray,
    config: DialConfig,
    most_reward: float | None,
) -> tuple[dict[float, dict[str, Any]], str | None]:
    """(estimates of what each setting above 0 would have earned, why there are none)."""
    log, refused = _log(tables, split, config)
    if log is None:
        return {}, refused
    if not bundle.advantage["item_V"].any():
        return {}, NO_EFFECT
    folds_FV = cross_fitted(
        tables.histories,
        num_items=tables.num_items,
        until=tables.cut(split),
        event_types=tables.metadata["event_types"],
        config=config.critic,
    )
    panel = PanelConfig(level=config.level, most_reward=most_reward)
    return {
        dial: log.panel(folds_FV, index_weight_U, dial=dial, config=panel)
        for dial in all_settings(config)
        if dial > 0
    }, refused


def _largest_allowed(front: list[dict[str, Any]], most_ndcg_loss: float) -> float | None:
    """The largest dial above 0 that accuracy allows, else the smallest."""
    turned = sorted(row["dial"] for row in front if row["dial"] > 0)
    allowed = [row["dial"] for row in front if row["dial"] > 0 and row["ndcg_loss"] <= most_ndcg_loss]
    return max(allowed, default=turned[0] if turned else None)


def _log(tables: FeatureTables, split: str, config: DialConfig) -> tuple[TiltedLog | None, str | None]:
    """The log that gains can be estimated from, or why there is none."""
    table = impressions_of(tables)
    if table is None or not tables.has_value:
        return None, NO_LOG
    try:
        log = TiltedLog(
            table,
            histories=tables.histories,
            item_id_V=tables.items(split).item_id,
            until=tables.cut(split),
            horizon_days=config.critic.horizon_days,
            event_types=tables.metadata["event_types"],
        )
    except InputError as error:
        return None, str(error)
    return log, None


def front_lines(found: dict[str, Any]) -> list[str]:
    """The front as a table for people."""
    lines = [
        f"{'dial':>5}  {'NDCG@10':>8}  {'loss':>7}  {'value@10':>8}  {'coverage':>8}  gain a slot [lower]"
    ]
    for row in found["front"]:
        gain = "-" if row["gain"] is None else f"{row['gain']:+.5f} [{row['gain_lower']:+.5f}]"
        lines.append(
            f"{row['dial']:>5g}  {row['ndcg@10']:>8.4f}  {row['ndcg_loss']:>+7.2%}  {row['value@10']:>8.4f}  "
            f"{row['coverage@10']:>8.4f}  {gain}"
        )
    if found["refused"]:
        lines.append(f"no estimate of the gain: {found['refused']}")
    lines.append(f"default dial: {found['default']:g}")
    return lines
