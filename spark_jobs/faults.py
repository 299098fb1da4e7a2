"""What Spark says when a run fails -> an error of one line that names the remedy."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark.errors import PySparkException

from recsys.schema import InputError
from spark_jobs.settings import JobSettings

DATA_FAULT = "22"  # class of SQL states: a value that does not fit (the value itself stays off the screen)
OTHER_HEADER = "CSV header does not conform to the schema"
UNREADABLE = ("FAILED_READ_FILE", "CANNOT_READ_FILE", "is not a Parquet file")


@contextmanager
def in_one_line(settings: JobSettings) -> Iterator[None]:
    """What Spark raises within becomes an error of one line where there is one (`explained`).

    Where Java ends in the middle of an answer, py4j logs a trace of its own, kept off the screen, and raises
    an error that says no more than that there is no answer.
    """
    broke_off = False

    def is_ours(record: logging.LogRecord) -> bool:
        nonlocal broke_off
        broke_off = broke_off or record.module == "java_gateway"
        return record.module != "java_gateway"

    logging.root.addFilter(is_ours)
    try:
        yield
    except (PySparkException, Py4JError, ConnectionError) as error:
        is_bare = broke_off and type(error) is Py4JError
        fault = java_ended(settings) if is_bare else explained(error, settings)
        if fault is None:
            raise
        raise fault from error
    finally:
        logging.root.removeFilter(is_ours)


def explained(error: Exception, settings: JobSettings) -> Exception | None:
    """What Spark says while it works -> an error that is one line for the user; None for anything else."""
    text = str(error)
    if isinstance(error, (Py4JNetworkError, ConnectionError)):
        return java_ended(settings)
    if "No space left on device" in text:
        return OSError(errno.ENOSPC, "No space left on device", settings.features_dir)
    if OTHER_HEADER in text:
        return InputError(
            f"CSV files of data set {settings.dataset.name} ({settings.dataset.events.path}) differ in their"
            " headers; give all files of a table the same columns in the same order"
        )
    if any(sign in text for sign in UNREADABLE):
        return InputError(
            f"a raw file of data set {settings.dataset.name} ({settings.dataset.events.path}) is corrupt;"
            " write it anew"
        )
    if "java.sql." in text:
        return InputError(
            f"a database of data set {settings.dataset.name} failed while it was read ({root_cause(error)});"
            " see that it runs and that no limit of its own ends long queries, then run this again"
        )
    if "OutOfMemoryError" in text or "Java heap space" in text:
        return InputError(
            f"Spark ran out of memory at spark.driver_memory={settings.spark.driver_memory}; raise it"
        )
    condition = error.getCondition() if isinstance(error, PySparkException) else None
    if condition and str(error.getSqlState() or "").startswith(DATA_FAULT):  # type: ignore[attr-defined]
        return InputError(
            f"an expression of data set {settings.dataset.name} fails on some row ({condition});"
            " use try_cast or try_divide in its YAML, so that such rows go to the quarantine"
        )
    return None


def java_ended(settings: JobSettings) -> InputError:
    return InputError(
        "Spark's Java process ended while it worked, most often because the machine had no memory left;"
        f" run this again with less than spark.driver_memory={settings.spark.driver_memory},"
        " or where there is more"
    )


def root_cause(error: Exception) -> str:
    """The first line of what went wrong at the bottom of Java's chain of causes, without its full stop."""
    java = getattr(error, "_origin", None) or getattr(error, "java_exception", None)
    told = str(error)
    while java is not None:
        told = java.getMessage() or told
        java = java.getCause()
    return told.strip().splitlines()[0].rstrip(".")
