"""Every stage of ZeRO walks where DDP walks, on two real ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from recsys.parallel.strategy import zero
from recsys.schema import InputError
from tests.parallel.ranks import on_ranks
from tests.test_module import module

TRAIN = "tests.parallel.training:train"
BF16_APART = 0.02  # of a loss; 0.009 was measured, and 0.005 between DDP in bf16 and in float32


def distributed(test: Any) -> Any:
    return pytest.mark.distributed(pytest.mark.timeout(1200)(test))


SETTINGS = {
    "plain": {},
    "accumulated": {"accumulate": 4},
    "clipped": {"clip": 0.1},
    "accumulated and clipped": {"accumulate": 4, "clip": 0.1},
    "activation checkpointing": {"activation_checkpointing": True},
    "AdamW": {"optimizer": "adamw", "lr": 0.001, "clip": 1.0},
    "bf16": {"precision": "bf16-mixed", "clip": 0.1},
    "bf16 AdamW": {"precision": "bf16-mixed", "optimizer": "adamw", "lr": 0.001, "clip": 1.0},
}
OFFLOADED = {  # beside DDP's "AdamW"
    ("zero1", "offloaded"): {"offload_optimizer": True},
    ("zero2", "offloaded"): {"offload_optimizer": True},
    ("zero3", "offloaded"): {"offload_optimizer": True},
    ("zero3", "both offloaded"): {"offload_optimizer": True, "offload_parameters": True},
    ("zero3", "parameters offloaded"): {"offload_parameters": True},
}
ZERO = ("zero1", "zero2", "zero3")
UNEVEN = [(name, n) for name in ("ddp", "zero1", "zero2", "zero3", "zero2, sharded") for n in (1, 3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(strategy, setting) -> what each of two ranks kept of 20 steps."""
    pytest.importorskip("deepspeed")
    cases: dict[tuple[str, str], dict[str, Any]] = {
        (strategy, name): SETTINGS[name] for strategy in ("ddp", *ZERO) for name in SETTINGS
    }
    cases |= {key: SETTINGS["AdamW"] | options for key, options in OFFLOADED.items()}
    for strategy in ZERO:  # DeepSpeed's own checkpoint says what the weights are
        saved = {"save": str(folder / f"{strategy}.ckpt"), "save_at": 20}
        cases[strategy, "bf16 AdamW"] = cases[strategy, "bf16 AdamW"] | saved
    made = [{"function": TRAIN, "strategy": strategy} | case for (strategy, _), case in cases.items()]
    return dict(zip(cases, on_ranks(2, made, folder, timeout_s=1100), strict=True))


@pytest.fixture(scope="module")
def uneven(folder: Path) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """(strategy, accumulation) -> what each of three ranks kept of 20 steps, beside one rank alone."""
    pytest.importorskip("deepspeed")

    def case(strategy: str, accumulate: int, num_ranks: int) -> dict[str, Any]:
        table = {"table_optimizer": "rowwise_adagrad"} if "sharded" in strategy else {}
        name = strategy.split(",")[0].replace("alone", "ddp")
        return {"function": TRAIN, "strategy": name, "num_ranks": num_ranks, "accumulate": accumulate} | table

    alone = [("alone", 1), ("alone, sharded", 1)]
    made = [
        on_ranks(num_ranks, [case(*key, num_ranks) for key in keys], folder / f"{num_ranks}")
        for num_ranks, keys in ((3, UNEVEN), (1, alone))
    ]
    return dict(zip([*UNEVEN, *alone], [*made[0], *made[1]], strict=True))


@pytest.fixture(scope="module")
def losses(runs: Any) -> dict[tuple[str, str], torch.Tensor]:
    """(strategy, setting) -> loss of 20 steps, mean over two ranks."""
    return {key: torch.tensor([rank["losses"] for rank in ranks]).mean(0) for key, ranks in runs.items()}


@distributed
@pytest.mark.parametrize("name", [name for name in SETTINGS if "bf16" not in name])
@pytest.mark.parametrize("strategy", ZERO)
def test_losses_are_those_of_ddp(losses: Any, strategy: str, name: str) -> None:
    assert len(losses["ddp", name]) == 20
    torch.testing.assert_close(losses[strategy, name], losses["ddp", name], atol=1e-5, rtol=0)


