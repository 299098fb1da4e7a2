"""Who has been erased from a data set, and the audit line of each time. Standard library only.

Two files lie beside the versions of the feature tables. `erased.txt` holds a line `key_version user_key` for
every person, and keeps them out of every later run; the pseudonym is all that is left of them. `audit.jsonl`
is a chain: each line carries the SHA-256 of the line before it, so that none can be changed or taken out
unseen, but for the last ones.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recsys.schema import InputError

TOMBSTONES = "erased.txt"
AUDIT = "audit.jsonl"
_BEGINNING = "0" * 64


def erased_keys(root: Path, key_version: str) -> frozenset[str]:
    """Pseudonyms of the erased people of `features/<dataset>` under the key in use.

    InputError where people were erased under other keys only: under a new key they would come back.
    """
    by_version = tombstones(root)
    before = max((len(keys) for keys in by_version.values()), default=0)
    keys = by_version.get(key_version, frozenset())
    if len(keys) < before:
        raise InputError(
            f"{root / TOMBSTONES} names {before:,} erased people under another pseudonym key and "
            f"{len(keys):,} under {key_version!r}; run job=rotate from that key to this one, or job=erase "
            "with all of them again, then this"
        )
    return keys


def tombstones(root: Path) -> dict[str, frozenset[str]]:
    """Pseudonyms of the erased people by key version."""
    path = root / TOMBSTONES
    found: dict[str, set[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        key_version, _, user_key = line.rpartition(" ")
        found.setdefault(key_version, set()).add(user_key)
    return {version: frozenset(keys) for version, keys in found.items()}


def add_tombstones(root: Path, key_version: str, user_keys: Iterable[str]) -> int:
    """Write down those that are not there yet, on disk before this returns; their number."""
    new = sorted(set(user_keys) - tombstones(root).get(key_version, frozenset()))
    root.mkdir(parents=True, exist_ok=True)
    _append(root / TOMBSTONES, tombstone_lines(key_version, new))
    return len(new)


def tombstone_lines(key_version: str, user_keys: Iterable[str]) -> str:
    """As they stand in `erased.txt`."""
    return "".join(f"{key_version} {user_key}\n" for user_key in sorted(user_keys))


def add_audit_line(root: Path, content: dict[str, Any]) -> str:
    """Append `content` to the chain; returns the line's own hash. InputError where the chain is broken."""
    previous = checked_audit(root)
    line = json.dumps({**content, "previous": previous}, sort_keys=True, ensure_ascii=False)
    _append(root / AUDIT, line + "\n")
    return _digest(line)


def checked_audit(root: Path) -> str:
    """Hash of the last line; InputError names the first line that does not follow from the one before it."""
    path, previous = root / AUDIT, _BEGINNING
    if not path.exists():
        return previous
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            follows = json.loads(line)["previous"] == previous
        except (ValueError, KeyError, TypeError):
            follows = False
        if not follows:
            raise InputError(
                f"{path}: line {number} does not follow from the line before it: the log was changed; "
                "restore it from a backup"
            )
        previous = _digest(line)
    return previous


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _digest(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()
