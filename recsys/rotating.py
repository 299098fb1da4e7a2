"""Whether a data set is on its way from one pseudonym key to another. Standard library only.

While it is, some of its files name people by the old key and some by the new one. `rotating/keys.json` beside
the versions says so, from before the first file is changed until after the last; nothing that reads or writes
pseudonyms goes on meanwhile.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from recsys.schema import InputError

FOLDER = "rotating"  # with the map of the pseudonyms in it
KEYS = "keys.json"


@dataclass(frozen=True, kw_only=True)
class Rotating:
    """Versions of both keys, and the folder in `rotating/` with the map."""

    before: str
    after: str
    map: str


def rotating(root: Path) -> Rotating | None:
    """What `features/<dataset>` is on its way to; None where no key is being changed."""
    path = root / FOLDER / KEYS
    if not path.exists():
        return None
    try:
        return Rotating(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise InputError(f"{path} is damaged; restore it from a backup") from None


def check_not_rotating(root: Path) -> None:
    """InputError where some files carry pseudonyms under the old key still."""
    found = rotating(root)
    if found is not None:
        raise InputError(
            f"the pseudonym key of data set {root.name} is being changed from version {found.before!r} to"
            f" {found.after!r} and that has not ended; let job=rotate end, or run it again with both keys"
        )
