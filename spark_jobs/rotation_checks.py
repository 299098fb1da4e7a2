"""Whether the pseudonym key of a data set can be changed: what is known without Spark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from recsys.pseudonym import KEY_VARIABLE, PREVIOUS_KEY_VARIABLE, Key, load_key
from recsys.rotating import rotating
from recsys.schema import SCHEMA_VERSION, InputError, Table
from recsys.sealed import AES_VARIABLE, AesKey, load_aes_key
from recsys.tombstones import TOMBSTONES, checked_audit, tombstones
from spark_jobs.holders import (
    LOGS,
    bring_back,
    check_nothing_recommended,
    feedback_files,
    output_files,
    versions,
)
from spark_jobs.keys import log_key_version
from spark_jobs.publish import read_document
from spark_jobs.settings import JobSettings


@dataclass(frozen=True, kw_only=True)
class Ready:
    """Both keys, and that of what is sealed where something is."""

    root: Path
    old: Key
    new: Key
    aes_key: AesKey | None


@dataclass(frozen=True, kw_only=True)
class Holders:
    """Files that name people. `versions` and `logs` (files of the feedback) with the version of their key."""

    versions: Mapping[Path, str]
    logs: Mapping[Path, str]
    outputs: tuple[Path, ...]

    def versions_of(self, key_version: str) -> list[Path]:
        return [folder for folder, version in self.versions.items() if version == key_version]

    def logs_of(self, key_version: str) -> list[Path]:
        return [file for file, version in self.logs.items() if version == key_version]


def find_holders(settings: JobSettings) -> Holders:
    root = Path(settings.features_dir) / settings.dataset.name
    return Holders(
        versions={folder: _key_version(folder) for folder in versions(root)},
        logs={file: log_key_version(file) for log in LOGS for file in feedback_files(settings, log)},
        outputs=tuple(output_files(settings)),
    )


def ready_to_rotate(settings: JobSettings) -> Ready:
    """InputError where a key is missing or wrong, where there is nothing to do, while `recommend` runs."""
    root = Path(settings.features_dir) / settings.dataset.name
    old, new = load_key(variable=PREVIOUS_KEY_VARIABLE), load_key()
    if new.is_demo:
        raise InputError(
            f"job=rotate needs the new key in {KEY_VARIABLE} or {KEY_VARIABLE}_FILE, and the old one in"
            f" {PREVIOUS_KEY_VARIABLE} or {PREVIOUS_KEY_VARIABLE}_FILE"
        )
    if old.secret == new.secret or old.version == new.version:
        raise InputError(
            f"{PREVIOUS_KEY_VARIABLE} and {KEY_VARIABLE} hold the same key, or keys of the same version"
            f" {new.version!r}; set them to the old one and the new one"
        )
    _check_begun(root, old, new)
    checked_audit(root)
    check_nothing_recommended(settings)
    bring_back(settings)
    holders = find_holders(settings)
    _check_versions(holders, old, new)
    _check_tombstones(root, old, new)
    erased = tombstones(root).get(old.version)
    if not (holders.versions_of(old.version) or holders.logs_of(old.version) or erased or rotating(root)):
        raise InputError(
            f"data set {settings.dataset.name} has nothing under key version {old.version!r}"
            f" ({PREVIOUS_KEY_VARIABLE}); there is nothing to rotate"
        )
    return Ready(root=root, old=old, new=new, aes_key=_aes_key(holders.versions_of(old.version)))


def _key_version(version: Path) -> str:
    metadata = read_document(version, Table.METADATA)
    if metadata.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{version} has schema version {metadata.get('schema_version')} and this program knows"
            f" {SCHEMA_VERSION}; remove it, then run this again"
        )
    return str(metadata["pseudonym"]["key_version"])


def _check_begun(root: Path, old: Key, new: Key) -> None:
    begun = rotating(root)
    if begun is not None and (begun.before, begun.after) != (old.version, new.version):
        raise InputError(
            f"data set {root.name} is on its way from key version {begun.before!r} to {begun.after!r}, and"
            f" the keys at hand are of {old.version!r} ({PREVIOUS_KEY_VARIABLE}) and {new.version!r}"
            f" ({KEY_VARIABLE}); run job=rotate with those keys first"
        )


def _check_versions(holders: Holders, old: Key, new: Key) -> None:
    for holder, version in {**holders.versions, **holders.logs}.items():
        if version not in (old.version, new.version):
            raise InputError(
                f"{holder} holds pseudonyms under key version {version!r}, which is neither that of"
                f" {PREVIOUS_KEY_VARIABLE} ({old.version!r}) nor that of {KEY_VARIABLE} ({new.version!r});"
                f" set the former to the key it was made with, or move {holder} away"
            )


def _check_tombstones(root: Path, old: Key, new: Key) -> None:
    """InputError where more people were erased under a third key than under the old one or the new one."""
    sizes = {version: len(user_keys) for version, user_keys in tombstones(root).items()}
    known = max(sizes.get(key.version, 0) for key in (old, new))
    for version, size in sizes.items():
        if size > known:
            raise InputError(
                f"{root / TOMBSTONES} names {size:,} erased people under key version {version!r} and"
                f" {known:,} under {old.version!r}; run job=erase with all of them again, then this"
            )


def _aes_key(folders: list[Path]) -> AesKey | None:
    """That of what is sealed in these versions; None where nothing is."""
    key = None
    for folder in folders:
        files = (folder / Table.SEALED).glob("*.parquet")
        if not sum(pq.read_metadata(file).num_rows for file in files):
            continue
        key = load_aes_key()
        version = read_document(folder, Table.METADATA).get("sealed", {}).get("key_version")
        if version != key.version:
            raise InputError(
                f"{folder / Table.SEALED} was sealed under key version {version!r}, {AES_VARIABLE} has"
                f" {key.version!r}; set it to the key it was sealed with, or remove that version"
            )
    return key
