"""Value figures of data that has no money or no purchases: what can be said is said, the rest has a note."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recsys.baselines.interactions import Interactions
from recsys.evaluation.value import Estimates, ValueResult, value_figures
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


def evaluated(*, kind: int | None = None, price: float = PAID, has_value: bool = False) -> ValueResult:
    """The made shop with every event of one kind (None: as they are), each worth `price` times as much."""
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
    return value_figures(
        table=shop.at_cut(split="test"),
        estimates=Estimates(
            spend_UH=np.sort(rng.random((shop.num_users, 2))) if has_value else None,
            return_UJ=np.sort(rng.random((shop.num_users, len(bins)))),
            conversion_U=rng.random(shop.num_users),
        ),
        horizons_days=shop.horizons_days,
        config=config,
        interactions=interactions(shop),
    )


def models(result: ValueResult, figure: str) -> set[str]:
    return {n.removeprefix(f"{figure}/") for n in result.figures if n.startswith(f"{figure}/")}


def groups(result: ValueResult) -> set[str]:
    return {name.split("/")[0] for name in result.figures}


def test_with_money_every_baseline_stands_beside_the_model() -> None:
    found = evaluated(has_value=True)
    beside = {f"aurm_minus_{name}" for name in ("past_spend", "bg_nbd_gamma_gamma")}
    assert models(found, "value/30d/gini") == {"aurm", "past_spend", "bg_nbd_gamma_gamma"} | beside
    assert models(found, "retention/7d/auc") == {"aurm", "bg_nbd", "aurm_minus_bg_nbd"}
    assert not found.notes


def test_purchases_without_money_keep_retention_and_conversion() -> None:
    found = evaluated(price=UNPAID)
    assert groups(found) == {"retention", "conversion"}
    for head in ("retention", "conversion"):
        assert models(found, f"{head}/7d/auc") == {"aurm", "bg_nbd", "aurm_minus_bg_nbd"}
    assert not found.spend_curve
    assert not found.notes


def test_views_alone_keep_retention_without_a_baseline() -> None:
    found = evaluated(kind=VIEW, price=UNPAID)
    assert groups(found) == {"retention"}
    assert models(found, "retention/7d/auc") == {"aurm"}
    assert len(found.retention_curve) == 5
    (note,) = found.notes
    assert note.startswith("retention and value stand without BG/NBD: BG/NBD needs customers with repeat")


def test_money_that_is_always_zero_leaves_gamma_gamma_out() -> None:
    found = evaluated(price=UNPAID, has_value=True)
    assert models(found, "value/30d/gini") == {"aurm", "past_spend", "aurm_minus_past_spend"}
    assert found.figures["value/30d/gini/aurm"]["value"] is None  # nobody spent more than another
    (note,) = found.notes
    assert note.startswith("value stands without Gamma-Gamma: Gamma-Gamma needs purchases with a positive")


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
