"""The command itself, in a process of its own: exit code, one line, nothing half written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spark_jobs.quality import FAILED_PAGE
from tests.spark_jobs import shop

ROOT = Path(__file__).resolve().parents[2]
SHOP_YAML = """\
name: shop
public_examples: true
events: {path: raw.parquet}
columns:
  user_id: user
  item_id: item
  timestamp: moment
  event_type: "if(invoice like 'C%', 'return', 'purchase')"
  order_id: invoice
  quantity: quantity
  unit_price: price
  text: text
event_types: [purchase, return]
target_event_types: [purchase]
split: {kind: time, test_days_before_end: 29, window_days: 15, horizons_days: [7]}
"""


def run(folder: Path, *arguments: str, command: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    (folder / "conf" / "dataset").mkdir(parents=True, exist_ok=True)
    (folder / "conf" / "dataset" / "shop.yaml").write_text(SHOP_YAML)
    command = command or (sys.executable, "-m", "spark_jobs")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable}
    return subprocess.run(
        [*command, "--config-dir", "conf", "dataset=shop", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_an_unknown_data_set_is_one_line(tmp_path: Path) -> None:
    shown = run(tmp_path, "dataset=nonsense")
    assert shown.returncode != 0
    assert "nonsense" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_wrong_setting_is_one_line_before_spark_starts(tmp_path: Path) -> None:
    shown = run(tmp_path, "dataset.split.kind=random")
    assert shown.returncode == 2
    assert shown.stderr == "error: split.kind 'random' is not known; use time or leave_one_out\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conf"]


def test_a_missing_key_is_said_before_spark_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RECSYS_HMAC_KEY", "RECSYS_HMAC_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    shown = run(tmp_path, "dataset.public_examples=false", "spark.master=nonsense")
    assert shown.returncode == 2
    assert "set RECSYS_HMAC_KEY or RECSYS_HMAC_KEY_FILE" in shown.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "cause"),
    [("spark.master=foo", "Master must either be yarn"), ("spark.driver_memory=1x", "1x")],
)
def test_what_spark_cannot_start_with_is_said(tmp_path: Path, setting: str, cause: str) -> None:
    shown = run(tmp_path, setting)
    assert shown.returncode == 2
    assert cause in shown.stderr
    assert "spark.master, spark.driver_memory" in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


@pytest.mark.slow
def test_it_publishes_and_refuses(tmp_path: Path) -> None:
    missing = run(tmp_path)
    assert missing.returncode == 2
    assert missing.stderr.splitlines()[-1].startswith("error: raw.parquet does not exist")
    shop.write(shop.regular_lines(), tmp_path / "raw.parquet")
    failed = run(tmp_path, "quality.min_rows=1000")
    assert failed.returncode == 2
    assert "min_rows: 54, minimum 1000" in failed.stderr.splitlines()[-1]
    assert [path.name for path in (tmp_path / "features" / "shop").iterdir()] == [FAILED_PAGE]
    good = run(tmp_path)
    assert good.returncode == 0, good.stderr
    assert "54 rows in, 54 kept, 0 quarantined, 0 duplicates" in good.stdout
    assert (tmp_path / "features" / "shop" / "latest" / "metadata.json").exists()
    assert "WARN" not in good.stderr


@pytest.mark.slow
def test_spark_submit_brings_its_own_session(tmp_path: Path) -> None:
    shop.write(shop.regular_lines(), tmp_path / "raw.parquet")
    submit = Path(sys.executable).parent / "spark-submit"
    command = (
        str(submit),
        "--master",
        "local[1]",
        "--driver-memory",
        "1g",
        str(ROOT / "spark_jobs" / "__main__.py"),
    )
    shown = run(tmp_path, "spark.master=nonsense", command=command)
    assert shown.returncode == 0, shown.stderr
    assert (tmp_path / "features" / "shop" / "latest" / "metadata.json").exists()
