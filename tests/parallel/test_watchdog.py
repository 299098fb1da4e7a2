"""A rank that stands still is named, and all ranks end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from recsys.parallel.watchdog import EXIT_CODE, _end
from tests.parallel.ranks import ROOT

STANDS = """
import time, torch
from tests.parallel import training
from recsys.parallel.watchdog import Watchdog
import pytorch_lightning as pl

class Stands(pl.Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_rank == 1 and trainer.global_step == 3:
            time.sleep(600)

training.train(strategy="ddp", more=[Stands(), Watchdog(stalled_after_s=8)])
"""


def test_the_rank_that_is_furthest_behind_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []
    monkeypatch.setattr("recsys.parallel.watchdog.os._exit", codes.append)
    monkeypatch.setattr("recsys.parallel.watchdog.faulthandler.dump_traceback", lambda **_: None)
    _end({0: [12, 2, 40.0, "a"], 1: [12, 1, 41.0, "b"], 2: [12, 2, 40.0, "c"]})
    assert capsys.readouterr().err.startswith("error: rank 1 on b has stood at step 12 (forward) for 41 s;")
    assert codes == [EXIT_CODE]


@pytest.mark.distributed
def test_two_real_ranks_end_when_one_stands(tmp_path: Path) -> None:
    import os
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", STANDS],
            cwd=ROOT,
            env=os.environ | shared | {"RANK": str(r), "LOCAL_RANK": str(r), "NODE_RANK": "0"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(2)
    ]
    said = [process.communicate(timeout=300)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [EXIT_CODE] * 2
    assert any("error: rank 1 on" in text and "has stood at step 3 (waits for data)" in text for text in said)
