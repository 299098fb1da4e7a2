"""What a closed loop printed, read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recsys.evaluation.loop import read_loop
from recsys.schema import InputError


def figures() -> dict[str, Any]:
    return {
        "null_world/round1/values": {"dialled": 3.0, "myopic_revenue": 4.0},
        "default/round2/gain": 0.5,
        "default/round2/gain/low": 0.1,
        "default/round2/gain/high": 0.9,
        "default/round2/values": {"dialled": 7.5, "accuracy": float("nan")},
        "default/round1/share_gain": float("nan"),
        "default/round1/dials": [0.2, 0.4],
        "default/round1/seeds": [3, 4],
        "default/round1/ndcg_loss": 0.011,
        "default/round1/something_new": {"a": 1},
    }


def test_rounds_come_in_order_with_what_is_known_of_each(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("default seed 3 round 1: dial 0.2\n" + json.dumps(figures()) + "\n")
    rows = read_loop(path)
    assert [(row["world"], row["round"]) for row in rows] == [
        ("null_world", 1),
        ("default", 1),
        ("default", 2),
    ]
    assert rows[0]["values"] == {"dialled": 3.0, "myopic_revenue": 4.0}
    assert (rows[1]["seeds"], rows[1]["dials"]) == ([3, 4], [0.2, 0.4])
    assert rows[1]["figures"] == {"ndcg_loss": {"value": 0.011, "low": None, "high": None}}
    assert rows[2]["figures"] == {"gain": {"value": 0.5, "low": 0.1, "high": 0.9}}
    assert rows[2]["values"] == {"dialled": 7.5}


def test_a_file_of_the_object_alone_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text(json.dumps(figures(), indent=1))
    assert len(read_loop(tmp_path / "out.json")) == 3


@pytest.mark.parametrize("text", ["", "hours of work\n", "[1, 2]", '{"loop": {}}', '{"gain": 1}\nand a word'])
def test_a_file_without_rounds_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "out.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=r"holds no rounds of a closed loop"):
        read_loop(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"loop=.*gone.txt cannot be read \(No such file"):
        read_loop(tmp_path / "gone.txt")
    with pytest.raises(InputError, match="cannot be read"):
        read_loop(tmp_path)
