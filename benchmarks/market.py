"""The market's speed, and what value-aware oracles gain in each world: `python -m benchmarks.market`

The first part is the command itself as a process of its own, at full size. The second runs five seeds of
every world at a smaller one. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORLDS = ("default", "misspecified", "non_stationary", "null_world")
SEEDS = range(5)
CHEAP = "[random,popular,myopic_clicks,myopic_revenue,value_aware]"
DIAL = (0.1, 0.2, 0.4, 0.8)


def simulate(folder: Path, *overrides: str) -> dict[str, Any]:
    """The content of truth.json of one run of the command."""
    command = [sys.executable, "-m", "recsys", "simulate", f"output_dir={folder}", *overrides]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=sys.stderr)
    return json.loads((folder / "truth.json").read_text())


def full_size(folder: Path, users: int, items: int) -> dict[str, float]:
    """Wall time and peak memory of the whole process: five policies, 180 days."""
    started = time.monotonic()
    simulate(folder, f"users={users}", f"items={items}", f"policies={CHEAP}", "weights=[0.2]")
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"wall_s": round(time.monotonic() - started, 1), "peak_mb": round(peak_mb)}


def gains(folder: Path, world: str, users: int, items: int) -> list[dict[str, Any]]:
    """Per seed: the weight of the best oracle and its gain over the myopic policy, with the interval."""
    found = []
    for seed in SEEDS:
        truth = simulate(
            folder,
            f"world={world}",
            f"users={users}",
            f"items={items}",
            f"seed={seed}",
            "policies=[value_aware]",
            f"weights={[*DIAL]}".replace(" ", ""),
        )
        oracles = {name: p["gain"] for name, p in truth["policies"].items() if name.startswith("value_aware")}
        best = max(oracles, key=lambda name: oracles[name]["value"])
        found.append({"seed": seed, "best": best, **{end: round(x, 4) for end, x in oracles[best].items()}})
        print(world, found[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--gain-users", type=int, default=10_000)
    parser.add_argument("--gain-items", type=int, default=1_000)
    sizes = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "market"
        speed = full_size(folder, sizes.users, sizes.items)
        print("full size", speed, flush=True)
        found = {world: gains(folder, world, sizes.gain_users, sizes.gain_items) for world in WORLDS}
    figures: dict[str, float] = {f"full_size/{name}": figure for name, figure in speed.items()}
    for world, seeds in found.items():
        figures[f"{world}/lowest_gain"] = min(seed["value"] for seed in seeds)
        figures[f"{world}/mean_gain"] = round(sum(seed["value"] for seed in seeds) / len(seeds), 4)
        figures[f"{world}/highest_gain"] = max(seed["value"] for seed in seeds)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
