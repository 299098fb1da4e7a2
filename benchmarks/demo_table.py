"""The table of figures in README.md, as Markdown, from a run's metrics.json: python -m benchmarks.demo_table

`make demo` makes outputs/demo/metrics.json; another run's file is named as the argument.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROWS = (
    ("NDCG@10, all items", "ranking/all/ndcg@10", "repeat_purchase"),
    ("NDCG@10, items not yet bought", "ranking/not_yet_bought/ndcg@10", "ease"),
    ("NDCG@10, new items", "ranking/cold_items/ndcg@10", "most_popular"),
    ("NDCG@10, new users", "ranking/cold_users/ndcg@10", "most_popular"),
    ("Gini of 90-day spend", "value/90d/gini", "past_spend"),
    ("Gini of 90-day spend", "value/90d/gini", "bg_nbd_gamma_gamma"),
    ("Gini of 90-day spend", "value/90d/gini", "gbm"),
    ("Decile error of 90-day spend", "value/90d/decile_mape", "gbm"),
    ("Total bias of 90-day spend", "value/90d/total_bias", "past_spend"),
    ("Total bias of 90-day spend", "value/90d/total_bias", "gbm"),
    ("90-day retention AUC", "retention/90d/auc", "bg_nbd"),
    ("90-day retention AUC", "retention/90d/auc", "gbm"),
)
NAMES = {
    "repeat_purchase": "repeat purchases",
    "ease": "EASE",
    "most_popular": "most popular",
    "past_spend": "past spend",
    "bg_nbd_gamma_gamma": "BG/NBD + Gamma-Gamma",
    "bg_nbd": "BG/NBD",
    "gbm": "GBM on RFM",
}


def cell(figure: dict[str, float], *, signed: bool = False, percent: bool = False) -> str:
    def shown(number: float, *, sign: bool = False) -> str:
        if percent:
            return f"{100 * number:+.1f}" if sign else f"{100 * number:.1f}"
        return f"{number:+.3f}" if sign else f"{number:.3f}"

    unit = " %" if percent else ""
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    return f"{shown(value, sign=signed)}{unit} [{shown(low)}, {shown(high)}]"


def table(metrics: dict[str, Any]) -> list[str]:
    """Lines of Markdown; of biases, the difference of sizes; then what a perfect predictor would show."""
    figures, protocol = metrics["figures"], metrics["protocol"]
    cut = str(protocol["cut"])[:10]
    lines = [
        f"| Online Retail, {protocol['scored_at']} cut {cut} | AURM | best baseline | difference, paired |",
        "|---|---|---|---|",
    ]
    for label, name, baseline in ROWS:
        percent = name.endswith(("bias", "mape"))
        own, other = (cell(figures[f"{name}/{who}"], percent=percent) for who in ("aurm", baseline))
        paired = cell(figures[f"{name}/aurm_minus_{baseline}"], signed=True, percent=percent)
        lines.append(f"| {label} | {own} | {NAMES[baseline]} {other} | {paired} |")
    floors = [
        f"{words} {cell(figures[f'value/90d/{metric}/floor'], percent=True)}"
        for words, metric in (("a decile error of", "decile_mape"), ("a bias of", "total_bias"))
    ]
    return [*lines, "", f"A perfect predictor would show {' and '.join(floors)} over these 90 days."]


def main() -> None:
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/demo/metrics.json")
    print("\n".join(table(json.loads(path.read_text()))))


if __name__ == "__main__":
    main()
