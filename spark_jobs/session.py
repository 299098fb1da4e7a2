"""The Spark session: the same call on a laptop and under spark-submit."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import pyarrow as pa
from pyspark import SparkConf, SparkContext, StorageLevel, inheritable_thread_target
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from recsys.schema import InputError
from spark_jobs.java import REMEDY, choose_java
from spark_jobs.settings import SparkSettings

# 64-byte blocks in hex: the padded pseudonym key, kept out of plans, logs and the web page.
KEY_BLOCK_PATTERN = r"(?i)(?:0x|X')?[0-9a-f]{128}'?"

# JDBC drivers read times without a zone in Java's own. Java may end when the room for compiled code is full:
# with the first of its two compilers alone it would be 48 MB, which one run fills.
JAVA_OPTIONS = "-Duser.timezone=UTC -XX:ReservedCodeCacheSize=256m"
EXECUTOR_OPTIONS = "spark.executor.extraJavaOptions"

ALWAYS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.redaction.string.regex": KEY_BLOCK_PATTERN,
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    # Rows that lie together by user stay where they are when they are joined by user and something else.
    "spark.sql.requireAllClusterKeysForCoPartition": "false",
}

AT_ONCE = 3
Result = TypeVar("Result")

LOCAL = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.log.level": "OFF",
}


def start_session(wanted: SparkSettings) -> SparkSession:
    """A session on `wanted.master`, or on what spark-submit configured already.

    Raises InputError where no Java can be found. The driver's memory only counts if this call starts the JVM.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    builder = SparkSession.builder.appName("recsys-features")
    settings = ALWAYS | {EXECUTOR_OPTIONS: _executor_options(wanted, submitted=submitted)}
    if not submitted:
        choose_java(os.environ)
        settings["spark.driver.memory"] = wanted.driver_memory
        settings["spark.driver.extraJavaOptions"] = f"{JAVA_OPTIONS} {wanted.java_options}".strip()
        if wanted.jars:
            settings["spark.jars"] = ",".join(wanted.jars)
        builder = builder.master(wanted.master)
        if wanted.master.startswith("local"):
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
            settings |= LOCAL
    if wanted.shuffle_partitions:
        settings["spark.sql.shuffle.partitions"] = str(wanted.shuffle_partitions)
        settings["spark.default.parallelism"] = str(wanted.shuffle_partitions)
    others = {name: str(value) for name, value in wanted.conf.items() if name != EXECUTOR_OPTIONS}
    for key, value in (settings | others).items():
        builder = builder.config(key, value)
    with _quiet_java():
        session = builder.getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    if wanted.checkpoint_dir:
        session.sparkContext.setCheckpointDir(wanted.checkpoint_dir)
    return session


def _executor_options(wanted: SparkSettings, *, submitted: bool) -> str:
    """JAVA_OPTIONS, and after them those of the settings or of spark-submit, which win."""
    given = ""
    if submitted:
        SparkContext._ensure_initialized()  # else what spark-submit was told is not known yet
        given = SparkConf().get(EXECUTOR_OPTIONS, "") or ""
    return f"{JAVA_OPTIONS} {wanted.conf.get(EXECUTOR_OPTIONS, given)}".strip()


@contextmanager
def _quiet_java() -> Iterator[None]:
    """Java inherits a scratch file as its stderr and the screen stays clean; read if it does not start."""
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as scratch:
        os.dup2(scratch.fileno(), 2)
        try:
            yield
        except Exception as error:
            scratch.seek(0)
            lines = scratch.read().decode(errors="replace").strip().splitlines()
            raise InputError(
                f"Spark did not start ({_cause(lines) or type(error).__name__}); see that spark.master,"
                f" spark.driver_memory and spark.java_options suit this machine, else {REMEDY}"
            ) from error
        finally:
            os.dup2(screen, 2)
            os.close(screen)


def _cause(lines: list[str]) -> str:
    """The first line of a stack trace or of what Java says, not a frame of it."""
    told = [line.strip() for line in lines if not line.strip().startswith(("at ", "..."))]
    errors = [line for line in told if "Exception" in line or "rror" in line or "nvalid" in line]
    return (errors or told or [""])[0]


def few_rows(spark: SparkSession, rows: Sequence[tuple[Any, ...]], schema: str) -> DataFrame:
    """A table of what is known here, by a schema as Spark writes it. No Python runs for it in any task."""
    fields = to_arrow_schema(cast(StructType, StructType.fromDDL(schema)))
    columns = list(zip(*rows, strict=True)) or [()] * len(fields)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, fields.types, strict=True)]
    return spark.createDataFrame(pa.table(arrays, schema=fields))


def pin(frame: DataFrame, *, on: StorageLevel = StorageLevel.MEMORY_AND_DISK) -> DataFrame:
    """Compute once and cut the lineage; on a cluster with a checkpoint folder, surviving a lost executor.

    `on`: where the rows wait, as bytes: as objects they take more memory, which Java then clears more often.
    Those that are read once more had better not take the memory of others.
    """
    if frame.sparkSession.sparkContext.getCheckpointDir():
        return frame.checkpoint()
    return frame.localCheckpoint(storageLevel=on)


def keep(frame: DataFrame) -> DataFrame:
    """Compute once, held as columns and on disk where memory is short, for frames as large as the log.

    Unlike `pin` it keeps what is known of how the rows lie, which spares the steps after it a shuffle. What a
    lost executor held is computed again: only for frames that come out the same each time.
    """
    if frame.sparkSession.sparkContext.getCheckpointDir():
        return frame.checkpoint()
    kept = frame.persist()
    kept.count()
    return kept


def together(*tasks: Callable[[], Result]) -> list[Result]:
    """Results of tasks that do not need one another, AT_ONCE of them at a time: while Spark plans one, or one
    has fewer parts than there are cores, another goes on.

    Raises what the first of them in order raises; the others' jobs are ended before.
    """
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        # Each with the caller's settings of Spark, among them what its jobs are described as.
        of_caller = inheritable_thread_target(SparkSession.active())
        begun = [pool.submit(of_caller(task)) for task in tasks]
        try:
            return [each.result() for each in begun]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            SparkContext.getOrCreate().cancelAllJobs()
            raise
