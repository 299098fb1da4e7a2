"""A made-up report with believable numbers; nothing in it was measured."""

from __future__ import annotations

import math
from typing import Any

from recsys.report.content import Report


def figure(value: float, half_width: float) -> dict[str, float]:
    return {"value": value, "low": value - half_width, "high": value + half_width}


_MODEL_STRENGTH = {"aurm": 1.0, "most_popular_30d": 0.42, "repeat_purchase": 0.86, "ease": 0.83}
_VIEW_STRENGTH = {"all": 1.0, "not_yet_bought": 0.55, "cold_items": 0.06}
_METRIC_LEVEL = {
    "hr@10": 0.412,
    "ndcg@10": 0.0874,
    "recall@10": 0.0521,
    "mrr@10": 0.1832,
    "precision@10": 0.0791,
    "hr@50": 0.683,
    "ndcg@50": 0.0912,
    "recall@50": 0.1443,
    "mrr@50": 0.1946,
    "precision@50": 0.0487,
}


def ranking_figures() -> dict[str, dict[str, float]]:
    figures = {}
    for view, view_strength in _VIEW_STRENGTH.items():
        for metric, level in _METRIC_LEVEL.items():
            for model, strength in _MODEL_STRENGTH.items():
                if view == "not_yet_bought" and model == "repeat_purchase":
                    strength = 0.0
                value = level * view_strength * strength
                figures[f"ranking/{view}/{metric}/{model}"] = figure(value, 0.055 * value)
            best = "ease" if view == "not_yet_bought" else "repeat_purchase"
            gap = level * view_strength * (1 - _MODEL_STRENGTH[best])
            width = 2.0 if view == "cold_items" else 0.5
            figures[f"ranking/{view}/{metric}/aurm_minus_{best}"] = figure(gap, width * gap)
    for model, value in (("aurm", 0.0211), ("most_popular_30d", 0.0203)):
        figures[f"ranking/cold_users/ndcg@10/{model}"] = figure(value, 0.003)
    figures["ranking/cold_users/ndcg@10/aurm_minus_most_popular_30d"] = figure(0.0008, 0.0021)
    return figures


def value_figures() -> dict[str, dict[str, float]]:
    figures = {}
    for horizon_days, gini in ((30, 0.681), (90, 0.724)):
        at = f"value/{horizon_days}d"
        for model, factor in (
            ("aurm", 1.0),
            ("past_spend", 0.94),
            ("bg_nbd_gamma_gamma", 0.97),
            ("gbm", 1.02),
        ):
            figures[f"{at}/gini/{model}"] = figure(gini * factor, 0.021)
            figures[f"{at}/spearman/{model}"] = figure(0.53 * factor, 0.017)
            figures[f"{at}/decile_mape/{model}"] = figure(0.17 / factor**4, 0.04)
            figures[f"{at}/total_bias/{model}"] = figure(-0.043 + (1 - factor), 0.06)
        figures[f"{at}/gini/aurm_minus_gbm"] = figure(-0.0143, 0.0102)
        figures[f"{at}/total_bias/aurm_minus_past_spend"] = figure(0.02, 0.04)
        figures[f"{at}/decile_mape/floor"] = figure(0.112, 0.061)
        figures[f"{at}/total_bias/floor"] = figure(0.034, 0.033)
        figures[f"{at}/coverage90/aurm"] = figure(0.871, 0.012)
        figures[f"{at}/gini/aurm_minus_bg_nbd_gamma_gamma"] = figure(0.0204, 0.0121)
        figures[f"{at}/spearman/aurm_minus_bg_nbd_gamma_gamma"] = figure(0.0159, 0.0183)
    for head, low in (("retention", 0.74), ("conversion", 0.76)):
        for model, factor in (("aurm", 1.0), ("recency_logistic", 0.96)):
            figures[f"{head}/30d/auc/{model}"] = figure(low * factor, 0.02)
            figures[f"{head}/30d/ece/{model}"] = figure(0.021 / factor, 0.006)
            figures[f"{head}/30d/brier/{model}"] = figure(0.183 / factor, 0.007)
        figures[f"{head}/30d/auc/aurm_minus_recency_logistic"] = figure(0.0296, 0.0112)
    return figures


def beyond_figures() -> dict[str, dict[str, float]]:
    levels = {"coverage@10": 0.61, "ild@10": 0.82, "novelty@10": 9.4}
    return {
        f"beyond/{metric}/{model}": figure(level * strength, 0.01 * level)
        for metric, level in levels.items()
        for model, strength in _MODEL_STRENGTH.items()
    }


def deciles(horizon_days: int) -> list[dict[str, float]]:
    means = [0.8, 4, 11, 24, 45, 77, 124, 203, 371, 1480]
    scale = (horizon_days / 30) ** 0.8
    wobble = [1.9, 0.7, 1.2, 0.9, 1.05, 1.1, 0.94, 1.02, 0.93, 1.08]
    return [
        {
            "n": 338 - index % 2,
            "predicted": mean * scale,
            "actual": mean * scale * wobble[index],
            "low": mean * scale * 0.8,
            "high": mean * scale * 1.25,
        }
        for index, mean in enumerate(means)
    ]


