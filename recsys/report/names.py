"""The words for metrics, models, views and groups of figures, and which way each metric is better."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Better(enum.Enum):
    """Which way a metric is better. NEITHER: a description, not a goal."""

    HIGHER = "higher"
    LOWER = "lower"
    ZERO = "nearest zero"
    NEITHER = "neither"


class Style(enum.Enum):
    """How a metric's number is written."""

    SHARE_4 = "four decimals"
    SHARE_3 = "three decimals"
    PERCENT = "percent"
    MONEY = "money"
    PLAIN = "plain"


@dataclass(frozen=True)
class Metric:
    """Label, writing and meaning of one metric."""

    label: str
    style: Style
    better: Better
    meaning: str = ""


_METRICS = {
    "hr": Metric(
        "HR", Style.SHARE_4, Better.HIGHER, "hit rate: users with at least one right item in the list"
    ),
    "ndcg": Metric("NDCG", Style.SHARE_4, Better.HIGHER, "right items, counted more the higher they stand"),
    "recall": Metric(
        "Recall", Style.SHARE_4, Better.HIGHER, "share of what the user took that is in the list"
    ),
    "mrr": Metric("MRR", Style.SHARE_4, Better.HIGHER, "one over the rank of the first right item"),
    "precision": Metric("Precision", Style.SHARE_4, Better.HIGHER, "share of the list that the user took"),
    "gini": Metric(
        "Gini", Style.SHARE_3, Better.HIGHER, "normalised: 1 sorts people exactly by spend, 0 at random"
    ),
    "spearman": Metric(
        "Spearman", Style.SHARE_3, Better.HIGHER, "rank correlation of expected and real spend"
    ),
    "decile_mape": Metric(
        "Decile error", Style.PERCENT, Better.LOWER, "mean relative error of the ten groups' expected spend"
    ),
    "decile_wape": Metric(
        "Decile error, weighted", Style.PERCENT, Better.LOWER, "the ten groups' errors, by their total spend"
    ),
    "total_bias": Metric(
        "Total bias", Style.PERCENT, Better.ZERO, "expected total above (+) or below (−) the real one"
    ),
    "lift_at_10_percent": Metric(
        "Lift at 10%",
        Style.PLAIN,
        Better.HIGHER,
        "mean spend of the tenth ranked highest, by that of everyone",
    ),
    "auc": Metric(
        "AUC", Style.SHARE_3, Better.HIGHER, "chance that a yes is scored above a no; 0.5 is a coin"
    ),
    "ece": Metric(
        "ECE", Style.SHARE_3, Better.LOWER, "calibration error: mean gap of promised and real share"
    ),
    "brier": Metric("Brier", Style.SHARE_3, Better.LOWER, "mean squared error of the probability"),
    "coverage90": Metric(
        "Coverage of 90%",
        Style.PERCENT,
        Better.NEITHER,
        "how often the real spend lay in the interval that should hold nine in ten; 90% is right",
    ),
    "coverage50": Metric(
        "Coverage of 50%", Style.PERCENT, Better.NEITHER, "the same of the middle half; 50% is right"
    ),
    "pit_ks": Metric(
        "PIT distance",
        Style.SHARE_3,
        Better.NEITHER,
        "largest gap between promised and real shares below a quantile; 0 is right",
    ),
    "expected_mean": Metric("Expected, mean", Style.MONEY, Better.NEITHER),
    "actual_mean": Metric("Real, mean", Style.MONEY, Better.NEITHER),
    "expected_return": Metric("Expected to return", Style.PERCENT, Better.NEITHER),
    "actual_return": Metric("Returned", Style.PERCENT, Better.NEITHER),
    "coverage": Metric(
        "Coverage", Style.PERCENT, Better.NEITHER, "share of the catalogue in at least one list"
    ),
    "ild": Metric(
        "Diversity", Style.SHARE_3, Better.NEITHER, "intra-list: mean distance of two items in a list"
    ),
    "novelty": Metric(
        "Novelty", Style.PLAIN, Better.NEITHER, "bits of surprise of an item: −log2 of its popularity"
    ),
    "exposure_gini": Metric(
        "Exposure Gini", Style.SHARE_3, Better.NEITHER, "0: every item shown equally often; 1: one item only"
    ),
}

