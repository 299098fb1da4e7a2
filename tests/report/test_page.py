"""The page loads nothing from outside, escapes what it is given and holds together when parts are missing."""

from __future__ import annotations

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from recsys.report import page
from recsys.report.content import Report
from recsys.report.page import render, write_report
from tests.report.sample import cohorts, deciles, people, ranking_figures, sample_report, value_figures

MAX_BYTES = 6_000_000


class PageReader(HTMLParser):
    """Collects what a page asks a browser to load, its visible text, and its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.styles: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.ids: list[str] = []
        self.text = ""
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        if "id" in given:
            self.ids.append(given["id"] or "")
        self.loads += [
            value or ""
            for name, value in attrs
            if name in ("src", "href", "srcset", "data", "action", "poster")
        ]
        if tag in ("script", "style"):
            self._open.append((tag, given))

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1][0] == tag:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if not self._open:
            self.text += data
        elif self._open[-1][0] == "style":
            self.styles.append(data)
        else:
            self.scripts.append((self._open[-1][1], data))

    def plots(self) -> dict[str, Any]:
        (found,) = [text for attrs, text in self.scripts if attrs.get("id") == "plots"]
        loaded: dict[str, Any] = json.loads(found)
        return loaded


def minimal_report(**changes: Any) -> Report:
    content: dict[str, Any] = {"title": "Empty", "dataset": "nothing", "created_at": "today"}
    return Report(**{**content, **changes})


@pytest.fixture(scope="module")
def full() -> tuple[str, PageReader]:
    text = render(sample_report())
    return text, PageReader(text)


def test_the_page_loads_nothing_from_outside(full: tuple[str, PageReader]) -> None:
    text, reader = full
    assert reader.loads
    assert all(target.startswith("#") for target in reader.loads), reader.loads
    assert not {"link", "iframe", "object", "embed", "img", "base"} & set(reader.tags)
    assert all("url(" not in style and "@import" not in style for style in reader.styles)
    assert "default-src 'none'" in text


def test_every_link_and_plot_has_its_target(full: tuple[str, PageReader]) -> None:
    text, reader = full
    assert {target.removeprefix("#") for target in reader.loads} <= set(reader.ids)
    plots = reader.plots()
    # views, deciles, spend, retention, coverage, training, PIT, cohorts twice, dial, panel, loop
    assert len(plots) == 4 + 2 + 1 + 1 + 1 + 3 + 2 + 2 * 5 + 3
    assert all(f'data-plot="{plot_id}"' in text for plot_id in plots)


def test_the_page_is_small_enough_and_shows_the_figures(full: tuple[str, PageReader]) -> None:
    text, reader = full
    assert len(text.encode()) < MAX_BYTES
    for words in ("0.0874", "0.0826 to 0.0922", "BG/NBD + Gamma-Gamma", "£1,310", "3,376", "user C"):
        assert words in reader.text


def test_everything_handed_in_is_escaped() -> None:
    bad = '</script><script>alert("x")</script><img src="http://evil.example/x.png">'
    report = sample_report(
        title=bad,
        dataset=bad,
        created_at=bad,
        currency=bad,
        protocol={bad: bad, "nested": {bad: [bad]}},
        figures={f"ranking/all/ndcg@10/{bad.replace('/', '')}": {"value": 0.1, "low": 0.0, "high": 0.2}},
        training_curves={bad: [(1, 2.0)]},
        coverage_curve=[{"k": 1, "model": bad, "share": 0.5}],
        examples=[
            {"label": bad, "history": [{"date": bad, "item": bad}], "recommendations": [{"item": bad}]}
        ],
        notes=[bad],
        verdicts=[{"claim": bad, "met": False, "detail": bad}],
    )
    clean, attacked = PageReader(render(sample_report())), PageReader(render(report))
    assert "img" not in attacked.tags
    assert attacked.tags.count("script") == clean.tags.count("script")
    assert bad in attacked.text  # shown as text
    names = [trace.get("name", "") for plot in attacked.plots().values() for trace in plot["data"]]
    assert any("&lt;img" in name for name in names)
    assert not any("<img" in name for name in names)  # plotly would read it


def test_without_money_the_note_stands_where_value_would() -> None:
    note = "value parts are off: the data set has no money"
    report = sample_report(figures=ranking_figures(), decile_tables={}, spend_curve=[], notes=[note])
    text = render(report)
    section = text[text.index('<section id="value">') : text.index('<section id="retention">')]
    assert note in section
    assert "Calibration by tenths" not in section


def test_an_empty_report_is_a_page() -> None:
    reader = PageReader(render(minimal_report()))
    assert reader.plots() == {}
    assert reader.text.count("This report has no") == 9


@pytest.mark.parametrize(
    "part",
    [
        *("protocol", "figures", "training_curves", "decile_tables", "spend_curve", "retention_curve"),
        *("coverage_curve", "examples", "notes", "verdicts"),
        *("pit_histograms", "cohort_curves", "value_groups", "dial", "off_policy", "loop"),
    ],
)
def test_each_part_can_be_missing_or_alone(part: str) -> None:
    full_report = sample_report()
    empty: Any = {} if isinstance(getattr(full_report, part), dict) else []
    assert "</html>" in render(sample_report(**{part: empty}))
    assert "</html>" in render(minimal_report(**{part: getattr(full_report, part)}))


def test_values_that_are_not_numbers_are_shown_as_missing() -> None:
    nan = float("nan")
    report = sample_report(
        figures={"ranking/all/ndcg@10/aurm": {"value": nan, "low": nan, "high": None}},
        training_curves={"val/loss": [(1, nan), (2, float("inf")), (3, 1.0)]},
        spend_curve=[{"horizon_days": 30, "predicted_mean": None, "actual_mean": nan}],
        loop=[],
    )
    reader = PageReader(render(report))
    assert "nan" not in reader.text.lower()
    curves = [
        trace["y"] for plot in reader.plots().values() for trace in plot["data"] if trace["x"] == [1, 2, 3]
    ]
    assert curves == [[None, None, 1.0]]


def test_small_cells_are_in_neither_table_nor_plot() -> None:
    rows = deciles(30)
    rows[9] = {"n": 9, "predicted": 87654.0, "actual": 98765.0}
    rows[3] = {"n": 7, "predicted": 76543.0, "actual": 65432.0}
    retention = [{"day": 30, "predicted": 0.4321, "actual": 0.5678, "n": 3}]
    figures = {**value_figures(), "ranking/cold_users/ndcg@10/aurm": {"value": 0.9753, "n": 4}}
    protocol = {"num_users": {"all": 3000, "cold_users": 4}}
    text = render(
        sample_report(decile_tables={30: rows}, retention_curve=retention, figures=figures, protocol=protocol)
    )
    reader = PageReader(text)
    assert (
        reader.text.count("<10 people") == 2 + 2 + 2 + 1 + 2
    )  # deciles, curve, headline and table, protocol, two tables of groups
    for secret in ("87654", "87,654", "98765", "98,765", "76543", "65,432", "0.4321", "43.2%", "0.9753"):
        assert secret not in text.replace(page_script(reader), "")


def page_script(reader: PageReader) -> str:
    """The plotly bundle, which holds many digits of its own."""
    return max((text for _, text in reader.scripts), key=len)


def test_examples_are_shown_for_public_data_only() -> None:
    private = PageReader(render(sample_report(data_is_public=False)))
    assert "user A" not in private.text
    assert "REGENCY CAKESTAND" not in private.text
    assert "declared public" in private.text
    public = PageReader(render(sample_report(examples=people()[:1])))
    assert "user A" in public.text
    assert "2 of 5 came true" in public.text


def test_challengers_are_judged_one_by_one(full: tuple[str, PageReader]) -> None:
    text = full[1].text
    assert "Who is better" in text
    assert "AURM worse: −0.014 (−0.025 to −0.004)" in text  # the boosted trees' Gini
    assert "AURM better: +0.020 (+0.008 to +0.033)" in text  # BG/NBD + Gamma-Gamma's
    assert "undecided: +2.0% (−2.0% to +6.0%)" in text  # past spend's bias, by its size


def test_the_floor_says_whether_the_model_can_be_told_from_a_perfect_one(
    full: tuple[str, PageReader],
) -> None:
    reader = full[1]
    assert "A perfect predictor" in reader.text
    assert "AURM is within" in reader.text
    error = [t for p in reader.plots().values() for t in p["data"] if "error_y" in t and t["name"] != "dial"]
    assert len(error) == 2  # the tenths of both horizons
    figures = {**value_figures(), "value/90d/total_bias/aurm": {"value": -0.3}}
    assert "AURM is above" in PageReader(render(sample_report(figures=figures))).text


def test_groups_of_few_people_have_a_name_and_nothing_else(full: tuple[str, PageReader]) -> None:
    text, reader = full
    for words in ("By country, 90 days", "France", "Norway", "withheld", "<10 people", "2011-02, 340 people"):
        assert words in reader.text
    row = text[text.index(">Norway") :]
    row = row[: row.index("</tr>")]
    assert set(re.findall(r"<span>(.*?)</span>", row)) == {"withheld", "–"}


def test_few_people_have_no_histogram() -> None:
    reader = PageReader(render(sample_report(pit_histograms={30: [3, 4]})))
    (bars,) = [t["y"] for p in reader.plots().values() for t in p["data"] if t.get("name") == "people"]
    assert bars == [None, None]


def test_of_many_cohorts_the_largest_have_plots() -> None:
    many = [{**cohorts()[0], "cohort": f"c{k}", "n": 100 + k} for k in range(15)]
    reader = PageReader(render(sample_report(cohort_curves=many)))
    assert "c14, 114 people" in reader.text
    assert "c3, 103 people" in reader.text
    assert "c2, 102 people" not in reader.text


def test_what_the_view_of_new_items_can_show_is_said(full: tuple[str, PageReader]) -> None:
    assert "ranked among themselves, and popularity is near zero there by construction" in full[1].text


def test_write_report_replaces_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "report.html"
    write_report(path=path, report=minimal_report(title="first"))
    assert "first" in path.read_text(encoding="utf-8")

    def full_disk(source: str, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_report(path=path, report=minimal_report(title="second"))
    assert "first" in path.read_text(encoding="utf-8")
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_the_template_ships_with_the_package() -> None:
    folder = Path(page.__file__).parent / "templates"
    assert {entry.name for entry in folder.iterdir()} == {
        "page.html.jinja",
        "policies.html.jinja",
        "page.js",
        "style.css",
    }


def test_rows_without_a_key_are_refused() -> None:
    with pytest.raises(ValueError, match=r"decile_tables\[30\]\[0\] lacks actual"):
        minimal_report(decile_tables={30: [{"n": 20, "predicted": 1.0}]})
    with pytest.raises(ValueError, match="lacks value"):
        minimal_report(figures={"ranking/all/hr@10/aurm": {"low": 0.1}})
    with pytest.raises(ValueError, match=r"verdicts\[0\] lacks met, detail"):
        minimal_report(verdicts=[{"claim": "x"}])
