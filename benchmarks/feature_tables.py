"""What feature tables cost beside a plain sort of the same log: `python -m benchmarks.feature_tables`

For each size a log of `make_events`, and `python -m spark_jobs` on it as a process of its own. The floor of
this engine is a read, sort by user and time, and write of the same events under the same settings, once
before and once after the job, so that what else the machine does falls on both. What a tiny log takes is
subtracted from either: it is start-up. With --append also what the newest day costs where the days before are
there. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from benchmarks.make_events import ROWS_PER_GROUP, LogConfig, write_log
from benchmarks.spark_event_log import EventLog, read_event_log

ROOT = Path(__file__).resolve().parents[1]
TINY_ROWS, LEAST_FLOOR_S = 5_000, 2.0
LOOK_S, QUERIES_SHOWN = 0.5, 5
# For the job and for the floor: what conf/spark_jobs.yaml advises for long runs.
SPARK = {
    "master": "local[*]",
    "driver_memory": "4g",
    "shuffle_partitions": 16,
    "java_options": "-XX:+UseParallelGC -XX:-DontCompileHugeMethods -Xms4g",
}
EVENT_LOG = {"enabled": "true", "compress": "false", "rolling.enabled": "false"}
AIMS = {"multiple": 5.0, "growth": 1.15, "peak_gib": 6.0, "straggling": 3.0}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of a process and those it started: wall time, time of cores, most memory at one time."""

    wall_s: float
    cpu_s: float
    peak_gib: float

    def minus(self, other: Cost) -> Cost:
        return Cost(wall_s=self.wall_s - other.wall_s, cpu_s=self.cpu_s - other.cpu_s, peak_gib=self.peak_gib)


NOT_MEASURED = Cost(wall_s=0.0, cpu_s=0.0, peak_gib=0.0)


class Watched:
    """`with Watched(process_id) as seen:` looks at the process tree until the body ends; then `seen.cost`.

    Memory is the proportional set size: what Java shares with a helper it has just forked counts once.
    """

    def __init__(self, process_id: int) -> None:
        self._root, self._over = psutil.Process(process_id), threading.Event()
        self._cpu_s: dict[int, float] = {}
        self._peak_bytes = 0
        self._watch = threading.Thread(target=self._look)

    def __enter__(self) -> Watched:
        self._began = time.monotonic()
        self._watch.start()
        return self

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            held = 0
            try:
                for process in (self._root, *self._root.children(recursive=True)):
                    with process.oneshot():
                        held += process.memory_full_info().pss
                        spent = process.cpu_times()
                        self._cpu_s[process.pid] = spent.user + spent.system
            except psutil.Error:  # one of them has just ended
                continue
            self._peak_bytes = max(self._peak_bytes, held)

    def __exit__(self, *_: object) -> None:
        wall_s = time.monotonic() - self._began
        self._over.set()
        self._watch.join()
        self.cost = Cost(wall_s=wall_s, cpu_s=sum(self._cpu_s.values()), peak_gib=self._peak_bytes / 2**30)


def watched(*arguments: str, cwd: Path) -> Cost:
    """`python ARGUMENTS`; CalledProcessError where it fails."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with (
        subprocess.Popen(
            [sys.executable, *arguments], cwd=cwd, env=environment, stdout=sys.stderr
        ) as process,
        Watched(process.pid) as seen,
    ):
        code = process.wait()
    if code:
        raise subprocess.CalledProcessError(code, process.args)
    return seen.cost


def tables(folder: Path, *, mode: str = "full") -> tuple[Cost, EventLog]:
    """The job itself on the log in `folder`."""
    event_log = folder / "event_log" / str(time.time_ns())
    event_log.mkdir(parents=True)
    logged = {f"spark.eventLog.{name}": value for name, value in EVENT_LOG.items()}
    logged |= {"spark.eventLog.dir": str(event_log.resolve())}
    conf = ",".join(f"{name}:{value}" for name, value in logged.items())
    settings = [f"spark.{name}={value!r}" for name, value in SPARK.items()]
    command = ("-m", "spark_jobs", "--config-dir", "conf", "dataset=shop_log", f"mode={mode}")
    cost = watched(*command, f"+spark.conf={{{conf}}}", *settings, cwd=folder)
    (file,) = event_log.iterdir()
    return cost, read_event_log(file)


def appended(folder: Path, rows: int) -> Cost:
    """The newest day's rows, after a run that read the others and keeps their lines."""
    newest, missing = folder / "newest", rows // LogConfig(rows=rows).days
    newest.mkdir()
    for file in sorted((folder / "events").iterdir(), reverse=True):
        lines = pq.read_table(file)
        left = max(lines.num_rows - missing, 0)
        pq.write_table(lines.slice(left), newest / f"newest-{file.name}", row_group_size=ROWS_PER_GROUP)
        file.unlink()
        if left:
            pq.write_table(lines.slice(0, left), file, row_group_size=ROWS_PER_GROUP)
            break
        missing -= lines.num_rows
    shutil.rmtree(folder / "features")
    tables(folder, mode="incremental")
    for file in newest.iterdir():
        file.rename(folder / "events" / file.name)
    cost, _ = tables(folder, mode="incremental")
    print(
        f"{rows:>12,} rows: the newest day appended {cost.wall_s:.1f} s ({cost.cpu_s:.1f} s of cores)",
        flush=True,
    )
    return cost


