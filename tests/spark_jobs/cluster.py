"""A standalone Spark cluster on this machine: a master and two workers, each a process of its own."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyspark

from spark_jobs.java import choose_java

NUM_WORKERS = 2
SPARK_HOME = Path(pyspark.__file__).parent


@dataclass(frozen=True)
class Cluster:
    url: str
    folder: Path
    environment: dict[str, str]

    def told(self, pattern: str) -> list[str]:
        """What the master's log says so far, by a regular expression with one group."""
        return re.findall(pattern, (self.folder / "master.log").read_text())


@contextmanager
def standalone(folder: Path) -> Iterator[Cluster]:
    environment = os.environ | {
        "SPARK_HOME": str(SPARK_HOME),
        "SPARK_NO_DAEMONIZE": "1",
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_DAEMON_MEMORY": "256m",
        "SPARK_LOCAL_DIRS": str(folder / "scratch"),
        "PYSPARK_PYTHON": sys.executable,
    }
    choose_java(environment)
    port = _free_port()
    cluster = Cluster(url=f"spark://127.0.0.1:{port}", folder=folder, environment=environment)
    started = []
    try:
        at = ["--host", "127.0.0.1", "--port", str(port), "--webui-port", "0"]
        started.append(_daemon(cluster, "master", "master.Master", *at))
        _wait_for(cluster, r"(elected leader)", 1)
        for number in range(1, NUM_WORKERS + 1):
            name = f"worker{number}"
            room = ["--cores", "1", "--memory", "600m", "--webui-port", "0", "--host", "127.0.0.1"]
            room += ["--work-dir", str(folder / name), cluster.url]
            started.append(_daemon(cluster, name, "worker.Worker", *room))
        _wait_for(cluster, r"Registering worker (\S+)", NUM_WORKERS)
        yield cluster
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(timeout=60)


def _daemon(cluster: Cluster, name: str, what: str, *arguments: str) -> subprocess.Popen[bytes]:
    command = [str(SPARK_HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{what}", *arguments]
    with (cluster.folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, env=cluster.environment, stdout=log, stderr=log)


def _wait_for(cluster: Cluster, pattern: str, count: int) -> None:
    end = time.monotonic() + 120
    while len(set(cluster.told(pattern))) < count:
        if time.monotonic() > end:
            raise RuntimeError((cluster.folder / "master.log").read_text())
        time.sleep(0.3)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
