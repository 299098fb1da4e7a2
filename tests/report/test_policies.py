"""The dial, the off-policy panel and the loop: every number in its own words, reasons in full."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from recsys.report.page import render
from recsys.report.policies import front_table, gain_text, loop_table, loop_values, meanings, panel
from recsys.report.policy_plots import front_plot, gains_plot, loop_plot
from tests.report.sample import dial_front, loop_rounds, off_policy, sample_report


def section(**changes: Any) -> str:
    """The visible text of the section, spaces made one."""
    page = render(sample_report(**changes))
    part = page[page.index('<section id="policies">') : page.index('<section id="beyond">')]
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", part)))


def test_the_front_marks_its_default_and_tells_each_gain_with_its_bound() -> None:
    table = front_table(dial_front(), currency="£")
    assert table is not None
    assert [row.hint for row in table.rows] == ["", "", "default", ""]
    row = dict(zip(table.header[1:], table.rows[2].cells, strict=True))
    assert (row["NDCG lost"].text, row["NDCG lost"].small) == ("2.0%", "1.6% to 2.4%")
    assert (row["Gain, 1,000 slots"].text, row["Gain, 1,000 slots"].small) == ("+£1.10", "+£0.800 to +£1.40")
    assert row["At least"].text == "+£0.850"
    assert [cell.text for cell in table.rows[0].cells[-2:]] == ["–", "–"]  # nothing over itself


def test_gains_are_told_for_a_thousand_slots() -> None:
    assert gain_text(-0.0000208, currency="$") == "−$0.0208"
    assert gain_text(0.5, currency="GBP") == "+GBP 500"
    assert gain_text(1e-14, currency="$") == "$0"
    assert gain_text(None, currency="$") == "–"


def test_the_plot_is_of_gains_where_there_are_any_and_of_value_elsewhere() -> None:
    found = front_plot(dial_front(), currency="£")["data"][0]
    assert found["y"] == [0.0, 0.4, 1.1, 1.2]
    assert found["x"] == [0.05 * dial for dial in (0, 0.2, 0.4, 0.8)]
    assert found["marker"]["symbol"] == ["circle", "circle", "diamond", "circle"]
    bare = dial_front()
    bare["front"] = [{**row, "gain": None, "gain_lower": None} for row in bare["front"]]
    found = front_plot(bare, currency="£")
    assert found["data"][0]["y"] == [row["value@10"] for row in bare["front"]]
    assert "error_y" not in found["data"][0]
    assert found["layout"]["yaxis"]["title"]["text"] == "value@10"


def test_a_refused_gain_says_why_and_what_the_default_is_then() -> None:
    refused = dial_front() | {"default": 0.0, "refused": "no impressions were handed back"}
    refused["front"] = [{**row, "gain": None, "gain_lower": None} for row in refused["front"]]
    text = section(dial=refused)
    assert "No estimate of the gain no impressions were handed back." in text
    assert "The default dial is then 0.0" in text
    assert "NDCG lost against value@10" in text


def test_a_bundle_without_critic_has_a_line_and_no_table() -> None:
    text = section(dial={"front": [], "default": 0.0, "refused": "this bundle has no critic"})
    assert "this bundle has no critic." in text
    assert "Coverage@10" not in text


def test_the_panel_names_every_estimate_and_explains_it() -> None:
    found = panel(off_policy()[0], currency="£")
    assert found.table is not None
    labels = [row.label for row in found.table.rows]
    assert labels == ["DM", "IPS", "SNIPS", "DR", "SNDR", "Switch-DR", "DR, shrunk", "IPS, clipped"]
    assert [name for name, _ in meanings(off_policy())] == labels
    dr = dict(zip(found.table.header[1:], found.table.rows[3].cells, strict=True))
    assert (dr["Value a slot"].text, dr["Value a slot"].small) == ("£4.33", "£4.17 to £4.49")
    assert dr["Gain, 1,000 slots"].text == "+£1.10"
    assert dr["At least: Student's t"].text == "+£0.848"
    assert found.table.rows[-1].cells[1].text == "at least −£900"
    assert found.refused == ()


def test_a_refused_panel_gives_the_reason_and_the_overlap_but_no_estimate() -> None:
    found = panel(off_policy()[1], currency="£")
    assert found.table is None
    assert found.refused[0].startswith("the effective sample is 2.55%")
    facts = dict(found.facts)
    assert facts["Effective sample"].startswith("412 slots, 2.5% of the log")
    assert facts["Mean weight"].startswith("1.001 ± 0.004")
    assert facts["Never shown"].startswith("1.4%")
    assert "2,000 of the 12,345 slates" in found.about


def test_a_panel_that_was_never_looked_at_is_its_reason_alone() -> None:
    found = panel({"policy": "own", "dial": 0.0, "refused": ["there is no log"]}, currency="")
    assert (found.refused, found.facts, found.table) == (("there is no log",), (), None)


def test_few_users_are_not_told_apart() -> None:
    small = off_policy()[1]
    small["overlap"] = {**small["overlap"], "num_users": 9}
    assert panel(small, currency="£").facts == (("Users", "<10 people"),)


def test_the_direct_method_stays_out_of_the_plot() -> None:
    found = gains_plot(off_policy()[0], currency="£")["data"][0]
    assert found["y"] == ["DR, shrunk", "Switch-DR", "SNDR", "DR", "SNIPS", "IPS"]
    assert found["marker"]["color"].index("var:--own") == 3


def test_the_loop_sets_policies_beside_the_reference_and_the_best_oracle() -> None:
    rounds = loop_rounds()
    values = loop_values(rounds[0])
    assert list(values) == [
        *("AURM, dialled", "AURM, mixed only", "AURM, accuracy"),
        *("Myopic reference", "Best oracle of value"),
    ]
    assert values["Best oracle of value"] == 12.4
    table = loop_table(rounds, currency="$")
    row = dict(zip(table.header[1:], table.rows[1].cells, strict=True))
    assert row["Dial, by seed"].text == "0.2, 0.4"
    assert row["AURM, dialled"].text == "$9.70"
    assert row["Dialled over accuracy"].small == "+$0.35 to +$0.45"
    assert row["Dialled over the reference"].note == "−22.0% of the attainable (−27.0% to −17.0%)"
    lines = loop_plot(rounds, currency="$")["data"]
    assert [line["name"] for line in lines] == list(values)
    assert lines[3]["y"] == [10.2, 10.2, 10.2]


def test_there_is_no_share_of_what_may_be_nothing() -> None:
    (row, *_) = loop_rounds()
    row["figures"]["attainable"] = {"value": -0.2, "low": -0.6, "high": 0.3}
    cells = loop_table([row], currency="$").rows[0].cells
    assert cells[-1].note == "no share: nothing may be attainable"
    assert cells[-1].text == "−$0.80"


def test_a_round_that_lacks_figures_shows_them_as_missing() -> None:
    bare = {"world": "w", "round": 1, "seeds": [], "dials": [], "values": {"dialled": 1.0}, "figures": {}}
    table = loop_table([bare], currency="$")
    assert [cell.text for cell in table.rows[0].cells] == ["–", "$1.00", "–", "–"]


def test_the_section_is_there_as_a_whole() -> None:
    text = section()
    for words in (
        *("The front of the dial", "The policy that logged, tilted by the dial", "This bundle's own policy"),
        *("Refused the effective sample is 2.55%", "Default: true value by round", "doubly robust"),
    ):
        assert words in text