_MODELS = {
    "aurm": "AURM",
    "most_popular": "Most popular",
    "most_popular_30d": "Most popular, 30 days",
    "repeat_purchase": "Repeat purchases",
    "ease": "EASE",
    "item_knn": "Item-kNN",
    "past_spend": "Past spend",
    "bg_nbd": "BG/NBD",
    "bg_nbd_gamma_gamma": "BG/NBD + Gamma-Gamma",
    "gbm": "Boosted trees",
}

_SHORT_MODELS = {
    "most_popular": "popular",
    "most_popular_30d": "popular 30d",
    "repeat_purchase": "repeats",
    "bg_nbd_gamma_gamma": "BG/NBD+GG",
}

_CURVES = {
    "loss": "Loss, weighted sum of its parts",
    "items": "Loss of the next items",
    "spend": "Loss of the spend",
    "retention": "Loss of the time until return",
    "conversion": "Loss of the conversion",
    "gini": "Gini of the spend",
    "temperature": "Temperature of the item scores",
}

_VIEWS = {
    "all": "all items",
    "not_yet_bought": "items not yet bought",
    "cold_items": "new items",
    "cold_users": "new users",
}

VIEW_MEANINGS = {
    "all": "Every item counts, bought before or not.",
    "not_yet_bought": "Only items this user had not bought before count: what repeats cannot explain.",
    "cold_items": "Only items first seen after the cut count: nobody had bought them in training. "
    "They are ranked among themselves, and popularity is near zero there by construction.",
    "cold_users": "Users without any history at the cut.",
}


def humanise(name: str) -> str:
    """`split_hash` -> `Split hash`; `window_days` -> `Window, days`; `num_users` -> `Users`."""
    bare = name.removeprefix("num_")
    for unit in ("days", "s"):
        if bare.endswith(f"_{unit}"):
            bare = f"{bare.removesuffix(f'_{unit}')}, {unit}"
    words = bare.replace("_", " ").replace("/", ", ").strip()
    return words[:1].upper() + words[1:]


def metric(name: str) -> Metric:
    """Words for `ndcg@10` and the like; an unknown metric is shown plainly and judged neither way."""
    base, at, k = name.partition("@")
    found = _METRICS.get(base)
    if found is None:
        return Metric(humanise(name), Style.PLAIN, Better.NEITHER)
    return Metric(found.label + at + k, found.style, found.better, found.meaning)


def metric_order(name: str) -> tuple[str, int]:
    """Sort key: the cut-off first (all @10 before all @50), then the order of the list above."""
    base, _, k = name.partition("@")
    known = list(_METRICS)
    return k.zfill(6), known.index(base) if base in known else len(known)


def stage_label(stage: str) -> str:
    """Who a training curve is about: `val` -> `validation`."""
    return {"train": "training", "val": "validation", "validation": "validation"}.get(stage) or humanise(
        stage
    )


def curve_label(name: str) -> str:
    """What a training curve measures: `ndcg@10/all` -> `NDCG@10, all items`."""
    measured, _, view = name.partition("/")
    words = _CURVES.get(measured) or metric(measured).label
    return f"{words}, {view_label(view)}" if view else words


def model_label(name: str) -> str:
    return _MODELS.get(name) or humanise(name)


def model_in_text(name: str) -> str:
    """The label inside a sentence: `EASE`, `item-kNN`, `repeat purchases`."""
    label = model_label(name)
    return label if label[:2].isupper() else label[:1].lower() + label[1:]


def short_model_label(name: str) -> str:
    return _SHORT_MODELS.get(name) or model_label(name)


def days_label(part: str) -> str:
    """`30d` -> `30 days`; anything else is returned in words."""
    number = part.removesuffix("d")
    if not number.isdigit():
        return humanise(part)
    return f"{number} day" if number == "1" else f"{number} days"


def view_label(view: str) -> str:
    return _VIEWS.get(view) or humanise(view).lower()


def view_title(view: str) -> str:
    return humanise(view_label(view))


def group_label(group: tuple[str, ...]) -> str:
    """`("ranking", "all")` -> `Ranking, all items`; `("value", "90d")` -> `Value, 90 days`."""
    head, *rest = group
    if head == "beyond":
        return "Beyond accuracy"
    words = [view_label(part) if head == "ranking" else days_label(part) for part in rest]
    return ", ".join([humanise(head), *words])
