"""Real processes as ranks: each runs the same named cases one after another and keeps what they return.

`python -m tests.parallel.ranks CASES.json OUT` is one rank; `on_ranks` starts them and reads what they kept.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def place_of(rank: int, *, num_ranks: int, port: int) -> dict[str, str]:
    """The environment by which a process knows that it is this rank."""
    return {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(num_ranks),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "GROUP_RANK": "0",
    }


def on_ranks(num_ranks: int, cases: list[dict[str, Any]], folder: Path, *, timeout_s: int = 540) -> list[Any]:
    """By case and rank, what `function(**arguments)` of {"function": "module:name", **arguments} returns."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cases.json").write_text(json.dumps(cases))
    port = free_port()
    shared = {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    ranks = []
    for rank in range(num_ranks):
        mine = place_of(rank, num_ranks=num_ranks, port=port)
        log = (folder / f"rank{rank}.log").open("w")
        command = [sys.executable, "-m", "tests.parallel.ranks", str(folder / "cases.json"), str(folder)]
        ranks.append(
            subprocess.Popen(command, env=os.environ | shared | mine, cwd=ROOT, stdout=log, stderr=log)
        )
    try:
        codes = [process.wait(timeout_s) for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    logs = "\n".join((folder / f"rank{rank}.log").read_text()[-3000:] for rank in range(num_ranks))
    assert codes == [0] * num_ranks, f"exit codes {codes}\n{logs}"
    kept = [torch.load(folder / f"kept{rank}.pt", weights_only=False) for rank in range(num_ranks)]
    return [list(of_case) for of_case in zip(*kept, strict=True)]


def main() -> None:
    cases, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    kept = []
    for case in cases:
        module, name = case.pop("function").split(":")
        print("==", name, case, flush=True)
        kept.append(getattr(importlib.import_module(module), name)(**case))
    torch.save(kept, folder / f"kept{os.environ['RANK']}.pt")
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
