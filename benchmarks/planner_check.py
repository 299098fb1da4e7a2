"""The planner's formulas against what runs: python benchmarks/planner_check.py

Memory of two real ranks (on processors), FLOPs of a counted step, activations of a real step. The last line
is JSON: the largest relative error of each check.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the runs measured are those of the tests

from recsys.parallel.planner.activations import peak_bytes, saved_bytes  # noqa: E402
from recsys.parallel.planner.flops import step_flops  # noqa: E402
from tests.parallel.planner.held import RUNS, predicted_bytes  # noqa: E402
from tests.parallel.planner.step import (  # noqa: E402
    CASES,
    SIZES,
    counted_flops,
    measured_peak_bytes,
    measured_saved_bytes,
    planned,
)
from tests.parallel.ranks import on_ranks  # noqa: E402


def check(errors: dict[str, float], name: str, where: str, *, predicted: float, measured: float) -> None:
    """Print one comparison and keep the largest error of its name."""
    error = predicted / measured - 1
    errors[name] = max(errors.get(name, 0.0), abs(error))
    print(f"{name:<12} {where:<34} predicted {predicted:>13,.0f}  measured {measured:>13,.0f}  {error:+.3%}")


def main() -> None:
    errors: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        found = on_ranks(2, [run.case() for run in RUNS], Path(folder))
    for run, ranks in zip(RUNS, found, strict=True):
        for name, predicted in predicted_bytes(run).items():
            measured = max(rank[name] for rank in ranks)
            check(errors, name, str(run), predicted=predicted, measured=measured)
    for name, case in CASES.items():
        config, work = planned(**case)
        sizes = case.get("sizes", SIZES)
        saved = sum(saved_bytes(config, work, activation_bytes=4, fused=False).values())
        at_peak = peak_bytes(config, work, activation_bytes=4, fused=False)
        flops, kept = counted_flops(config, sizes, work), measured_saved_bytes(config, sizes, work)
        peak = measured_peak_bytes(config, sizes, work)
        check(errors, "flops", name, predicted=step_flops(config, work), measured=flops)
        check(errors, "saved", name, predicted=saved, measured=kept)
        check(errors, "activations", name, predicted=at_peak, measured=peak)
    print(json.dumps({f"planner_{name}_max_relative_error": round(e, 5) for name, e in errors.items()}))


if __name__ == "__main__":
    main()
