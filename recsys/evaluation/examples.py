"""A few users as a person would look at them; only for data declared public."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np

from recsys.data.tables import FeatureTables
from recsys.evaluation.evaluate import Evaluation
from recsys.evaluation.ranking import OWN_MODEL
from recsys.schema import PAD


def example_users(
    evaluation: Evaluation, *, tables: FeatureTables, split: str, num_users: int = 4
) -> list[dict[str, Any]]:
    """Users spread over the range of history lengths: history, recommendations with hits, value."""
    view = evaluation.ranked.views[0]
    if not len(view.rows):
        return []
    lengths = evaluation.table.prefix_length[view.rows]
    quantiles = np.linspace(0.2, 0.9, num_users)
    picks = np.argsort(lengths, kind="stable")[(quantiles * (len(lengths) - 1)).astype(int)]
    text = tables.items(split).text
    return [_example(evaluation, tables, text, int(pick), chr(65 + k)) for k, pick in enumerate(picks)]


def _example(
    evaluation: Evaluation, tables: FeatureTables, text: np.ndarray, pick: int, letter: str
) -> dict[str, Any]:
    view, table, flat = evaluation.ranked.views[0], evaluation.table, tables.histories
    row = int(view.rows[pick])
    first = int(flat.offsets[table.user_index[row] - 1])
    end = first + int(table.prefix_length[row])
    events = range(max(first, end - 12), end)
    targets = set(view.targets.row(pick).tolist())
    ranked = evaluation.ranked.ranked[view.name][OWN_MODEL][pick, :10]
    scores = evaluation.ranked.own_score[view.name][pick, :10]
    example: dict[str, Any] = {
        "label": f"user {letter} ({table.prefix_length[row]:,} events)",
        "history": [
            {
                "date": _date(int(flat.timestamp[e])) if tables.metadata["has_time"] else "",
                "item": str(text[flat.item_index[e]]) if flat.item_index[e] != PAD else "(no item)",
                "value": float(flat.value[e]),
            }
            for e in reversed(events)
        ],
        "recommendations": [
            {"item": str(text[item]), "score": float(score), "hit": int(item) in targets}
            for item, score in zip(ranked, scores, strict=True)
            if item
        ],
    }
    estimates = evaluation.estimates
    if estimates.spend_UH is not None and np.isfinite(table.spend[row]).all():
        example["value"] = {
            days: {"expected": float(estimates.spend_UH[row, h]), "actual": float(table.spend[row, h])}
            for h, days in enumerate(tables.horizons_days)
        }
    return example


def _date(timestamp: int) -> str:
    return datetime.datetime.fromtimestamp(timestamp, datetime.UTC).strftime("%Y-%m-%d")
