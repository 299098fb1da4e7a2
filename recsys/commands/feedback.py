"""`python -m recsys feedback`: a platform's outcomes and impressions -> the feedback log spark_jobs reads."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from recsys.entry import hydra_command
from recsys.policy.feedback_log import Appended, append_rows
from recsys.policy.impressions import IMPRESSION_KEY, IMPRESSION_SCHEMA, check_impressions
from recsys.policy.origin import check_known, check_origin
from recsys.policy.outcomes import OUTCOME_FILE_SCHEMA, OUTCOME_KEY, check_outcomes, pseudonymised
from recsys.policy.rows import read_rows
from recsys.pseudonym import Key, load_key
from recsys.rotating import check_not_rotating
from recsys.schema import FeedbackTable, InputError, Table


@dataclass(frozen=True, kw_only=True)
class FeedbackSettings:
    """Files to take in, what the data set's YAML says of it, and the folders of its tables and its log."""

    dataset: str
    event_types: tuple[str, ...]
    is_public: bool
    outcomes: Path | None
    impressions: Path | None
    features_dir: Path
    feedback_dir: Path

    def __post_init__(self) -> None:
        if self.outcomes is None and self.impressions is None:
            raise InputError("nothing was handed in; set outcomes=FILE, impressions=FILE or both")


def take_in(settings: FeedbackSettings, key: Key) -> dict[str, Appended]:
    """Check every file first, then append what is new; returns what happened by FeedbackTable name.

    Raises InputError, with no row of that file written, for a file that does not pass.
    """
    check_not_rotating(settings.features_dir / settings.dataset)
    tables_dir = settings.features_dir / settings.dataset / Table.LATEST
    _check_key(tables_dir / Table.METADATA, key)
    checked: dict[str, tuple[pa.Table, tuple[str, ...], Path]] = {}
    if settings.impressions is not None:
        table = read_rows(settings.impressions, IMPRESSION_SCHEMA)
        check_origin(settings.impressions, settings.dataset)
        check_impressions(table, source=str(settings.impressions))
        check_known(table, tables_dir, source=str(settings.impressions))
        checked[FeedbackTable.IMPRESSIONS] = (table, IMPRESSION_KEY, settings.impressions)
    if settings.outcomes is not None:
        table = read_rows(settings.outcomes, OUTCOME_FILE_SCHEMA)
        check_outcomes(table, source=str(settings.outcomes), event_types=settings.event_types)
        checked[FeedbackTable.OUTCOMES] = (pseudonymised(table, key), OUTCOME_KEY, settings.outcomes)
    return {
        name: append_rows(
            table=table,
            folder=settings.feedback_dir / settings.dataset / name,
            key_columns=key_columns,
            key_version=key.version,
            source=str(source),
        )
        for name, (table, key_columns, source) in checked.items()
    }


def _check_key(metadata_path: Path, key: Key) -> None:
    """One key for tables and log: under two keys the same person would look like two."""
    if not metadata_path.exists():
        return
    try:
        version = json.loads(metadata_path.read_text(encoding="utf-8"))["pseudonym"]["key_version"]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{metadata_path} names no key version; build the feature tables again") from None
    if version != key.version:
        raise InputError(
            f"the feature tables were made under key version {version!r}, the current key is "
            f"{key.version!r}; set RECSYS_HMAC_KEY to the key spark_jobs ran with"
        )


@hydra_command("feedback")
def main(cfg: Any) -> None:
    key = load_key()
    settings = FeedbackSettings(
        dataset=cfg.dataset.name,
        event_types=tuple(cfg.dataset.event_types),
        is_public=cfg.dataset.get("public_examples", False),
        outcomes=Path(cfg.outcomes) if cfg.outcomes else None,
        impressions=Path(cfg.impressions) if cfg.impressions else None,
        features_dir=Path(cfg.features_dir),
        feedback_dir=Path(cfg.feedback_dir),
    )
    if key.is_demo and not settings.is_public:
        print("warning: the demo key protects nobody; set RECSYS_HMAC_KEY for private data", file=sys.stderr)
    for name, appended in take_in(settings, key).items():
        where = f"-> {appended.path}" if appended.path else "nothing changed"
        print(f"{name}: {appended.num_new:,} new, {appended.num_known:,} already there; {where}")
