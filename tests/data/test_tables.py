"""A version of the feature tables is known by what it was made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recsys.data.tables import FeatureTables
from recsys.schema import SCHEMA_VERSION, Table


def tables_with(folder: Path, **metadata: Any) -> FeatureTables:
    folder.mkdir()
    (folder / Table.METADATA).write_text(json.dumps({"schema_version": SCHEMA_VERSION, **metadata}))
    return FeatureTables(tables_dir=folder)


def test_the_fingerprint_is_that_of_the_content_wherever_it_lies(tmp_path: Path) -> None:
    here = tables_with(tmp_path / "here", version="v1", split={"hash": "a"})
    copied = tables_with(tmp_path / "copied", split={"hash": "a"}, version="v1")
    remade = tables_with(tmp_path / "remade", version="v1", split={"hash": "b"})
    assert here.fingerprint == copied.fingerprint != remade.fingerprint
    assert len(here.fingerprint) == 64
