"""Profiles and drift worked out by hand, and the page that shows them."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from recsys.schema import Table
from spark_jobs import drift, job
from spark_jobs.drift import profile, psi, verdict
from spark_jobs.gate import QualityError
from spark_jobs.quality import FAILED_PAGE
from tests.spark_jobs import shop


def rows(spark: Any, values: list[float | None], kinds: list[str]) -> Any:
    return spark.createDataFrame(list(zip(values, kinds, strict=True)), "value double, event_type string")


def test_psi_by_hand() -> None:
    assert psi([50, 50], [50, 50]) == 0
    expected = (0.8 - 0.5) * math.log(0.8 / 0.5) + (0.2 - 0.5) * math.log(0.2 / 0.5)
    assert psi([5, 5], [80, 20]) == pytest.approx(expected)
    assert 1 < psi([10, 0], [5, 5]) < math.inf
    assert [verdict(drift) for drift in (0.0, 0.1, 0.11, 0.25, 0.26)] == [
        *("stable", "stable", "moderate", "moderate", "major")
    ]


def test_a_profile_by_hand(spark: Any) -> None:
    values = [float(v) for v in range(1, 101)]
    found = profile(rows(spark, [*values, None], ["purchase"] * 60 + ["view"] * 36 + ["rare"] * 5))
    value, kind = found["value"], found["event_type"]
    assert (value["type"], value["rows"], value["missing"]) == ("double", 101, 1)
    assert value["distinct"] == pytest.approx(100, rel=0.1)
    assert [value["quantiles"][str(q)] for q in (0.0, 0.25, 0.5, 0.99, 1.0)] == [1, 25, 50, 99, 100]
    assert value["edges"] == [10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert value["cells"] == [1, *[10] * 10]
    assert kind["top"] == [["purchase", 60], ["view", 36]]  # five rows are too few to be listed
    assert kind["cells"] == [0, 60, 36, 5]
    assert "psi" not in value


def test_of_many_rows_some_are_looked_at_but_none_is_forgotten(
    spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "MOST_ROWS", 2000)
    values = [float(v) for v in range(1, 20_001)]
    found = profile(rows(spark, [*values, None], ["purchase"] * 20_000 + ["view"]))
    value, kind = found["value"], found["event_type"]
    assert (value["rows"], value["missing"], kind["top"]) == (20_001, 1, [["purchase", 20_000]])
    assert [value["quantiles"][str(q)] for q in (0.0, 1.0)] == [1, 20_000]
    assert value["quantiles"]["0.5"] == pytest.approx(10_000, rel=0.1)
    assert list(value["quantiles"]) == [str(q) for q in drift.QUANTILES]
    assert 1500 < sum(value["cells"]) == sum(kind["cells"]) < 2500


def test_what_hardly_any_row_has_is_told_though_none_was_drawn(
    spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "MOST_ROWS", 10)
    found = profile(rows(spark, [None] * 20_000 + [3.0], ["purchase"] * 20_001))
    assert found["value"]["quantiles"] == {str(q): 3.0 for q in drift.QUANTILES}
    assert found["value"]["edges"] == [3.0]


def test_drift_is_told_by_the_cells_of_the_version_before(spark: Any) -> None:
    values = [float(v) for v in range(1, 101)]
    before = profile(rows(spark, values, ["purchase"] * 50 + ["view"] * 50))
    same = profile(rows(spark, values, ["purchase"] * 50 + ["view"] * 50), before=before)
    assert [same[name]["psi"] for name in ("value", "event_type")] == [0, 0]
    moved = profile(rows(spark, [v * 2 for v in values], ["purchase"] * 80 + ["cart"] * 20), before=before)
    cells = [0, 5, 5, 5, 5, 5, 5, 5, 5, 5, 55]
    assert moved["value"]["psi"] == pytest.approx(psi([0, *[10] * 10], cells))
    assert moved["event_type"]["psi"] == pytest.approx(psi([0, 50, 50, 0], [0, 80, 0, 20]))
    assert moved["value"]["verdict"] == "major"


class Cells(HTMLParser):
    """The page's words, and whether its elements close."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag != "script"
        assert not {"src", "href"} & {name for name, _ in attrs}
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())


def words(path: Path) -> str:
    reader = Cells()
    reader.feed(path.read_text(encoding="utf-8"))
    assert not reader.open
    return " ".join(reader.words)


def test_the_page_tells_checks_reasons_and_drift(spark: Any, tmp_path: Path) -> None:
    bad = [shop.line("u1", "A", 40, price=-3.0, invoice="<b>", text="secret gift")]
    shop.write([*shop.regular_lines(), *bad], tmp_path / "raw.parquet")
    settings = shop.settings(tmp_path / "raw.parquet", tmp_path, quality={"min_rows": 10})
    told = words(job.build(settings, spark) / Table.QUALITY_PAGE)
    for expected in (
        "min_rows",
        "at least 10",
        "passed",
        "non_positive_price",
        '"unit_price":-3.0',
        "secret gift",
    ):
        assert expected in told
    shop.write(
        [
            *shop.regular_lines(),
            *[shop.line(f"n{n}", "A", 100, price=50.0, invoice=f"n{n}") for n in range(60)],
        ],
        tmp_path / "raw.parquet",
    )
    version = job.build(settings, spark)
    about = json.loads((version / Table.PROFILE).read_text())
    assert about["unit_price"]["verdict"] == "major"
    assert "major" in words(version / Table.QUALITY_PAGE)


@pytest.mark.slow
def test_a_gate_that_stops_leaves_a_page_and_drift_can_stop_it(spark: Any, tmp_path: Path) -> None:
    shop.write(shop.regular_lines(), tmp_path / "raw.parquet")
    job.build(shop.settings(tmp_path / "raw.parquet", tmp_path), spark)
    page = tmp_path / "features" / "shop" / FAILED_PAGE
    assert not page.exists()
    more = [shop.line(f"n{n}", "A", 100, price=50.0, invoice=f"n{n}") for n in range(60)]
    shop.write([*shop.regular_lines(), *more], tmp_path / "raw.parquet")
    with pytest.raises(QualityError, match=r"max_psi: .* maximum 0.25.*; see .*refused.html"):
        job.build(shop.settings(tmp_path / "raw.parquet", tmp_path, quality={"max_psi": 0.25}), spark)
    assert "max_psi" in words(page)
    assert "failed" in words(page)
    job.build(shop.settings(tmp_path / "raw.parquet", tmp_path, quality={"max_psi": 100.0}), spark)
    assert not page.exists()


def test_examples_of_data_that_is_not_public_name_nobody(spark: Any, tmp_path: Path) -> None:
    from spark_jobs.page import examples_of_reasons

    frame = spark.createDataFrame(
        [("bad", "key", "A", "order", "my words", "FR", 2.0)] * 5,
        "reason string, user_key string, item_id string, order_id string, text string,"
        " profile__country string, value double",
    )
    (private,) = examples_of_reasons(frame, public=False)["bad"]
    assert json.loads(private) == {"item_id": "A", "value": 2.0}
    (public,) = examples_of_reasons(frame, public=True)["bad"]
    assert set(json.loads(public)) == {"item_id", "order_id", "text", "profile__country", "value"}
