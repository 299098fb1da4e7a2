"""Reads the file of an offline W&B run: LevelDB's log format (its log_format.md) with W&B's own records."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

_FILE_HEADER, _BLOCK, _CHUNK_HEADER = 7, 32768, 7
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[Any]:
    """Every record, its checksum checked."""
    content, at, parts = path.read_bytes(), _FILE_HEADER, b""
    assert content[:4] == b":W&B"
    while at < len(content):
        if _BLOCK - at % _BLOCK < _CHUNK_HEADER:  # the rest of a block that holds no header
            at += _BLOCK - at % _BLOCK
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        data = content[at + _CHUNK_HEADER : at + _CHUNK_HEADER + length]
        assert int.from_bytes(content[at : at + 4], "little") == zlib.crc32(bytes([kind]) + data)
        at += _CHUNK_HEADER + length
        parts = data if kind in (_WHOLE, _FIRST) else parts + data
        if kind in (_WHOLE, _LAST):
            yield Record.FromString(parts)


def history(path: Path) -> list[dict[str, Any]]:
    """Logged rows."""
    return [_items(record.history.item) for record in records(path) if record.HasField("history")]


def config(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for record in records(path):
        found |= _items(record.config.update)
    return found


def exit_code(path: Path) -> int | None:
    """None where the file has no end."""
    codes = [record.exit.exit_code for record in records(path) if record.HasField("exit")]
    return codes[-1] if codes else None


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
