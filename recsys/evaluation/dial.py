"""What turning the dial costs in accuracy and earns in value, setting by setting.

Legend: U users, B users of a chunk, V items, K ranks, F folds of users.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from recsys.bundle import Bundle
from recsys.bundle_fit import catalogue_for
from recsys.data.cut_features import CutScaler
from recsys.data.tables import FeatureTables, Items
from recsys.evaluation.scoring import score_users
from recsys.evaluation.views import (
    View,
    candidate_scores,
    category_of,
    impressions_of,
    ranking_views,
    seen_and_targets,
)
from recsys.metrics.beyond_accuracy import catalogue_coverage
from recsys.metrics.interval import mean_interval, paired_difference
from recsys.metrics.ranking import hits, ranking_metrics
from recsys.policy.advantage import Advantage, cross_fitted
from recsys.policy.dial import DialConfig, default_dial
from recsys.policy.memory import shown_before
from recsys.policy.off_policy.panel import PanelConfig
from recsys.policy.off_policy.tilt import TiltedLog, gain_of
from recsys.policy.slates import DETERMINISTIC, PolicyConfig, draw_slates
from recsys.schema import InputError

K = 10
_CANDIDATES = 200
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
    front = _front(bundle, tables, split, advantage, weight_U, config)
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


def _front(
    bundle: Bundle,
    tables: FeatureTables,
    split: str,
    advantage: Advantage,
    weight_U: np.ndarray,
    config: DialConfig,
) -> list[dict[str, Any]]:
    """A row a setting, dial 0 first, with what it costs in accuracy: every user's list at each of them."""
    table, items = tables.at_cut(split=split), tables.items(split)
    seen, _ = seen_and_targets(tables, table)
    view = ranking_views(tables, table, items, known=items.in_training)[0]
    settings = _settings(config)
    accuracy, slates = (
        PolicyConfig(
            kind=DETERMINISTIC,
            slate_size=K,
            num_candidates=_CANDIDATES,
            category_penalty=penalty,
            category_memory_days=config.category_memory_days,
        )
        for penalty in (0.0, config.category_penalty)
    )
    category_V = category_of(tables, items)
    carried_UC = carried(tables, items, policy=slates, at=table.cut)
    plain = np.zeros((len(view.rows), K), np.int64)
    ranked = {dial: np.zeros((len(view.rows), K), np.int64) for dial in settings}
    for chunk in score_users(
        model=bundle.model,
        catalogue=catalogue_for(bundle, tables, split),
        tables=tables,
        table=table,
        scaler=CutScaler(**bundle.scaler),
    ):
        inside = np.isin(chunk.rows, view.rows)
        rows = chunk.rows[inside]
        if not len(rows):
            continue
        at = np.searchsorted(view.rows, rows)
        score_BV = candidate_scores(
            chunk.score_BV[inside],
            candidate=view.candidate,
            seen=seen if view.hides_seen else None,
            rows=rows,
        )
        plain[at] = _slate(score_BV, accuracy, None, None)
        carried_BC = None if carried_UC is None else carried_UC[table.user_index[rows]].toarray()
        for dial in settings:
            turned_BV = advantage.scores(score_BV, weight_U[rows], dial=dial)
            ranked[dial][at] = _slate(turned_BV, slates, category_V, carried_BC)
    return _accuracy(plain, ranked, view, np.nan_to_num(items.price), tables.num_items)


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
        for dial in _settings(config)
        if dial > 0
    }, refused


def _settings(config: DialConfig) -> list[float]:
    return [0.0, *sorted(set(config.settings))]


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


def carried(tables: FeatureTables, items: Items, *, policy: PolicyConfig, at: int) -> sparse.csr_array | None:
    """(U + 1, C + 1) What users were shown of every category before a time, as the policy remembers it, by
    user_index; None where it remembers nothing, or nothing was handed back.
    """
    category_V, impressions = category_of(tables, items), impressions_of(tables)
    if policy.category_memory_days == 0 or category_V is None or impressions is None:
        return None
    return shown_before(
        impressions,
        user_key_U=np.asarray(tables.histories.user_key),
        item_id_V=items.item_id,
        category_V=category_V,
        at=at,
        half_life_days=policy.category_memory_days,
    )


def _slate(
    score_BV: np.ndarray,
    config: PolicyConfig,
    category_V: np.ndarray | None,
    carried_BC: np.ndarray | None,
) -> np.ndarray:
    """(B, K) item_index, best first."""
    users_B = np.arange(len(score_BV))
    return draw_slates(
        scores_BV=score_BV,
        user_index_B=users_B,
        config=config,
        category_V=category_V,
        carried_BC=carried_BC,
    ).item_BK


def _accuracy(
    plain_UK: np.ndarray, ranked: dict[float, np.ndarray], view: View, price_V: np.ndarray, num_items: int
) -> list[dict[str, Any]]:
    if not len(view.rows):
        return []
    base_U = ranking_metrics(ranked_UK=plain_UK, targets=view.targets, ks=(K,))[f"ndcg@{K}"]
    base = float(base_U.mean())
    front = []
    for dial, ranked_UK in ranked.items():
        ndcg_U = ranking_metrics(ranked_UK=ranked_UK, targets=view.targets, ks=(K,))[f"ndcg@{K}"]
        loss = paired_difference(base_U, ndcg_U).as_dict()
        front.append(
            {
                "dial": dial,
                f"ndcg@{K}": mean_interval(ndcg_U).value,
                "ndcg_loss": (loss["value"] or 0.0) / base if base > 0 else 0.0,
                "ndcg_loss_low": (loss["low"] or 0.0) / base if base > 0 else 0.0,
                "ndcg_loss_high": (loss["high"] or 0.0) / base if base > 0 else 0.0,
                f"value@{K}": _value_at(ranked_UK, view, price_V),
                f"coverage@{K}": catalogue_coverage(ranked_UK=ranked_UK, num_items=num_items, k=K),
            }
        )
    return front


def _value_at(ranked_UK: np.ndarray, view: View, price_V: np.ndarray) -> float:
    """Price of the hits / that of the dearest K targets, over all users."""
    got = (hits(ranked_UK=ranked_UK, targets=view.targets) * price_V[ranked_UK]).sum()
    best = sum(
        float(np.sort(price_V[view.targets.row(k)])[::-1][:K].sum()) for k in range(view.targets.num_rows)
    )
    return float(got) / best if best > 0 else 0.0


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