def floor(folder: Path) -> Cost:
    """`sort_log` as a process of its own."""
    return watched("-m", "benchmarks.feature_tables", "--sort", str(folder.resolve()), cwd=folder)


def sort_log(folder: Path) -> None:
    from spark_jobs.session import start_session
    from spark_jobs.settings import SparkSettings

    spark = start_session(SparkSettings(**SPARK))
    events = spark.read.parquet(str(folder / "events"))
    events.orderBy("user_id", "happened_at").write.parquet(str(folder / "sorted"))
    spark.stop()
    shutil.rmtree(folder / "sorted")


def mean(first: Cost, second: Cost) -> Cost:
    return Cost(
        wall_s=(first.wall_s + second.wall_s) / 2,
        cpu_s=(first.cpu_s + second.cpu_s) / 2,
        peak_gib=max(first.peak_gib, second.peak_gib),
    )


def measured(folder: Path, rows: int, seed: int, *, has_floor: bool) -> tuple[Cost, Cost, EventLog]:
    """The job, the floor (0 where it is not measured), and the job's event log, for a log of so many rows."""
    write_log(folder, LogConfig(rows=rows, seed=seed))
    load = os.getloadavg()[0]
    plain = floor(folder) if has_floor else NOT_MEASURED
    job, log = tables(folder)
    plain = mean(plain, floor(folder)) if has_floor else plain
    beside = f"floor {plain.wall_s:.1f} s ({plain.cpu_s:.1f} s of cores)" if has_floor else "no floor"
    print(
        f"{rows:>12,} rows: job {job.wall_s:.1f} s ({job.cpu_s:.1f} s of cores, {job.peak_gib:.2f} GiB),"
        f" {beside}; load of the machine {load:.1f} before, {os.getloadavg()[0]:.1f} after",
        flush=True,
    )
    most = sorted(log.query_cpu_s.items(), key=lambda pair: -pair[1])[:QUERIES_SHOWN]
    for (step, query), cpu_s in most:
        print(f"{rows:>12,} rows: {step}, query {query} {cpu_s:.1f} s of cores", flush=True)
    return job, plain, log


def compare(rows: int, job: Cost, plain: Cost, log: EventLog, tiny: EventLog) -> dict[str, float]:
    """Figures of one size; `job` and `plain` without start-up. No multiples of a floor that noise hides."""
    cores = os.cpu_count() or 1
    figures = {
        "job_s": job.wall_s,
        "job_cpu_s": job.cpu_s,
        "events_per_s_per_core": rows / job.wall_s / cores,
        "peak_gib": job.peak_gib,
        "straggling": log.straggling,
    }
    if plain != NOT_MEASURED:
        figures |= {"floor_s": plain.wall_s, "floor_cpu_s": plain.cpu_s}
    if plain.cpu_s > 0:
        figures["cpu_multiple"] = job.cpu_s / plain.cpu_s
    if plain.wall_s > LEAST_FLOOR_S:
        figures["multiple"] = job.wall_s / plain.wall_s
        for step, elapsed_s in log.step_s.items():
            figures[f"multiple_{step}"] = (elapsed_s - tiny.step_s.get(step, 0.0)) / plain.wall_s
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--job-only", action="store_true", help="without the floor")
    parser.add_argument("--append", action="store_true", help="append the newest day to the others as well")
    parser.add_argument("--sort", type=Path, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.sort:
        sort_log(wanted.sort)
        return
    figures: dict[str, float] = {}
    jobs: list[Cost] = []
    with tempfile.TemporaryDirectory() as place:
        how = {"seed": wanted.seed, "has_floor": not wanted.job_only}
        tiny_job, tiny_floor, tiny_log = measured(Path(place) / "tiny", TINY_ROWS, **how)
        for rows in wanted.rows:
            job, plain, log = measured(Path(place) / str(rows), rows, **how)
            jobs.append(job.minus(tiny_job))
            found = compare(rows, jobs[-1], plain.minus(tiny_floor), log, tiny_log)
            if wanted.append:
                day = appended(Path(place) / str(rows), rows).minus(tiny_job)
                found |= {"append_s": day.wall_s, "append_over_full": day.wall_s / jobs[-1].wall_s}
            for name, value in found.items():
                print(f"{rows:>12,} rows: {name} {value:,.2f}{aim(name, value)}", flush=True)
                figures[f"{name}_{rows}"] = round(value, 3 if abs(value) < 100 else 0)
            shutil.rmtree(Path(place) / str(rows))
    if len(jobs) > 1:
        linear = wanted.rows[-1] / wanted.rows[0]
        for name, spent in (("growth", "wall_s"), ("cpu_growth", "cpu_s")):
            value = getattr(jobs[-1], spent) / getattr(jobs[0], spent) / linear
            print(f"{name} from the first size to the last, over linear: {value:.2f}{aim(name, value)}")
            figures[name] = round(value, 3)
    print(json.dumps(figures))


def aim(name: str, value: float) -> str:
    if name not in AIMS:
        return ""
    return f" (aim: at most {AIMS[name]:g}, {'met' if value <= AIMS[name] else 'missed'})"


if __name__ == "__main__":
    main()
