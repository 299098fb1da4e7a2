"""The comparison at toy size: the plain model learns, all figures come out, counts are those of the data."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import own_training, plain_sasrec, train_throughput
from benchmarks.contender import PRECISIONS, Turn, take_turn
from benchmarks.step_profile import kind_of
from benchmarks.train_workloads import Workload, drawn, open_workload, write_workload


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    folder = tmp_path_factory.mktemp("toy")
    write_workload(folder, "toy")
    return open_workload(folder)


def test_short_histories_have_the_median_that_was_asked() -> None:
    offsets, item_index, num_items = drawn(5_000, 100, median=6, spread=0.7, least=2)
    assert np.median(np.diff(offsets)) == 6
    assert (item_index.min(), item_index.max()) == (1, num_items)


def test_the_newest_events_are_kept(toy: Workload) -> None:
    offsets, item_index, _ = drawn(300, 50, median=6, spread=0.7, least=2)
    user = int(np.diff(offsets).argmax())
    assert np.diff(offsets)[user] > toy.size.max_length
    kept = toy.item_index[toy.offsets[user] : toy.offsets[user + 1]]
    newest = item_index[offsets[user + 1] - toy.size.max_length : offsets[user + 1]]
    assert kept.tolist() == newest.tolist()


@pytest.mark.parametrize("loss", ["full", "sampled"])
def test_an_epoch_of_either_has_the_targets_of_the_data(toy: Workload, loss: str) -> None:
    expected = int((np.diff(toy.offsets) - 1).sum())
    ours = own_training.training(toy, loss=loss, precision="fp32")
    epoch, seen = 0, 0
    while epoch == 0:
        batch = next(ours.batches)
        epoch = batch.position[0]
        seen += ours.num_targets(batch) if epoch == 0 else 0
    assert seen == expected
    plain = plain_sasrec.training(toy, loss=loss, precision="fp32")
    rows = toy.size.batch_rows
    dropped = (len(toy.offsets) - 1) % rows
    batches = [next(plain.batches) for _ in range((len(toy.offsets) - 1) // rows)]
    assert expected - dropped * toy.size.max_length < sum(map(plain.num_targets, batches)) <= expected


def test_the_plain_model_learns_what_follows_what() -> None:
    torch.manual_seed(0)
    size = train_throughput.SIZES["toy"]
    model = plain_sasrec.SasRec(size, num_items=6)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    item_BL = torch.stack([(torch.arange(8) + start) % 6 + 1 for start in range(6)])
    item_BL[0, 5:] = plain_sasrec.PAD
    for _ in range(150):
        loss = model.loss(item_BL, loss="full")
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    assert model.loss(item_BL, loss="full").item() < 0.1
    longer_BL = torch.cat([item_BL, torch.zeros(6, 3, dtype=torch.int64)], 1)
    torch.testing.assert_close(model.loss(longer_BL, loss="full"), model.loss(item_BL, loss="full"))


def test_flops_of_one_row_by_hand(toy: Workload) -> None:
    row = Workload(toy.size, np.array([0, 3]), np.array([1, 2, 3]), 50, toy.folder)
    width, positions = 16, 2
    linear = 2 * 6 * width * width * positions  # of one block; a multiply and an add
    attention = 2 * 2 * positions * positions * width
    forward = 2 * (linear + attention) + 2 * 50 * width * positions
    assert plain_sasrec.flops_per_target(row, loss="full") * positions == 3 * forward


def test_a_turn_counts_what_its_steps_did(toy: Workload) -> None:
    training = plain_sasrec.training(toy, loss="full", precision="fp32")
    assert take_turn(training, least_s=0).num_steps <= 1
    turn = take_turn(training, least_s=0.05)
    assert isinstance(turn, Turn)
    assert turn.num_targets >= turn.num_steps > 0
    assert turn.elapsed_s >= max(turn.waited_s, 0.05)


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::addmm", "matrix products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "attention"),
        ("aten::index_put_", "lookups and their gradients"),
        ("aten::_log_softmax", "softmax and losses"),
        ("aten::mul", "other elementwise work"),
    ],
)
def test_operators_by_kind(operator: str, kind: str) -> None:
    assert kind_of(operator) == kind


def test_the_program_ends_with_its_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--sizes", "toy", "--losses", "full", "--rounds", "1", "--seconds", "0.05", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["train_throughput", *asked, "--precision", "fp32"])
    train_throughput.main()
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert min(figures[f"toy_full_peak_gflops_{precision}"] for precision in PRECISIONS) > 0
    for name in ("targets_per_s", "over_plain", "memory_over_plain", "data_wait", "of_peak"):
        assert figures[f"toy_full_own_training_fp32_{name}"] >= 0, name


def test_the_profile_is_markdown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = ["--profile", "--sizes", "toy", "--losses", "full", "--rounds", "1", "--precision", "fp32"]
    monkeypatch.setattr(sys, "argv", ["train_throughput", *asked])
    train_throughput.main()
    said = capsys.readouterr().out
    assert "| where the time goes | ms a step | share |" in said
    assert "| matrix products |" in said
