"""The whole cycle twice on a small cut: what comes back changes the next tables, model and champion."""

from __future__ import annotations

import csv
import hashlib
import hmac
import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from recsys.schema import SECONDS_PER_DAY, Column, Impression, Outcome, Table
from tests import tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SECRET = "a key of this test's own"
# So few users decide nothing: whatever the second model is worth, it may take over.
LENIENT = (
    "rules.min_users=1",
    "rules.ndcg_relative_margin=1",
    "rules.gini_margin=2",
    "rules.max_abs_bias=1e9",
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny.write_raw(tmp_path / "raw.parquet")
    monkeypatch.setenv("RECSYS_HMAC_KEY", SECRET)
    return tmp_path


def build_tables(place: Path, *more: str) -> tuple[Path, dict[str, Any]]:
    overrides = (*tiny.TABLE_OVERRIDES, "dataset.events.path=raw.parquet", *more)
    tiny.run("-m", "spark_jobs", *overrides, cwd=place)
    version = (place / "features" / "online_retail" / Table.LATEST).resolve()
    return version, json.loads((version / Table.METADATA).read_text())


def recsys(place: Path, command: str, *overrides: str, code: int = 0) -> str:
    return tiny.run("-m", "recsys", command, *overrides, cwd=place, code=code).stdout


def recommend(place: Path, bundle: str) -> Path:
    output = f"outputs/{bundle}"
    recsys(place, "recommend", f"bundle={bundle}", f"output_dir={output}")
    return place / output / "impressions.parquet"


def write_outcomes(place: Path, impressions: Path, *, prefix: str) -> list[dict[str, Any]]:
    """Everyone buys what stood first on their slate, a day later. The platform knows raw ids only."""
    lines = pq.read_table(place / "raw.parquet")
    user_ids = {str(user) for user in lines["CustomerID"].drop_null().to_pylist()}
    key_to_id = {
        hmac.new(SECRET.encode(), user.encode(), hashlib.sha256).hexdigest(): user for user in user_ids
    }
    outcomes = [
        {
            Outcome.OUTCOME_ID: f"{prefix}{number}",
            Outcome.USER_ID: key_to_id[row[Impression.USER_KEY]],
            Outcome.ITEM_ID: row[Impression.ITEM_ID],
            Outcome.EVENT_TYPE: "purchase",
            Outcome.TIMESTAMP: row[Impression.TIMESTAMP] + SECONDS_PER_DAY,
            Outcome.VALUE: 12.5,
            Outcome.SLATE_ID: row[Impression.SLATE_ID],
        }
        for number, row in enumerate(pq.read_table(impressions).to_pylist())
        if row[Impression.SLOT] == 1
    ]
    with (place / f"{prefix}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, Outcome.FILE)
        writer.writeheader()
        writer.writerows(outcomes)
    return outcomes


def purchases(version: Path, timestamp: int) -> set[tuple[str, int]]:
    """(user_key, item_index) of the events at this moment."""
    return {
        (row[Column.USER_KEY], item)
        for row in pq.read_table(version / Table.HISTORIES).to_pylist()
        for item, moment in zip(row[Column.ITEM_INDEX], row[Column.TIMESTAMP], strict=True)
        if moment == timestamp
    }


def champion(place: Path) -> str:
    return os.readlink(place / "models" / "online_retail" / "champion")


def test_the_cycle_goes_round_twice(place: Path) -> None:
    _, before = build_tables(place)
    recsys(place, "train", "name=round1", *tiny.TRAIN_OVERRIDES)
    promoted = recsys(place, "promote", "dataset=online_retail", "challenger=round1", *LENIENT)
    assert promoted.startswith("promoted: round1")
    assert champion(place) == "round1"
    first_slates = recommend(place, "champion")

    bought = write_outcomes(place, first_slates, prefix="first")
    handed_in = ("dataset=online_retail", "outcomes=first.csv", f"impressions={first_slates}")
    assert f"outcomes: {len(bought)} new, 0 already there" in recsys(place, "feedback", *handed_in)
    assert f"outcomes: 0 new, {len(bought)} already there" in recsys(place, "feedback", *handed_in)

    # a week later there are new words, items and users, and what the champion knows keeps its place
    version, after = build_tables(place, "dataset.split.test_cut='2011-09-17'")
    assert after["split"]["cuts"]["validation"] == before["split"]["cuts"]["validation"] + 7 * 86_400
    assert before["row_counts"]["feedback_outcomes"] == 0
    assert after["row_counts"]["feedback_outcomes"] == len(bought)
    assert after["row_counts"]["outcomes_of_an_impression"] == len(bought)
    assert after["row_counts"][Table.IMPRESSIONS] == pq.read_metadata(first_slates).num_rows
    shown = [row for row in pq.read_table(first_slates).to_pylist() if row[Impression.SLOT] == 1]
    taken = {(row[Impression.USER_KEY], row[Impression.ITEM_INDEX]) for row in shown}
    assert taken <= purchases(version, bought[0][Outcome.TIMESTAMP])

    warm = "warm_start=models/online_retail/champion"
    recsys(place, "train", "name=round2", warm, *tiny.TRAIN_OVERRIDES)
    challenge = ("dataset=online_retail", "challenger=round2")
    refused = recsys(place, "promote", *challenge, "rules.min_users=100000", code=3)
    assert refused.startswith("refused: round2")
    assert "fewer than min_users=100000" in refused
    assert champion(place) == "round1"
    assert recsys(place, "promote", *challenge, *LENIENT).startswith("promoted: round2")
    assert champion(place) == "round2"

    second_slates = recommend(place, "round2")
    policies = {
        pq.read_table(path)[Impression.POLICY_VERSION][0].as_py() for path in (first_slates, second_slates)
    }
    assert len(policies) == 2
    again = write_outcomes(place, second_slates, prefix="second")
    recsys(place, "feedback", "dataset=online_retail", "outcomes=second.csv", f"impressions={second_slates}")
    _, last = build_tables(place, "dataset.split.test_cut='2011-09-17'")
    assert last["row_counts"]["feedback_outcomes"] == len(bought) + len(again)

    said = recsys(place, "promote", "dataset=online_retail", "rollback=true")
    assert said.strip() == "champion: round1; previous: round2, which rollback=true brings back"
    assert champion(place) == "round1"
    recommend(place, "champion")