def spend_curve(strength: float = 1.0) -> list[dict[str, float]]:
    return [
        {
            "horizon_days": days,
            "predicted_mean": 6.1 * days**0.87,
            "actual_mean": strength * 6.4 * days**0.85,
        }
        for days in (7, 14, 30, 60, 90)
    ]


def retention_curve(days_back: float = 38) -> list[dict[str, float]]:
    return [
        {"day": day, "predicted": 1 - math.exp(-day / 41), "actual": 1 - math.exp(-day / days_back)}
        for day in range(1, 91)
    ]


def cohorts() -> list[dict[str, Any]]:
    return [
        {
            "cohort": f"2011-{month:02}",
            "n": 400 - 30 * month,
            "spend": spend_curve(1.3 - 0.1 * month),
            "retention": retention_curve(30 + 5 * month),
        }
        for month in range(1, 6)
    ]


def value_groups() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for by, group, num_people in (
        ("cohort", "2011-01", 370),
        ("cohort", "2011-02", 340),
        ("country", "France", 70),
        ("country", "Norway", 12),
        ("country", "others", 4),
    ):
        row: dict[str, Any] = {"by": by, "group": group, "horizon_days": 90, "n": num_people}
        hidden = {4: "<10 people", 12: "withheld"}.get(num_people, "")
        known = {
            "expected_mean": {"value": 241.0, "low": None, "high": None},
            "actual_mean": figure(230.1, 44.2),
            "total_bias": figure(0.047, 0.171),
            "gini": figure(0.61, 0.09),
            "coverage90": figure(0.88, 0.04),
            "actual_return": figure(0.57, 0.05),
        }
        rows.append({**row, "hidden": hidden, "figures": {} if hidden else known})
    return rows


def dial_front() -> dict[str, Any]:
    settings = ((0.0, None), (0.2, 0.0004), (0.4, 0.0011), (0.8, 0.0012))
    front = [
        {
            "dial": dial,
            "ndcg@10": 0.0874 * (1 - 0.05 * dial),
            "ndcg_loss": 0.05 * dial,
            "ndcg_loss_low": 0.05 * dial - 0.004,
            "ndcg_loss_high": 0.05 * dial + 0.004,
            "value@10": 0.21 + 0.02 * dial,
            "coverage@10": 0.61 + 0.1 * dial,
            "gain": gain,
            "gain_low": None if gain is None else gain - 0.0003,
            "gain_high": None if gain is None else gain + 0.0003,
            "gain_lower": None if gain is None else gain - 0.00025,
        }
        for dial, gain in settings
    ]
    return {"front": front, "default": 0.4, "refused": None, "split": "test"}


def estimate(value: float, half_width: float) -> dict[str, Any]:
    bound = value - 0.84 * half_width
    lower = {"t": bound, "percentile": bound, "studentised": bound}
    return {**figure(value, half_width), "lower": lower}


def off_policy() -> list[dict[str, Any]]:
    overlap = {
        "num_users": 2310,
        "num_weights": 201_030,
        "num_rewarded": 19_090,
        "effective_size": 195_486.2,
        "effective_share": 0.972,
        "mean_weight": 1.001,
        "mean_weight_error": 0.004,
        "max_weight": 1.627,
        "p999_weight": 1.467,
        "clipped_share": 0.0,
        "largest_share": 0.000008,
        "unsupported_mass": None,
        "always_certain": False,
    }
    names = ("ips", "snips", "dm", "dr", "sndr", "switch_dr", "dr_shrunk")
    made = {name: {**estimate(4.33, 0.16), "gain": estimate(0.0011, 0.0003)} for name in names}
    tilted = {"policy": "tilted", "dial": 0.4, "horizon_days": 30, "refused": [], "overlap": overlap}
    poor = {**overlap, "effective_size": 411.9, "effective_share": 0.0255, "max_weight": 498.4}
    own = {"policy": "own", "dial": 0.4, "kind": "plackett_luce", "temperature": 1.0, "horizon_days": 3}
    own |= {"num_slates": 2000, "num_slates_known": 12_345, "zero_share": 0.014, "overlap": poor}
    reason = "the effective sample is 2.55% of the log, below 5.00%; evaluate a policy closer to it"
    logged = {"logged": estimate(4.33, 0.16)}
    bernstein = {"lower": 0.2, "gain_lower": -0.9}
    return [
        {**tilted, **logged, "estimates": made, "bernstein": bernstein},
        {**own, **logged, "refused": [reason], "estimates": {}},
    ]


def loop_rounds() -> list[dict[str, Any]]:
    return [
        {
            "world": "default",
            "round": number,
            "seeds": [0, 1],
            "dials": [0.2, 0.4],
            "values": {
                "dialled": 9.1 + 0.3 * number,
                "variety": 9.0 + 0.2 * number,
                "accuracy": 8.9 + 0.1 * number,
                "myopic_revenue": 10.2,
                "value_aware_0.1": 11.9,
                "value_aware_0.2": 12.4,
            },
            "figures": {
                "attainable": figure(2.2, 0.4),
                "gain": figure(0.2 * number, 0.05),
                "share_gain": figure(0.09 * number, 0.02),
                "over_myopic": figure(-1.1 + 0.3 * number, 0.1),
                "share_over_myopic": figure(-0.5 + 0.14 * number, 0.05),
            },
        }
        for number in (1, 2, 3)
    ]


