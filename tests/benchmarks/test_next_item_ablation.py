"""The ablation's own parts: trials that are consistent with themselves, and a film table with the graph."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from benchmarks.next_item_ablation import CHANGES, Change, write_graph
from benchmarks.next_item_trial import TRIALS
from recsys.data.plan import ElasticLoader
from recsys.module import UserModule
from recsys.nn.own_items import own_items
from recsys.nn.user_model import UserModel
from tests.nn.small_model import catalogue, histories, small_model
from tests.test_module import PLAN, module, samples_of


@pytest.fixture
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials change classes: the test's end puts them back."""
    for owner, names in (
        (UserModel, ("item_vectors", "user_vectors", "position_vectors")),
        (UserModule, ("_next_items",)),
    ):
        for name in names:
            monkeypatch.setattr(owner, name, getattr(owner, name))


@pytest.mark.usefixtures("as_it_was")
def test_the_dot_product_is_the_same_at_once_and_one_by_one() -> None:
    TRIALS["dot product"]()
    model, history = small_model(has_time=False, repeats=False), histories()
    row_Q, length_Q = torch.tensor([0] * 6 + [1] * 4), torch.tensor([*range(1, 7), *range(1, 5)])
    with torch.no_grad():
        states = model(history, catalogue())
        one_by_one_QS = model.user_vectors(states, own_items(history, row_Q, length_Q))[:, :-1]
        at_once_NS = model.position_vectors(states, history, row_Q * 7 + length_Q)
    torch.testing.assert_close(at_once_NS, one_by_one_QS, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(at_once_NS.norm(dim=-1), torch.ones(len(row_Q)), atol=1e-2)


@pytest.mark.usefixtures("as_it_was")
@pytest.mark.parametrize("trial", ["gbce", "label smoothing", "dense targets"])
def test_a_trial_is_another_loss_that_teaches(trial: str) -> None:
    num_negatives = 5 if trial == "gbce" else 1000
    batch = next(
        iter(ElasticLoader(samples=samples_of(has_time=False, num_negatives=num_negatives), config=PLAN))
    )
    taught = module(has_time=False)
    plain = taught.losses(batch)["items"].item()
    TRIALS[trial]()
    loss = taught.losses(batch)["items"]
    loss.backward()
    assert torch.isfinite(loss)
    assert loss.item() != pytest.approx(plain)
    gradient = taught.model.user_projection.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_every_change_names_a_trial_that_there_is() -> None:
    assert {change.trial for change in CHANGES.values()} <= set(TRIALS)
    assert CHANGES["base"] == Change()


def test_the_graph_is_what_at_least_two_films_share(tmp_path: Path) -> None:
    for name in ("ml-1m", "kg-mkr"):
        (tmp_path / name).mkdir()
    pq.write_table(pa.table({"movie_id": [10, 11, 12]}), tmp_path / "ml-1m" / "movies.parquet")
    with gzip.open(tmp_path / "kg-mkr" / "movie_item_index2entity_id.txt.gz", "wt") as file:
        file.write("10\t0\n11\t1\n")
    with gzip.open(tmp_path / "kg-mkr" / "movie_kg.txt.gz", "wt") as file:
        file.write("0\tfilm.film.star\t7\r\n1\tfilm.film.star\t7\n1\tfilm.film.writer\t7\n")
    found = pq.read_table(write_graph(tmp_path, tmp_path / "films.parquet"))
    assert found["graph"].to_pylist() == [["star 7"], ["star 7"], []]
