"""Where the last event is held out: any log, with times or without, goes from raw rows to slates."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.schema import Column
from tests import tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

YAML = """\
name: short
public_examples: true
events: {path: raw.parquet}
columns: {user_id: user, item_id: item, timestamp: moment, event_type: "'rating'"}
event_types: [rating]
target_event_types: [rating]
split: {kind: leave_one_out}
quality: {min_rows: 1, min_users: 1, min_items: 1, min_user_share: 0, min_item_share: 0}
"""
DATASET = ("--config-dir", "conf", "dataset=short")
START, HOUR, NUM_USERS, NUM_ITEMS = 1_700_000_000, 3600, 40, 9
SPARK = ("spark.master='local[2]'", "spark.driver_memory=1g", "spark.shuffle_partitions=2")
NUM_JUDGED = NUM_USERS * 6 // 8  # those with three events or more
TRAIN = (
    *(each for each in tiny.TRAIN_OVERRIDES if not each.startswith(("fit_until", "trainer.max_epochs"))),
    "model.num_heads=2",
    "trainer.max_epochs=2",
)


@pytest.fixture(scope="module", params=["filter_seen: false", "filter_seen: true\nhas_time: false"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty users with one to eight events of nine items, and their tables; by default there are times, and
    what was taken may be taken again."""
    place, luck = tmp_path_factory.mktemp("short"), random.Random(3)
    events = [
        (f"u{user}", f"i{item}", START + k * HOUR + user)
        for user in range(NUM_USERS)
        for k, item in enumerate(luck.sample(range(NUM_ITEMS), 1 + user % 8))
    ]
    columns = dict(zip(("user", "item", "moment"), zip(*events, strict=True), strict=True))
    pq.write_table(pa.table(columns), place / "raw.parquet")
    (place / "conf" / "dataset").mkdir(parents=True)
    (place / "conf" / "dataset" / "short.yaml").write_text(YAML + request.param)
    tiny.run("-m", "spark_jobs", *DATASET, *SPARK, "allow_demo_key=true", cwd=place)
    return place


def recsys(place: Path, command: str, *overrides: str) -> str:
    return tiny.run("-m", "recsys", command, *DATASET, *overrides, cwd=place).stdout


def test_it_is_learned_judged_and_recommended_from(place: Path) -> None:
    recsys(place, "train", "experiment=next_item", "name=short", *TRAIN)
    recsys(place, "evaluate", "bundle=short", "split=test", "output_dir=judged")
    figures = json.loads((place / "judged" / "metrics.json").read_text())["figures"]
    assert figures["ranking/all/ndcg@10/aurm"]["n"] == NUM_JUDGED
    recsys(place, "recommend", "bundle=short", "top_k=5", "output_dir=slates")
    slates = pq.read_table(place / "slates" / "impressions.parquet")
    assert len(set(slates[Column.USER_KEY].to_pylist())) == NUM_JUDGED