@distributed
@pytest.mark.parametrize(("strategy", "accumulate"), UNEVEN)
def test_ranks_need_not_divide_a_batch(uneven: Any, strategy: str, accumulate: int) -> None:
    """Of 8 rows three ranks have 3, 3 and 2, and of nine micro batches one is empty."""
    ranks = uneven[strategy, accumulate]
    mean = torch.tensor([rank["losses"] for rank in ranks]).mean(0)
    alone = torch.tensor(uneven["alone, sharded" if "sharded" in strategy else "alone", 1][0]["losses"])
    torch.testing.assert_close(mean, alone, atol=1e-4, rtol=0)  # sums in another order, as with accumulation
    sizes = {len(samples) for rank in ranks for samples in rank["samples"]}
    assert len(sizes) > 1
    assert (0 in sizes) == (accumulate > 1)


@distributed
@pytest.mark.parametrize(("strategy", "name"), OFFLOADED)
def test_offloading_changes_no_loss(losses: Any, strategy: str, name: str) -> None:
    assert len(losses[strategy, name]) == 20
    torch.testing.assert_close(losses[strategy, name], losses["ddp", "AdamW"], atol=1e-5, rtol=0)


@distributed
@pytest.mark.parametrize("strategy", ZERO)
def test_bf16_is_near_ddp_in_bf16(losses: Any, strategy: str) -> None:
    """DDP steps float32 weights and rounds them for products; ZeRO rounds where forward reads them too."""
    assert len(losses[strategy, "bf16"]) == 20
    torch.testing.assert_close(losses[strategy, "bf16"], losses["ddp", "bf16"], atol=0, rtol=BF16_APART)


@distributed
@pytest.mark.parametrize("strategy", ["ddp", *ZERO])
def test_bf16_is_for_parameters_alone(runs: Any, strategy: str) -> None:
    for rank in runs[strategy, "bf16"]:
        assert rank["kinds"] == {"buffers": ["torch.float32"], "batch": ["torch.float32"]}


@distributed
@pytest.mark.parametrize("strategy", ZERO)
def test_bf16_hands_out_the_weights_that_are_stepped(runs: Any, folder: Path, strategy: str) -> None:
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    stepped = get_fp32_state_dict_from_zero_checkpoint(folder / f"{strategy}.ckpt", tag="checkpoint")
    for rank in runs[strategy, "bf16 AdamW"]:
        rounded = [torch.equal(w, w.bfloat16().float()) for w in rank["weights"].values() if w.numel() > 100]
        assert rounded
        assert not any(rounded), "they were rounded on the way"
        learned = {name: stepped[f"model.{name}"] for name in rank["weights"] if f"model.{name}" in stepped}
        assert len(learned) > 50
        for name, weight in learned.items():
            torch.testing.assert_close(rank["weights"][name], weight, atol=0, rtol=0, msg=name)


@distributed
def test_the_comparison_can_fail(losses: Any) -> None:
    """Accumulation keeps the step (one global batch in parts); clipping changes it, so it bites."""
    torch.testing.assert_close(losses["ddp", "accumulated"], losses["ddp", "plain"], atol=1e-4, rtol=0)
    again = losses["ddp", "activation checkpointing"]
    torch.testing.assert_close(again, losses["ddp", "plain"], atol=1e-5, rtol=0)
    assert (losses["ddp", "clipped"] - losses["ddp", "plain"]).abs().max() > 1e-2
    assert (losses["ddp", "bf16"] - losses["ddp", "clipped"]).abs().max() > 1e-5, "nothing was rounded"


@pytest.mark.parametrize("stage", [1, 2])
def test_parameters_that_every_rank_holds_are_not_offloaded(stage: int) -> None:
    with pytest.raises(InputError, match=r"offload_parameters is for trainer=zero3: .*; take zero3"):
        zero(stage=stage, offload_parameters=True)


@pytest.mark.parametrize("stage", [0, 4])
def test_other_stages_are_refused(stage: int) -> None:
    with pytest.raises(InputError, match=f"stage={stage} is none of ZeRO's; choose trainer=zero1"):
        zero(stage=stage)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"gradient_clip_val": 1.0, "gradient_clip_algorithm": "value"}, "gradient_clip_algorithm=norm"),
        ({"precision": "16-mixed"}, "precision=16-mixed needs a GPU"),
    ],
)
def test_what_deepspeed_would_stumble_over_is_refused(settings: dict[str, Any], said: str) -> None:
    trainer = pl.Trainer(accelerator="cpu", strategy=zero(stage=2), logger=False, **settings)
    trained = module()
    trained.trainer = trainer
    trainer.strategy.connect(trained)
    with pytest.raises(InputError, match=said):
        trainer.strategy.setup_environment()
