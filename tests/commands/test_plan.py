"""`python -m recsys plan` from settings alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from recsys.commands.plan import plan_of
from recsys.entry import conf_dir
from recsys.parallel.planner.plan import Plan
from recsys.parallel.planner.text import plan_lines
from recsys.schema import SCHEMA_VERSION, InputError


def planned(*overrides: str) -> tuple[Plan, str]:
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        config: Any = OmegaConf.to_container(
            compose("plan", overrides=["features_dir=none", *overrides]), resolve=True
        )
    return plan_of(config)


def test_every_stage_and_layout_is_there_and_what_does_not_fit_is_named() -> None:
    plan, origin = planned("experiment=demo", "nodes=64", "model=large_1b", "sizes.num_items=100000000")
    text = "\n".join(plan_lines(plan))
    assert (plan.run.num_gpus, plan.work.rows) == (512, 1)
    assert "less than a row a GPU" in origin
    for name in ("DDP", "ZeRO-1", "ZeRO-2", "ZeRO-3"):
        for tables in ("replicated", "sharded"):
            assert text.count(f"{name}, {tables} tables") >= 2
    unfit = {p.layout.name for p in plan.layouts if not p.fits}
    assert "DDP, replicated tables" in unfit
    assert all(name in text.split("do not fit")[1] for name in unfit)
    assert "predicted, nothing measured" in text
    assert "Llama 3" in text, "sources of the cluster's figures"


def test_the_cost_is_steps_times_time() -> None:
    """10^6 events in steps of 8 GPUs x 400 events: 313 steps."""
    plan, _ = planned(
        "nodes=1", "sizes.num_events=1000000", "batch.tokens_per_gpu=400", "trainer.max_epochs=1"
    )
    assert plan.events_of_a_step == 3200
    for p in plan.layouts:
        assert p.days == pytest.approx(313 * p.time.expected_s / 86_400)
        assert p.gpu_hours == pytest.approx(8 * 24 * p.days)
        assert 0 < p.time.mfu <= plan.cluster.attainable.compute
        alone = max(p.time.compute_s, p.time.memory_s, p.time.within_s, p.time.between_s)
        assert p.time.expected_s >= alone


def test_a_run_that_ends_at_a_step_costs_no_more() -> None:
    """As above, but 10 steps, not 313; a limit beyond the epoch's end is none."""
    sized = ("nodes=1", "sizes.num_events=1000000", "batch.tokens_per_gpu=400", "trainer.max_epochs=1")
    (plan, _), (whole, _) = (planned(*sized, f"trainer.max_steps={steps}") for steps in (10, 400))
    assert (plan.num_events, whole.num_events) == (32_000, 1_000_000)
    for p in plan.layouts:
        assert p.days == pytest.approx(10 * p.time.expected_s / 86_400)


def test_what_is_computed_again_is_no_use() -> None:
    """Slower steps by a third of the blocks' work, for the same learning."""
    large = ("model=large_1b", "nodes=8", "batch.tokens_per_gpu=16384")
    once, again = (planned(*large, f"model.activation_checkpointing={on}")[0] for on in ("false", "true"))
    for p, q in zip(once.layouts, again.layouts, strict=True):
        assert q.time.expected_s > 1.2 * p.time.expected_s
        assert q.time.mfu * q.time.expected_s == pytest.approx(p.time.mfu * p.time.expected_s)


def test_more_gpus_hold_less_each_and_sharded_tables_less_than_replicated() -> None:
    few, many = (planned(f"nodes={n}", "batch.tokens_per_gpu=2000")[0] for n in (1, 16))
    for p, q in zip(few.layouts, many.layouts, strict=True):
        assert q.memory.optimizer <= p.memory.optimizer
        assert q.memory.table <= p.memory.table
    by_layout = {(p.layout.stage, p.layout.tables): p.memory for p in many.layouts}
    for stage in range(3):
        assert by_layout[stage, "sharded"].total < by_layout[stage, "replicated"].total


def test_sizes_come_from_tables_where_there_are_any(tmp_path: Path) -> None:
    folder = tmp_path / "online_retail" / "v1"
    folder.mkdir(parents=True)
    metadata = {
        "schema_version": SCHEMA_VERSION,
        "version": "v1",
        "num_items": 3_000,
        "item_capacity": 3_600,
        "item_fields": [{"name": "band", "size": 9}],
        "item_numeric": ["log_price"],
        "num_tokens": 500,
        "profile_fields": [],
        "event_types": {"purchase": 1},
        "date_range": [0, 20 * 7 * 86_400],
        "split": {"kind": "time", "horizons_days": [7, 30]},
        "row_counts": {"rows_kept": 250_000},
        "has_time": True,
        "filter_seen": False,
    }
    (folder / "metadata.json").write_text(json.dumps(metadata))
    (tmp_path / "online_retail" / "latest").symlink_to("v1")
    plan, origin = planned(f"features_dir={tmp_path}", "trainer.max_epochs=3")
    assert (plan.size.table_rows, plan.work.candidates, plan.work.periods) == (3_601, 3_001, 21)
    assert plan.work.looks_at_all
    assert plan.num_events == 750_000
    assert "v1" in origin
    larger, origin = planned(f"features_dir={tmp_path}", "sizes.num_items=1000000")
    assert larger.size.table_rows == 1_200_001
    assert "num_items given" in origin


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["gpus=4", "nodes=2"], "gpus=4"),
        (["precision=fp8"], "precision=fp8"),
        (["nodes=0"], "nodes=.* at least 1"),
        (["nodes=-1"], "nodes=.* at least 1"),
        (["nodes=1.5"], "nodes"),
        (["nodes=abc"], "nodes"),
        (["gpus=0"], "gpus=0 .* at least 1"),
        (["model.table_optimizer=lion"], "table_optimizer"),
        (["trainer.max_epochs=-1"], "max_epochs"),
        (["batch.tokens_per_gpu=0"], "tokens_per_gpu=0 .* at least 1"),
        (["sizes.capacity=10"], "sizes.capacity"),
        (["sizes.words=3"], "words"),
        (["cluster.within_gb_s=0"], "cluster.within_gb_s=.* above 0"),
        (["cluster.memory_gb=-1"], "cluster.memory_gb=.* above 0"),
        (["cluster.gpus_per_node=0"], "cluster.gpus_per_node=0 .* at least 1"),
        (["trainer.max_epochs=0"], "trainer.max_epochs=0 .* at least 1"),
        (["trainer.max_epochs=1.5"], "trainer.max_epochs must be of type int"),
        (["trainer.max_steps=0"], "trainer.max_steps=0 .* at least 1"),
        (["trainer.accumulate_grad_batches=0"], "trainer.accumulate_grad_batches=0 .* at least 1"),
        (["sizes.field_sizes=[-3]"], "sizes.field_sizes=-3 .* at least 1"),
        (["sizes.field_sizes=[2.5]"], r"sizes.field_sizes\[0\] must be of type int"),
        (["sizes.num_event_types=0"], "sizes.num_event_types=0 .* at least 1"),
        (["sizes.num_numeric=-1"], "sizes.num_numeric=-1 .* at least 0"),
        (["sizes.num_tokens=-1"], "sizes.num_tokens=-1 .* at least 0"),
    ],
)
def test_what_cannot_be_planned_is_said_in_one_sentence(overrides: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        planned(*(f"+{o}" if "words=" in o else o for o in overrides))


def test_planning_needs_neither_deepspeed_nor_lightning() -> None:
    code = (
        "import sys, recsys.parallel.planner.text;"
        "print([m for m in ('deepspeed', 'pytorch_lightning') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
