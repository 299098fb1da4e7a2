"""Ranks share the users of the validation cut and find what one rank would."""

from __future__ import annotations

from typing import Any

import pytest

from tests.parallel.ranks import on_ranks

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(900)]
HERE = "tests.parallel.judging"
UNTRAINED = [
    {"function": f"{HERE}:untrained", "table": table, "num_users": num_users}
    for table in ("replicated", "sharded")
    for num_users in (31, 257)  # of 257 one rank has 129, a chunk and one user
]
TRAINED = [
    {"function": f"{HERE}:trained", "strategy": strategy, "table": table}
    for strategy, table in (
        ("ddp", "replicated"),
        ("zero2", "replicated"),
        ("zero3", "replicated"),
        ("ddp", "sharded"),
    )
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """By case and rank."""
    pytest.importorskip("deepspeed")
    return on_ranks(2, [*UNTRAINED, *TRAINED], tmp_path_factory.mktemp("quick"))


def test_figures_are_those_of_one_rank(found: Any) -> None:
    for case, ranks in zip(UNTRAINED, found, strict=False):
        for rank in ranks:
            assert set(rank["alone"]) == {"ndcg@10/all", "ndcg@10/not_yet_bought", "gini"}
            assert rank["shared"] == pytest.approx(rank["alone"], abs=1e-12), case
        first, second = (rank["steps"] for rank in ranks)
        assert first == second == [128] * (case["num_users"] // 256) + [(case["num_users"] + 1) // 2 % 128]


def test_so_they_are_after_training(found: Any) -> None:
    for case, (first, second) in zip(TRAINED, found[len(UNTRAINED) :], strict=True):
        assert len(first["shared"]) == 2, "the second epoch trains on"
        assert first["shared"] == second["shared"], case
        assert first["shared"][0] != first["shared"][1]
        if first["alone"] is not None:
            assert first["shared"][1] == pytest.approx(first["alone"], abs=1e-6), case
