"""One pseudonym key per data set: under another one every user would silently begin anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.pseudonym import Key
from recsys.schema import FeedbackTable, InputError
from spark_jobs.settings import JobSettings


def check_key(
    key: Key, settings: JobSettings, *, previous: Mapping[str, Any] | None, log_files: Iterable[Path]
) -> None:
    """InputError where the key protects nobody, or is not the one of the last tables and of the feedback log.

    `previous`: metadata of the last tables. `allow_demo_key` and `rotate_key` let each of these pass.
    """
    name = settings.dataset.name
    if key.is_demo and not (settings.dataset.public_examples or settings.allow_demo_key):
        raise InputError(
            f"data set {name} is not declared public and the demo key that everybody has would hash its"
            " user ids; set RECSYS_HMAC_KEY or RECSYS_HMAC_KEY_FILE, or allow_demo_key=true to try it out"
        )
    if settings.rotate_key:
        return
    before = previous["pseudonym"]["key_version"] if previous is not None else key.version
    if before != key.version:
        raise InputError(
            f"the last tables of data set {name} were made under key version {before!r}, the"
            f" current key is {key.version!r}; set RECSYS_HMAC_KEY to the key they were made with, or change"
            " the key with job=rotate; where the old one is lost, rotate_key=true lets every user begin anew"
        )
    for file in log_files:
        version = log_key_version(file)
        if version != key.version:
            raise InputError(
                f"{file} holds pseudonyms under key version {version!r}, the current key is {key.version!r};"
                " set RECSYS_HMAC_KEY to the key this log was begun with, or change the key with job=rotate;"
                " where the old one is lost, move the log away"
            )


def log_key_version(file: Path) -> str:
    """The version that `recsys feedback` wrote into the file; "" where there is none."""
    try:
        metadata = pq.read_schema(file).metadata or {}
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{file} cannot be read ({str(error).splitlines()[0]}); restore it from a backup"
        ) from None
    return metadata.get(FeedbackTable.KEY_VERSION, b"").decode()