def curves() -> dict[str, list[tuple[float, float]]]:
    steps = [50 * index for index in range(1, 41)]
    epochs = steps[4::5]
    return {
        "train/loss": [(s, 4.1 + 4.2 * math.exp(-s / 420) + 0.05 * math.sin(s)) for s in steps],
        "val/loss": [(s, 4.7 + 3.7 * math.exp(-s / 400)) for s in epochs],
        "val/ndcg@10": [(s, 0.0871 * (1 - math.exp(-s / 500))) for s in epochs],
        "train/learning_rate": [(s, 3e-3 * min(1, s / 200) * (1 - s / 2200)) for s in steps],
    }


def people() -> list[dict[str, Any]]:
    history = [
        {"date": "2011-07-04", "item": "WHITE HANGING HEART T-LIGHT HOLDER", "value": 15.3},
        {"date": "2011-07-22", "item": "JUMBO BAG RED RETROSPOT", "value": 20.8},
        {"date": "2011-08-17", "item": "REGENCY CAKESTAND 3 TIER", "value": 25.5},
        {"date": "2011-08-30", "item": "SET OF 3 CAKE TINS PANTRY DESIGN", "value": 14.85},
    ]
    recommended = [
        {"item": "JUMBO BAG VINTAGE LEAF", "score": 0.731, "hit": True},
        {"item": "LUNCH BAG RED RETROSPOT", "score": 0.702, "hit": False},
        {"item": "PARTY BUNTING", "score": 0.688, "hit": False},
        {"item": "SPOTTY BUNTING", "score": 0.641, "hit": True},
        {"item": "HEART OF WICKER SMALL", "score": 0.633, "hit": False},
    ]
    value = {30: {"expected": 88.1, "actual": 71.4}, 90: {"expected": 241.0, "actual": 1310.2}}
    return [
        {
            "label": label,
            "history": history[: 4 - skip],
            "recommendations": recommended[skip:],
            "value": value,
            "retention_30d": 0.63 - 0.2 * skip,
        }
        for skip, label in enumerate(("user A", "user B", "user C"))
    ]


def sample_report(**changes: Any) -> Report:
    content: dict[str, Any] = {
        "title": "User model against its baselines",
        "dataset": "UCI Online Retail",
        "created_at": "2025-02-03 14:20 UTC",
        "currency": "£",
        "protocol": {
            "split": "time",
            "cut_date": "2011-09-01",
            "window_days": 30,
            "seen_filter": False,
            "request_time": True,
            "split_hash": "b1946ac92492d2347c6235b4d2611184e0c19c31f44f2d8c9c1a9d8f0b7b2d11",
            "num_users": {"all": 3376, "not_yet_bought": 3271, "cold_items": 1204, "cold_users": 421},
            "num_items": 3684,
            "horizons_days": [30, 90],
            "table_version": "2025-02-03T14-02-11Z",
            "git_commit": "4f1c2d9",
            "bundle": "outputs/demo/bundle",
        },
        "figures": {**ranking_figures(), **value_figures(), **beyond_figures()},
        "training_curves": curves(),
        "decile_tables": {30: deciles(30), 90: deciles(90)},
        "spend_curve": spend_curve(),
        "retention_curve": retention_curve(),
        "pit_histograms": {30: [260, *18 * [160], 230], 90: [220, *18 * [165], 180]},
        "cohort_curves": cohorts(),
        "value_groups": value_groups(),
        "coverage_curve": [
            {
                "k": k,
                "model": model,
                "share": min(1.0, 0.31 * strength * math.log(k + 1) / math.log(11) * 1.8),
            }
            for k in (1, 5, 10, 20, 50)
            for model, strength in _MODEL_STRENGTH.items()
        ],
        "dial": dial_front(),
        "off_policy": off_policy(),
        "loop": loop_rounds(),
        "examples": people(),
        "data_is_public": True,
        "notes": ["Horizons over 99 days end after the data and are left out."],
        "verdicts": [
            {
                "claim": "AURM beats the best baseline on NDCG@10 over all items",
                "met": True,
                "detail": "0.0874 against 0.0752 (Repeat purchases); paired difference 0.0061 to 0.0184",
            },
            {
                "claim": "AURM beats the best baseline on NDCG@10 over items not yet bought",
                "met": True,
                "detail": "0.0481 against 0.0399 (EASE); paired difference 0.0041 to 0.0123",
            },
            {
                "claim": "AURM beats past spend on Gini at 90 days",
                "met": False,
                "detail": "0.724 against 0.702; paired difference -0.004 to 0.043, so it may be chance",
            },
        ],
    }
    return Report(**{**content, **changes})
