"""The same job through spark-submit, on a cluster of two workers: the same content."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spark_jobs.session import JAVA_OPTIONS
from tests import tiny
from tests.spark_jobs.cluster import NUM_WORKERS, standalone
from tests.spark_jobs.content import content

QUICK_START = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_cluster_gives_the_tables_of_one_process(tiny_tables: Path, tmp_path: Path) -> None:
    raw = tiny_tables.parents[2] / "raw.parquet"
    overrides = [one for one in tiny.TABLE_OVERRIDES if not one.startswith("spark.")]
    with standalone(tmp_path) as cluster:
        submit = [
            str(Path(sys.executable).parent / "spark-submit"),
            *("--master", cluster.url, "--driver-memory", "700m", "--executor-memory", "600m"),
            *("--executor-cores", "1", "--total-executor-cores", str(NUM_WORKERS)),
            *("--conf", "spark.driver.host=127.0.0.1", "--conf", "spark.ui.enabled=false"),
            *("--conf", "spark.sql.adaptive.enabled=false", "--driver-java-options", QUICK_START),
            *("--conf", f"spark.executor.extraJavaOptions={QUICK_START}"),
            str(tiny.ROOT / "spark_jobs" / "__main__.py"),
        ]
        done = subprocess.run(
            [*submit, *overrides, f"dataset.events.path={raw}", "spark.shuffle_partitions=3"],
            cwd=tmp_path,
            env=cluster.environment | {"PYTHONPATH": str(tiny.ROOT)},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        at_work = cluster.told(r"Launching executor \S+ on worker (\S+)")
    assert len(set(at_work)) == NUM_WORKERS
    launched = [log.read_text() for log in tmp_path.glob("worker*.log")]
    options = f"{JAVA_OPTIONS} {QUICK_START}".split()
    assert all(f'"{option}"' in log for option in options for log in launched)
    version = (tmp_path / "features" / "online_retail" / "latest").resolve()
    assert content(version) == content(tiny_tables)
