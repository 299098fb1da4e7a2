"""The terminal table: aligned, within 100 columns, with yes and no."""

from __future__ import annotations

from recsys.report.summary import MAX_COLUMNS, summary_lines
from tests.report.sample import sample_report


def test_the_table_by_hand() -> None:
    figures = {
        "ranking/all/ndcg@10/aurm": {"value": 0.0421, "low": 0.039, "high": 0.0455},
        "ranking/all/ndcg@10/ease": {"value": 0.035, "low": 0.031, "high": 0.039},
        "ranking/all/ndcg@10/aurm_minus_ease": {"value": 0.0071, "low": 0.004, "high": 0.0101},
        "value/30d/gini/aurm": {"value": 0.6},
        "value/30d/gini/past_spend": {"value": 0.7},
        "value/30d/gini/aurm_minus_past_spend": {"value": -0.1, "low": -0.15, "high": -0.05},
    }
    verdicts = [{"claim": "AURM beats EASE", "met": True, "detail": "0.0421 against 0.0350"}]
    assert summary_lines(figures, verdicts=verdicts) == [
        "Figures beside the best baseline of each row, 95% intervals",
        "          AURM                   baseline                           AURM minus it           better",
        "Ranking, all items",
        " NDCG@10  0.0421 0.0390..0.0455  EASE        0.0350 0.0310..0.0390  +0.0071 0.0040..0.0101  yes",
        "Value, 30 days",
        " Gini     0.600                  Past spend  0.700                  -0.100 -0.150..-0.050   no",
        "",
        "Past spend is better than AURM on Gini 30 days; AURM is better on 0 figures, 0 are undecided",
        "",
        "yes  AURM beats EASE: 0.0421 against 0.0350",
    ]


def test_a_whole_report_fits_the_width() -> None:
    report = sample_report()
    lines = summary_lines(report.figures, verdicts=report.verdicts, currency=report.currency)
    assert max(map(len, lines)) <= MAX_COLUMNS
    header = lines[1]
    assert header.endswith("better")
    words = {line[header.index("better") :] for line in lines if line.startswith(" NDCG")}
    assert words == {"yes", "maybe"}


def test_small_groups_and_no_figures_at_all() -> None:
    lines = summary_lines({"ranking/cold_users/ndcg@10/aurm": {"value": 0.4321, "n": 3}})
    assert any("<10 people" in line for line in lines)
    assert not any("0.4321" in line for line in lines)
    assert summary_lines({}) == ["no figures"]
