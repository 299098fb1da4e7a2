"""Which input came in with which batch: what an appending run need not read, and a full run plays again.

A batch is the input that one run saw first: raw files and outcomes handed back, by path and SHA-256, or rows
of a table by a column that only grows (`events.appended_by`). Indices are given out batch by batch, so that
the order of batches decides them. `ledger.json` lies in each version.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from recsys.disk import whole_file
from recsys.schema import InputError, Table
from spark_jobs.dropped import columns_read
from spark_jobs.settings import Dataset, JobSettings, SourceTable
from spark_jobs.sources import fingerprint, is_local, local_files
from spark_jobs.spans import Mark, Span, is_before

EVENTS, OUTCOMES = "events", "outcomes"
UPTO = "upto"  # an input that has it is a span of rows
InputName = tuple[str, str, Mark | None]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """`ingested_at`: Unix seconds, later events were rejected; `inputs`: kind, path, bytes and sha256, or the
    span of a table's rows.
    """

    number: int
    ingested_at: int
    inputs: list[dict[str, Any]]

    def files(self, kind: str) -> list[Path]:
        listed = (entry for entry in self.inputs if entry["kind"] == kind and UPTO not in entry)
        return [Path(entry["path"]) for entry in listed]

    @property
    def span(self) -> Span | None:
        """Of the events; None where files tell which they are."""
        spans = [Span(above=entry["above"], upto=entry[UPTO]) for entry in self.inputs if UPTO in entry]
        return spans[0] if spans else None


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """`shape`: hash of the settings that lines depend on; `is_based`: the first batch did not begin with
    index 1, so that the indices of the last version are needed; `counts`: of all lines that came in.
    """

    shape: str
    is_based: bool
    batches: tuple[Batch, ...]
    counts: dict[str, float] = field(default_factory=dict)

    def inputs(self) -> dict[InputName, dict[str, Any]]:
        return {_name(entry): entry for batch in self.batches for entry in batch.inputs}

    def known_files(self) -> dict[str, dict[str, Any]]:
        """Path, bytes and sha256 of its files, by path."""
        listed = [dict(entry) for entry in self.inputs().values() if UPTO not in entry]
        for entry in listed:
            del entry["kind"]
        return {entry["path"]: entry for entry in listed}

    @property
    def mark(self) -> Mark | None:
        """Up to which rows of the table have come in."""
        spans = [batch.span for batch in self.batches if batch.span is not None]
        return spans[-1].upto if spans else None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`ledger`: as this run leaves it, but for its counts; `reads`: batches whose input is read; `stored`:
    the version that holds the lines of the others; `newest`: the batch that came in after earlier ones.
    """

    ledger: Ledger
    reads: tuple[Batch, ...]
    stored: Path | None = None
    newest: int | None = None

    @property
    def replays(self) -> bool:
        """Whether indices are given out anew, batch by batch."""
        return self.stored is None and not self.ledger.is_based

    def batch_of(self, kind: str) -> dict[Path, int]:
        """The files of that kind to be read, with their batches."""
        return {file: batch.number for batch in self.reads for file in batch.files(kind)}

    @property
    def spans(self) -> dict[int, Span]:
        """The rows of the events' table to be read, by batch."""
        return {batch.number: batch.span for batch in self.reads if batch.span is not None}

    @property
    def reads_events(self) -> bool:
        return self.stored is None or bool(self.batch_of(EVENTS) or self.spans)


def plan(
    settings: JobSettings,
    previous: tuple[Path, Mapping[str, Any]] | None,
    outcomes: SourceTable | None,
    *,
    key_version: str,
    now: int,
    mark: Mark | None = None,
) -> Plan:
    """What this run reads. InputError where `mode=incremental` cannot go on from the last version.

    `mark`: from `newest_mark`.
    """
    dataset = settings.dataset
    shape = shape_of(dataset, key_version)
    before = read_ledger(previous[0]) if previous else None
    if settings.mode == "incremental":
        _check_can_append(settings, before, shape)
    is_listed = mark is not None or is_local(dataset.events.path)
    if before is None or before.shape != shape or not is_listed:
        return _anew(_found(dataset, outcomes, mark), shape, is_based=previous is not None, now=now)
    found = _found(dataset, outcomes, mark, known=before)
    now_there = {_name(entry): entry for entry in found}
    known = before.inputs()
    new = [entry for name, entry in now_there.items() if name not in known]
    changed = [entry["path"] for name, entry in known.items() if now_there.get(name, entry) != entry]
    gone = [entry for name, entry in known.items() if name not in now_there]
    if settings.mode == "full" and (changed or gone):
        return _anew(_found(dataset, outcomes, mark), shape, is_based=True, now=now)
    version = previous[0].name  # type: ignore[index]
    if changed:
        raise InputError(
            f"{changed[0]} is another file than the one that version {version} was made of;"
            " hand corrections in as rows of a new file, or run mode=full"
        )
    if any(UPTO in entry for entry in gone):
        raise InputError(
            f"{dataset.events.path} ends with {dataset.events.appended_by} {mark}, and version {version} was"
            f" made of rows up to {before.mark}; rows are gone or were numbered anew: run mode=full"
        )
    number = len(before.batches) + 1
    added = (Batch(number=number, ingested_at=now, inputs=new),) if new else ()
    ledger = dataclasses.replace(before, batches=before.batches + added)
    newest = number if new else None
    if settings.mode == "full":
        return Plan(ledger=ledger, reads=ledger.batches, newest=newest)
    if not new:
        raise InputError(
            f"every {'file' if mark is None else 'row'} of {dataset.events.path} is in version {version}"
            " already; there is nothing to append"
        )
    if (previous[0] / Table.LINES).is_dir():  # type: ignore[index]
        return Plan(ledger=ledger, reads=added, stored=previous[0], newest=newest)  # type: ignore[index]
    if gone:
        raise InputError(
            f"{gone[0]['path']} is gone and version {version} keeps no lines, which only mode=incremental"
            " leaves; restore it for this run, or run mode=full"
        )
    return Plan(ledger=ledger, reads=ledger.batches, newest=newest)


