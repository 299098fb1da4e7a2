"""The true value of every policy of a closed loop, round by round, as a benchmark in a known market found it.

`python -m benchmarks.closed_loop > FILE` ends with one line of JSON, a flat object:

    <world>/round<n>/values            {policy: true value a user, mean over seeds}
    <world>/round<n>/<figure>          and .../<figure>/low, .../<figure>/high: the ends of its interval over
                                       seeds; gain, gain_by_dial, over_myopic, attainable (money a user),
                                       share_gain, share_gain_by_dial, share_over_myopic (of the attainable),
                                       ndcg_loss (a share)
    <world>/round<n>/dials, .../seeds  lists, an entry a seed

A file that holds this object alone is read as well. Whatever else an object holds is left alone, and a figure
that it lacks is shown as missing.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from recsys.schema import InputError

FIGURES = (
    *("gain", "gain_by_dial", "over_myopic", "attainable"),
    *("share_gain", "share_gain_by_dial", "share_over_myopic", "ndcg_loss"),
)
_KEY = re.compile(r"(?P<world>.+)/round(?P<round>\d+)/(?P<figure>.+)")


def read_loop(path: Path) -> list[dict[str, Any]]:
    """A row a world and round: world, round, seeds, dials, values {policy: money a user} and, of `FIGURES`,
    figures {name: {value, low, high}}. Raises InputError where the file is not there or holds no such object.
    """
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for key, value in _figures(path).items():
        at = _KEY.fullmatch(key)
        if at is not None:
            found.setdefault((at["world"], int(at["round"])), {})[at["figure"]] = value
    if not found:
        raise InputError(
            f"loop={path} holds no rounds of a closed loop; hand in what `python -m benchmarks.closed_loop` "
            "printed"
        )
    worlds = list(dict.fromkeys(world for world, _ in found))
    order = sorted(found, key=lambda at: (worlds.index(at[0]), at[1]))
    return [_row(world, number, found[world, number]) for world, number in order]


def _row(world: str, number: int, given: dict[str, Any]) -> dict[str, Any]:
    values = given.get("values")
    ends = {"value": "", "low": "/low", "high": "/high"}
    return {
        "world": world,
        "round": number,
        "seeds": _list(given.get("seeds")),
        "dials": _list(given.get("dials")),
        "values": {
            name: known
            for name, value in (values.items() if isinstance(values, dict) else ())
            if (known := _number(value)) is not None
        },
        "figures": {
            name: {end: _number(given.get(name + suffix)) for end, suffix in ends.items()}
            for name in FIGURES
            if _number(given.get(name)) is not None
        },
    }


def _figures(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise InputError(f"loop={path} cannot be read ({reason}); name the file of its output") from None
    for candidate in (text, text.rpartition("\n")[2]):
        try:
            loaded = json.loads(candidate)
        except ValueError:
            continue
        if isinstance(loaded, dict):
            return loaded
    return {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        return None
    return float(value)
