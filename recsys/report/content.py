"""What a report holds. The evaluation fills it, the page and the terminal summary read it.

A figure is `{"value", "low", "high"}`, named `<group>/<metric>/<model>` where the group is one of

    ranking/<view>    view in all, not_yet_bought, cold_items, cold_users
    value/<days>d     retention/<days>d     conversion/<days>d     beyond

A paired difference takes the model's place: `ranking/all/ndcg@10/aurm_minus_ease`; of a bias, the
difference of the two sizes. So does `floor`: mean, 5th and 95th percentile of what a perfect predictor would
show. A figure may carry `n`, the number of people behind it; below ten it is withheld. Without `low` and
`high` no interval is shown. `groups/<days>d/<by>/<group>/<metric>/<model>` are in `value_groups` as well.
A note that starts with `value` or `retention` ("value parts are off: ...") also stands in that section when
the section has nothing else to show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OWN_MODEL = "aurm"
FLOOR = "floor"

Row = Mapping[str, Any]

# Keys every row of a field must have; what else a row may carry is told beside the field.
_REQUIRED_KEYS: dict[str, tuple[str, ...]] = {
    "spend_curve": ("horizon_days", "predicted_mean", "actual_mean"),
    "retention_curve": ("day", "predicted", "actual"),
    "coverage_curve": ("k", "model", "share"),
    "cohort_curves": ("cohort", "n", "spend", "retention"),
    "value_groups": ("by", "group", "horizon_days", "n", "hidden", "figures"),
    "off_policy": ("policy", "dial", "refused"),
    "loop": ("world", "round", "seeds", "dials", "values", "figures"),
    "examples": ("label", "history", "recommendations"),
    "verdicts": ("claim", "met", "detail"),
}
_DECILE_KEYS = ("n", "predicted", "actual")


@dataclass(frozen=True, kw_only=True)
class Report:
    """One evaluation, ready to be shown.

    Raises:
        ValueError: a figure without `value`, or a row without one of its keys.
    """

    title: str
    dataset: str
    created_at: str
    protocol: Mapping[str, object] = field(default_factory=dict)
    figures: Mapping[str, Row] = field(default_factory=dict)
    # name -> (step, value) pairs; those that differ in the first part share a plot: train/loss, val/loss
    training_curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    # horizon in days -> rows from the lowest predicted tenth to the highest; means per person in money;
    # low and high: between what means nine in ten perfect predictors would see this tenth
    decile_tables: Mapping[int, Sequence[Row]] = field(default_factory=dict)
    spend_curve: Sequence[Row] = ()  # money per person; may carry n
    retention_curve: Sequence[Row] = ()  # shares of people active again by that day; may carry n
    # horizon in days -> people in each of equally wide bins of the predictive law's PIT, 0 .. 1
    pit_histograms: Mapping[int, Sequence[int]] = field(default_factory=dict)
    cohort_curves: Sequence[Row] = ()  # spend and retention: rows as in the two curves above
    # figures: {metric: {value, low, high}}, none where `hidden` says why
    value_groups: Sequence[Row] = ()
    # `evaluation.dial.dial_front`: front (rows), default, refused; nothing where no dial was judged
    dial: Row = field(default_factory=dict)
    # panels of `policy.off_policy.panel` with `policy`, `dial` and `refused` (`evaluation.off_policy`)
    off_policy: Sequence[Row] = ()
    loop: Sequence[Row] = ()  # a world and round each, as `evaluation.loop` reads them
    coverage_curve: Sequence[Row] = ()  # share of the catalogue in anyone's top k
    # history: {date, item, value}; recommendations: {item, score, hit}; value: {days: {expected, actual}};
    # retention_<days>d: probability
    examples: Sequence[Row] = ()
    data_is_public: bool = False  # examples are single people: shown only where this is true
    notes: Sequence[str] = ()
    verdicts: Sequence[Row] = ()
    currency: str = ""  # a symbol (£) or a code (GBP)
    confidence: float = 0.95  # of every interval

    def __post_init__(self) -> None:
        for name, figure in self.figures.items():
            _require(figure, ("value",), where=f"figures[{name!r}]")
        for field_name, keys in _REQUIRED_KEYS.items():
            for index, row in enumerate(getattr(self, field_name)):
                _require(row, keys, where=f"{field_name}[{index}]")
        for horizon_days, rows in self.decile_tables.items():
            for index, row in enumerate(rows):
                _require(row, _DECILE_KEYS, where=f"decile_tables[{horizon_days!r}][{index}]")


def _require(row: Row, keys: Sequence[str], *, where: str) -> None:
    missing = [key for key in keys if key not in row]
    if missing:
        raise ValueError(f"report.{where} lacks {', '.join(missing)}")
