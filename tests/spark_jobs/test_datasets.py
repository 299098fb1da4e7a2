"""Every data set in conf/ is understood, and the two research ones are built from a small sample."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from recsys.entry import conf_dir
from recsys.schema import Column, Table
from recsys.settings import read_settings
from spark_jobs import job
from spark_jobs.gate import Thresholds
from spark_jobs.quality import thresholds_of
from spark_jobs.settings import JobSettings

DATASETS = sorted(path.stem for path in Path(conf_dir(), "dataset").glob("*.yaml"))
QUALITIES = sorted(path.stem for path in Path(conf_dir(), "quality").glob("*.yaml"))
SHARED = Path(os.environ.get("RECSYS_SHARED_DATA", "../shared/data"))


def composed(*overrides: str) -> JobSettings:
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        config = compose("spark_jobs", overrides=list(overrides))
    return read_settings(JobSettings, OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", DATASETS)
def test_each_data_set_is_understood(name: str) -> None:
    settings = composed(f"dataset={name}")
    assert settings.dataset.name == name
    assert isinstance(thresholds_of(settings), Thresholds)


@pytest.mark.parametrize("name", QUALITIES)
def test_each_quality_file_is_understood(name: str) -> None:
    assert read_settings(Thresholds, composed(f"quality={name}").quality, where="quality")


def sample_folder(tmp_path: Path, name: str) -> Path:
    if not (SHARED / name).is_dir():
        pytest.skip(f"{SHARED / name} is not here; set RECSYS_SHARED_DATA to the folder that holds {name}")
    folder = tmp_path / "data" / name
    folder.mkdir(parents=True)
    return folder


def build(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> tuple[Path, dict[str, Any]]:
    monkeypatch.setenv("RECSYS_SHARED_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("RECSYS_HMAC_KEY", "the key of these tests")
    low = ["min_rows", "min_users", "min_items"]
    overrides = [
        "allow_demo_key=true",
        f"dataset={name}",
        f"features_dir={tmp_path}/features",
        f"feedback_dir={tmp_path}/feedback",
    ]
    version = job.build(composed(*overrides, *[f"dataset.quality.{bound}=1" for bound in low]), spark)
    return version, json.loads((version / Table.METADATA).read_text())


def test_movies_have_order_but_no_time_and_no_money(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = sample_folder(tmp_path, "ml-1m")
    log = pq.read_table(SHARED / "ml-1m" / "sasrec_version_5core.parquet")
    log = log.filter(pc.field("sas_user") <= 15)
    pq.write_table(log, folder / "sasrec_version_5core.parquet")
    for name in ("movies.parquet", "users.parquet"):
        (folder / name).symlink_to((SHARED / "ml-1m" / name).resolve())
    version, metadata = build(spark, tmp_path, monkeypatch, "ml_1m")
    assert "so no value targets" in capsys.readouterr().err
    assert (metadata["has_time"], metadata["has_value"], metadata["filter_seen"]) == (False, False, True)
    assert metadata["split"]["kind"] == "leave_one_out"
    assert metadata["num_users"] == 15
    assert [field["name"] for field in metadata["profile_fields"]] == ["gender", "age", "occupation"]
    assert pq.read_table(version / Table.VALUE_TARGETS).num_rows == 0
    examples = pq.read_table(version / Table.EXAMPLES).to_pylist()
    lengths = {(e[Column.USER_INDEX], e[Column.SPLIT]): e[Column.PREFIX_LENGTH] for e in examples}
    histories = pq.read_table(version / Table.HISTORIES).to_pylist()
    num_events = {h[Column.USER_INDEX]: h[Column.NUM_EVENTS] for h in histories}
    assert sum(num_events.values()) == log.num_rows
    for user, count in num_events.items():
        assert [lengths[user, split] for split in ("train", "validation", "test")] == [
            count - 2,
            count - 2,
            count - 1,
        ]
    # the order is the file's own
    items = {
        i[Column.ITEM_INDEX]: i[Column.ITEM_ID]
        for i in pq.read_table(version / Table.ITEM_FEATURES).to_pylist()
    }
    first = log.filter(pc.field("sas_user") == 1).sort_by("pos")["movie_id"].to_pylist()
    assert first in [[int(items[i]) for i in h[Column.ITEM_INDEX]] for h in histories]


def test_groceries_join_two_files(spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = sample_folder(tmp_path, "complete-journey")
    num_baskets = 400
    pq.write_table(
        pq.read_table(SHARED / folder.name / "baskets.parquet").slice(0, num_baskets),
        folder / "baskets.parquet",
    )
    lines = pq.read_table(SHARED / folder.name / "lines.parquet").filter(pc.field("basket_row") < num_baskets)
    pq.write_table(lines, folder / "lines.parquet")
    for name in ("products.parquet", "demographics.parquet"):
        (folder / name).symlink_to((SHARED / folder.name / name).resolve())
    version, metadata = build(spark, tmp_path, monkeypatch, "complete_journey")
    assert metadata["split"]["horizons_days"] == [7, 30, 90, 180]
    assert [field["name"] for field in metadata["item_fields"]] == [
        "department",
        "product_category",
        "brand",
        "price_band",
    ]
    values = pq.read_table(version / Table.HISTORIES)[Column.VALUE].to_pylist()
    cents = lines.filter(pc.field("quantity") > 0)["sales_value_cents"]
    assert sum(map(sum, values)) == pytest.approx(pc.sum(cents).as_py() / 100)
    assert metadata["row_counts"]["quarantined"] == pc.sum(pc.equal(lines["quantity"], 0)).as_py()
