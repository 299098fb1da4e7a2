"""The command in a process of its own: what it leaves, going on from it, and errors of one line."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.policy.impressions import IMPRESSION_SCHEMA, check_impressions
from recsys.policy.outcomes import OUTCOME_FILE_SCHEMA, check_outcomes
from recsys.policy.rows import read_rows
from recsys.schema import Table
from tests import tiny

LOGGED = "myopic_revenue_stochastic"
SMALL = ("users=300", "items=150", f"policies=[{LOGGED}]", f"log={LOGGED}", "policy.slate_size=5")


def simulate(place: Path, *overrides: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    return tiny.run("-m", "recsys", "simulate", *overrides, cwd=place, code=code)


def test_truth_and_log_of_a_small_market(tmp_path: Path) -> None:
    shown = simulate(tmp_path, *SMALL, "days=40")
    output = tmp_path / "outputs" / "simulate" / "default"
    truth = json.loads((output / "truth.json").read_text())
    assert list(truth["policies"]) == ["myopic_revenue", LOGGED]
    assert LOGGED in shown.stdout
    events = pq.read_table(output / "log" / "events.parquet").to_pylist()
    check_outcomes(
        read_rows(output / "log" / "events.parquet", OUTCOME_FILE_SCHEMA),
        source="events",
        event_types=["view", "search", "cart", "purchase"],
    )
    impressions = read_rows(output / "log" / "impressions.parquet", IMPRESSION_SCHEMA)
    check_impressions(impressions, source="impressions")
    shown_by_slate: dict[str, set[str]] = {}
    for row in impressions.to_pylist():
        shown_by_slate.setdefault(row["slate_id"], set()).add(row["item_id"])
    visits = 300 * truth["policies"][LOGGED]["visits"]
    assert len(shown_by_slate) == pytest.approx(visits)
    followed = [row for row in events if row["slate_id"] is not None]
    assert followed
    assert all(row["item_id"] in shown_by_slate[row["slate_id"]] for row in followed)
    assert len({row["outcome_id"] for row in events}) == len(events)


def test_a_log_in_two_parts_is_that_of_the_whole(tmp_path: Path) -> None:
    simulate(tmp_path, *SMALL, "days=20", "output_dir=whole")
    simulate(tmp_path, *SMALL, "days=12", "output_dir=first")
    simulate(tmp_path, *SMALL, "days=8", "output_dir=second", "state=first/log/state.npz")
    for name in ("events", "impressions"):
        whole, first, second = (
            pq.read_table(tmp_path / folder / "log" / f"{name}.parquet").to_pylist()
            for folder in ("whole", "first", "second")
        )
        assert first
        assert second
        assert whole == first + second
    states = [np.load(tmp_path / folder / "log" / "state.npz") for folder in ("whole", "second")]
    for name in states[0].files:
        np.testing.assert_array_equal(states[0][name], states[1][name])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("world=mars", "mars"),
        ("users=0", "users=0 does not fit; it must be at least 1"),
        ("items=-3", "items=-3 does not fit"),
        ("days=0", "days=0 does not fit; it must be at least 1"),
        ("policies=[nonsense]", "'nonsense' is unknown"),
        ("log=random", "log=random cannot be logged"),
        ("state=nowhere.npz", "nowhere.npz is not a file"),
        ("world.users.budget_mean=-1", "users.budget_mean=-1.0 does not fit"),
        ("world.choice.attention=none", "choice.attention='none' is unknown"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(tmp_path: Path, override: str, words: str) -> None:
    done = simulate(tmp_path, override, code=2)
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        done = simulate(tmp_path, *SMALL, "days=60", f"output_dir={disk / 'out'}", code=2)
        assert done.stderr.strip().splitlines()[-1] == (
            f"error: No space left on device ({disk / 'out'}): free space or mend the path, then run again"
        )
        assert "Traceback" not in done.stderr
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_spark_jobs_reads_the_log(tmp_path: Path) -> None:
    """The gate passes, every event is kept, and money is that of the log."""
    simulate(tmp_path, *SMALL, "days=90", "output_dir=outputs/simulate/default")
    tiny.run(
        "-m",
        "spark_jobs",
        "dataset=market",
        "spark.master='local[2]'",
        "spark.driver_memory=1g",
        "spark.shuffle_partitions=2",
        cwd=tmp_path,
    )
    version = tmp_path / "features" / "market" / Table.LATEST
    metadata = json.loads((version / Table.METADATA).read_text())
    events = pq.read_table(tmp_path / "outputs" / "simulate" / "default" / "log" / "events.parquet")
    assert metadata["row_counts"]["rows_kept"] == events.num_rows
    histories = pq.read_table(version / Table.HISTORIES)
    kept = [value for values in histories["value"].to_pylist() for value in values if value]
    paid = [value for value in events["value"].to_pylist() if value is not None]
    assert sum(kept) == pytest.approx(sum(paid))
