"""Value figures of data that has no money or no purchases: what can be said is said, the rest has a note."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recsys.baselines.boosted_trees import WatchedCuts
from recsys.baselines.interactions import Interactions
from recsys.evaluation.challengers import watched_cuts
from recsys.evaluation.value import Estimates, ValueResult, value_figures
from recsys.evaluation.value_groups import UserGroups
from recsys.nn.value_heads import ValueHeadsConfig
from recsys.report.content import Report
from recsys.report.page import write_report
from tests.data.shop import DAY, PURCHASE, VIEW, Shop, many_users

PAID, UNPAID = 1.0, 0.0


def interactions(shop: Shop) -> Interactions:
    past = [e for e in shop.events if e.day <= shop.test_day]
    is_purchase = np.array([e.kind == PURCHASE for e in past])
    return Interactions.from_events(
        row=np.array([e.user - 1 for e in past]),
        item_index=np.array([e.item for e in past]),
        timestamp=np.array([round(e.day * DAY) for e in past]),
        value=np.array([e.value if e.kind == PURCHASE else 0.0 for e in past]),
        is_target=is_purchase,
        is_purchase=is_purchase,
        num_users=shop.num_users,
        num_items=shop.num_items,
        cut=round(shop.test_day * DAY),
    )


def past(shop: Shop) -> WatchedCuts:
    """The shop's users at its two training cuts, four times over: trees want a hundred."""
    cuts = [shop.at_cut(split="train", cut=cut) for cut in shop.metadata["split"]["cuts"]["train"]]
    return watched_cuts(4 * cuts, shop.horizons_days, boundary=shop.cut("test"))


def evaluated(
    *,
    kind: int | None = None,
    price: float = PAID,
    has_value: bool = False,
    has_past: bool = True,
    draws_US: np.ndarray | None = None,
    cohorts: tuple[str, ...] = ("2024-01",),
) -> ValueResult:
    """The made shop with every event of one kind (None: as they are), each worth `price` times as much.

    Users are dealt to the cohorts in turn.
    """
    made = many_users()
    shop = Shop([e._replace(kind=kind or e.kind, value=e.value * price) for e in made.events], made.num_users)
    rng = np.random.default_rng(1)
    bins = (1, 3, 7, 14, 30)
    config = ValueHeadsConfig(
        width=8,
        num_heads=1,
        num_features=11,
        horizons_days=(7, 30),
        bin_ends_days=bins,
        log_spend=(0.0, 0.0),
        has_value=has_value,
    )
    cohort_U = np.array(cohorts)[np.arange(shop.num_users) % len(cohorts)]
    nobody = WatchedCuts(*(column[:0] for column in vars(past(shop)).values()))
    return value_figures(
        table=shop.at_cut(split="test"),
        estimates=Estimates(
            spend_UH=np.sort(rng.random((shop.num_users, 2))) if has_value else None,
            return_UJ=np.sort(rng.random((shop.num_users, len(bins)))),
            conversion_U=rng.random(shop.num_users),
            spend_draws=None if draws_US is None else np.repeat(draws_US[:, None], 2, axis=1),
        ),
        horizons_days=shop.horizons_days,
        config=config,
        interactions=interactions(shop),
        past=past(shop) if has_past else nobody,
        groups=UserGroups({"cohort": cohort_U}),
    )


def models(result: ValueResult, figure: str) -> set[str]:
    return {n.removeprefix(f"{figure}/") for n in result.figures if n.startswith(f"{figure}/")}


def groups(result: ValueResult) -> set[str]:
    return {name.split("/")[0] for name in result.figures} - {"groups"}


def test_with_money_every_baseline_stands_beside_the_model() -> None:
    found = evaluated(has_value=True)
    rivals = {"past_spend", "bg_nbd_gamma_gamma", "gbm"}
    beside = rivals | {f"aurm_minus_{name}" for name in rivals}
    for metric in ("gini", "spearman", "lift_at_10_percent"):
        assert models(found, f"value/30d/{metric}") == {"aurm"} | beside
    for metric in ("decile_mape", "total_bias"):
        assert models(found, f"value/30d/{metric}") == {"aurm", "floor"} | beside
    chance = {"aurm", "bg_nbd", "aurm_minus_bg_nbd", "gbm", "aurm_minus_gbm"}
    for figure in ("retention/7d/auc", "retention/30d/brier", "conversion/7d/ece"):
        assert models(found, figure) == chance
    assert not found.notes


def test_purchases_without_money_keep_retention_and_conversion() -> None:
    found = evaluated(price=UNPAID)
    assert groups(found) == {"retention", "conversion"}
    for head in ("retention", "conversion"):
        assert models(found, f"{head}/7d/auc") == {"aurm", "bg_nbd", "gbm"} | {
            "aurm_minus_bg_nbd",
            "aurm_minus_gbm",
        }
    assert not found.spend_curve
    assert not found.notes