def read_ledger(version: Path) -> Ledger | None:
    """None where the version has none; InputError where it is damaged."""
    path = version / Table.LEDGER
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        batches = tuple(Batch(**batch) for batch in content.pop("batches"))
        return Ledger(**content, batches=batches)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged; remove it and run mode=full to begin a new one") from error


def rebase(
    version: Path, rewritten: Sequence[Path], *, shapes: Mapping[str, str] = MappingProxyType({})
) -> None:
    """After people went or got other names: `rewritten` files are the same input still, and no replay would
    give out the indices that are there. `shapes`: those that are others now.
    """
    ledger = read_ledger(version)
    if ledger is None:
        return
    paths = {str(file) for file in rewritten}
    batches = [
        dataclasses.replace(
            batch,
            inputs=[
                {"kind": entry["kind"], **fingerprint(Path(entry["path"]))}
                if entry["path"] in paths and UPTO not in entry
                else entry
                for entry in batch.inputs
            ],
        )
        for batch in ledger.batches
    ]
    shape = shapes.get(ledger.shape, ledger.shape)
    changed = dataclasses.replace(ledger, shape=shape, batches=tuple(batches), is_based=True)
    with whole_file(version / Table.LEDGER) as path:
        path.write_text(json.dumps(dataclasses.asdict(changed), indent=2), encoding="utf-8")


def _check_can_append(settings: JobSettings, before: Ledger | None, shape: str) -> None:
    if settings.dataset.events.appended_by is None and not is_local(settings.dataset.events.path):
        raise InputError(
            f"mode=incremental tells new files of {settings.dataset.events.path} by names and hashes, so"
            " they must lie on this machine's file systems; name a column that grows with every row in"
            " events.appended_by, or run mode=full"
        )
    if settings.rotate_key:
        raise InputError("rotate_key=true makes every pseudonym anew; run it with mode=full")
    if before is not None and before.shape != shape:
        raise InputError(
            f"the settings by which data set {settings.dataset.name} is read are not those of its last"
            " version; run mode=full once to read everything by them"
        )


def _anew(found: list[dict[str, Any]], shape: str, *, is_based: bool, now: int) -> Plan:
    """All input as one batch."""
    batch = Batch(number=1, ingested_at=now, inputs=found)
    return Plan(ledger=Ledger(shape=shape, is_based=is_based, batches=(batch,)), reads=(batch,))


def _found(
    dataset: Dataset, outcomes: SourceTable | None, mark: Mark | None, *, known: Ledger | None = None
) -> list[dict[str, Any]]:
    """All input that is there now. Of a table the spans that are `known` and what has come after them, or one
    span of all where it ends before that.
    """
    handed_back = _inventory(outcomes, OUTCOMES) if outcomes else []
    if mark is None:
        return _inventory(dataset.events, EVENTS) + handed_back
    whole = {"kind": EVENTS, "path": dataset.events.path, "above": None, UPTO: mark}
    if known is None or known.mark is None or is_before(mark, known.mark):
        return [whole, *handed_back]
    spans = [entry for entry in known.inputs().values() if UPTO in entry]
    since = [{**whole, "above": known.mark}] if mark != known.mark else []
    return [*spans, *since, *handed_back]


def _name(entry: Mapping[str, Any]) -> InputName:
    return entry["kind"], entry["path"], entry.get(UPTO)


def _inventory(source: SourceTable, kind: str) -> list[dict[str, Any]]:
    files = local_files(source.path) if is_local(source.path) else []
    return [{"kind": kind, **fingerprint(file)} for file in files]


def shape_of(dataset: Dataset, key_version: str) -> str:
    """Of all settings that say how a raw line is read; where the files lie is none of them, nor what is
    dropped.
    """
    settings = dataclasses.asdict(dataclasses.replace(dataset, columns=columns_read(dataset)))
    parts = {
        name: settings[name]
        for name in ("columns", "event_types", "cleaning", "sensitive", "join", "has_time")
    }
    # settings that came later: where they are not used, earlier versions are gone on with
    parts["columns"] = {
        name: value
        for name, value in parts["columns"].items()
        if value is not None or name not in ("dwell_s", "query")
    }
    if dataset.event_types_without_item:
        parts["event_types_without_item"] = dataset.event_types_without_item
    parts["events"] = {name: value for name, value in settings["events"].items() if name != "path"}
    for part in (parts["events"], parts["join"] or {}):
        if part.get("appended_by") is None:
            part.pop("appended_by", None)
    content = json.dumps([parts, key_version], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