def test_views_alone_keep_retention_without_bg_nbd() -> None:
    found = evaluated(kind=VIEW, price=UNPAID)
    assert groups(found) == {"retention"}
    assert models(found, "retention/7d/auc") == {"aurm", "gbm", "aurm_minus_gbm"}
    assert len(found.retention_curve) == 5
    (note,) = found.notes
    assert note.startswith("retention and value stand without BG/NBD: BG/NBD needs customers with repeat")


def test_money_that_is_always_zero_leaves_gamma_gamma_out() -> None:
    found = evaluated(price=UNPAID, has_value=True)
    rivals = {"past_spend", "gbm"}
    assert models(found, "value/30d/gini") == {"aurm"} | rivals | {f"aurm_minus_{name}" for name in rivals}
    assert found.figures["value/30d/gini/aurm"]["value"] is None  # nobody spent more than another
    (note,) = found.notes
    assert note.startswith("value stands without Gamma-Gamma: Gamma-Gamma needs purchases with a positive")


def test_without_earlier_cuts_the_trees_are_left_out() -> None:
    found = evaluated(has_value=True, has_past=False)
    assert models(found, "retention/7d/auc") == {"aurm", "bg_nbd", "aurm_minus_bg_nbd"}
    assert "gbm" not in models(found, "value/30d/gini")
    (note,) = found.notes
    assert note.startswith("retention and value stand without boosted trees: boosted trees need 100 users")


def test_the_difference_of_biases_is_that_of_their_sizes() -> None:
    found = evaluated(has_value=True).figures
    name = "value/30d/total_bias"
    own, rival = (found[f"{name}/{model}"]["value"] for model in ("aurm", "past_spend"))
    assert own is not None
    assert rival is not None
    assert own < 0 < rival  # so that the sizes and the signed difference are not the same
    assert found[f"{name}/aurm_minus_past_spend"]["value"] == pytest.approx(abs(own) - abs(rival))


def test_a_law_brings_coverage_and_its_histogram() -> None:
    num_users = many_users().num_users
    wide = np.tile(np.linspace(-1e6, 1e6, 200, dtype=np.float32), (num_users, 1))
    found = evaluated(has_value=True, draws_US=wide)
    assert found.figures["value/30d/coverage90/aurm"]["value"] == 1  # far too wide: all in the middle
    assert found.figures["value/30d/coverage50/aurm"]["value"] == 1
    assert 0.4 < (found.figures["value/30d/pit_ks/aurm"]["value"] or 0) <= 0.55
    assert sum(found.pit_histograms[30]) == found.figures["value/30d/gini/aurm"]["n"]
    without = evaluated(has_value=True)
    assert "value/30d/coverage90/aurm" not in without.figures
    assert not without.pit_histograms


def test_the_tenths_carry_the_range_of_a_perfect_predictor() -> None:
    rows = evaluated(has_value=True).decile_tables[30]
    assert len(rows) == 10
    assert all(row["low"] <= row["high"] for row in rows)


def test_cohorts_have_curves_and_figures_and_small_ones_are_put_together() -> None:
    found = evaluated(has_value=True, cohorts=("2024-01", "2024-01", "2024-02"))  # 14 and 7 users
    rows = {row["group"]: row for row in found.value_groups}
    assert set(rows) == {"2024-01", "others"}
    assert rows["others"]["hidden"] == "<10 people"
    assert rows["2024-01"]["hidden"] == "withheld"  # or the few could be found by subtraction
    assert not any(name.startswith("groups/") for name in found.figures)
    assert not found.cohort_curves

    whole = evaluated(has_value=True)
    (row,) = whole.value_groups
    name = "groups/30d/cohort/2024-01"
    assert whole.figures[f"{name}/gini/aurm"]["value"] == whole.figures["value/30d/gini/aurm"]["value"]
    assert row["figures"]["total_bias"]["value"] == whole.figures["value/30d/total_bias/aurm"]["value"]
    (curve,) = whole.cohort_curves
    assert curve["spend"] == whole.spend_curve  # one cohort is everybody
    assert curve["retention"] == whole.retention_curve


@pytest.mark.parametrize("kind", [None, VIEW])
def test_the_page_shows_what_there_is(tmp_path: Path, kind: int | None) -> None:
    found = evaluated(kind=kind, price=UNPAID)
    report = Report(
        title="shop",
        dataset="shop",
        created_at="2024-01-01",
        figures=found.figures,
        retention_curve=found.retention_curve,
        notes=found.notes,
    )
    write_report(path=tmp_path / "report.html", report=report)
    page = (tmp_path / "report.html").read_text()
    assert "Retention, 7 days" in page
    assert ("Conversion, 7 days" in page) == (kind is None)
    assert all(note in page for note in found.notes)
