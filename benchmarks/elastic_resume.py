"""Runs that are cut off, go on on other ranks and are killed: `python -m benchmarks.elastic_resume`

Losses beside those of unbroken runs, samples lost and doubled, time to be back; the small model of the tests
on real ranks (on processors). Times of kills are without the imports, whose time is told apart. The last
line is JSON.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the runs measured are those of the tests

from tests.parallel.faults import ALONE, DAMAGED, KILLS, STEPS, checkpoints, run_with_kills  # noqa: E402
from tests.parallel.ledger import (  # noqa: E402
    back_after,
    batches,
    durations,
    losses,
    lost_and_doubled,
    planned,
    surviving,
)
from tests.parallel.resuming import KINDS, moves, resumes  # noqa: E402
from tests.test_module import samples_of  # noqa: E402

Figures = dict[str, float]


def resumed(place: Path) -> Figures:
    """Largest difference of a step's loss, and of a weight at the end, to the unbroken run; with dropout on
    other ranks, distances in standard deviations of the loss over seeds; and steps whose samples are others.
    """
    found, figures = resumes(place), {}
    for kind in KINDS:
        for dropout, before, after in moves(kind):
            name = f"{kind.replace(' ', '_')}_{before}_to_{after}{'_dropout' if dropout else ''}"
            if not dropout:
                figures[f"weight_difference_{name}"] = found.weight_difference(kind, before, after)
            if not dropout or before == after:
                figures[f"loss_difference_{name}"] = found.difference(kind, dropout, before, after)
            else:
                noise = found.noise(kind)
                away = found.later_loss(kind, f"{before} to {after}") - statistics.mean(noise)
                figures[f"loss_in_seed_deviations_{name}"] = round(away / statistics.stdev(noise), 2)
            parts = (f"cut off on {before}", f"{before} to {after}")
            order = [names for part in parts for names in found.runs[kind, dropout, part].samples]
            whole = found.runs[kind, dropout, "whole"].samples
            figures["steps_with_other_samples"] = figures.get("steps_with_other_samples", 0) + sum(
                one != other for one, other in zip(order, whole, strict=True)
            )
            print(name, figures.get(f"loss_difference_{name}", "within seeds"), flush=True)
    return figures


def killed(place: Path, kind: str) -> Figures:
    run = KINDS[kind] | {"steps": STEPS}
    whole = run_with_kills(place / "whole", run=run, kills=0)
    done = run_with_kills(place / "killed", run=run, kills=KILLS, alone=ALONE[kind], damaged=DAMAGED)
    history, plan = surviving(done.found), planned(samples_of(), steps=STEPS)
    lost, doubled = lost_and_doubled(history, plan)
    pairs = zip(losses(history), losses(surviving(whole.found)), strict=True)
    back = [back_after(done.found, attempt=kill.attempt, killed_s=kill.time_s) for kill in done.kills]
    starts = {e["attempt"]: e["num_ranks"] for e in done.found if e["what"] == "began"}
    converted = {n for n, ranks in starts.items() if ranks != starts.get(_last_before(starts, n), ranks)}
    _, newest = checkpoints(place / "killed")[-1]
    written = [newest, *newest.rglob("*"), *newest.with_name(f".tables-{newest.name}").rglob("*")]
    figures: Figures = {
        "kills": len(done.kills),
        **{f"kills_by_{name}": count for name, count in Counter(k.number.name for k in done.kills).items()},
        "kills_in_a_checkpoint": sum(kill.saving for kill in done.kills),
        "changes_of_ranks": len(converted),
        "damaged_and_passed_over": sum("is damaged" in damage.said for damage in done.damages),
        "samples_lost": lost,
        "samples_doubled": doubled,
        "steps_out_of_order": sum(a != b for a, (_, b) in zip(batches(history), plan, strict=True)),
        "loss_difference": max(abs(one - other) for one, other in pairs),
        "seconds_to_be_back_median": round(statistics.median(s for s in back if s is not None), 2),
        "checkpoint_kib": round(sum(p.stat().st_size for p in written if p.is_file()) / 1024),
        "checkpoint_write_s": round(statistics.median(durations(whole.found, "save_checkpoint")), 3),
        "checkpoint_load_s": round(
            statistics.median(
                durations([e for e in done.found if e["attempt"] not in converted], "load_checkpoint")
            ),
            3,
        ),
    }
    if converted:
        entries = [e for e in done.found if e["attempt"] in converted]
        figures["checkpoint_load_other_ranks_s"] = round(
            statistics.median(durations(entries, "load_checkpoint")), 3
        )
    print(kind, figures, flush=True)
    return {f"{kind.replace(' ', '_')}_{name}": figure for name, figure in figures.items()}


def _last_before(starts: dict[int, int], attempt: int) -> int:
    return max((n for n in starts if n < attempt), default=attempt)


def imports_s() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import tests.parallel.training, deepspeed"], cwd=ROOT, check=True)
    return round(time.perf_counter() - began, 1)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        figures = {"imports_s": imports_s()}
        for kind in ALONE:
            figures |= killed(Path(folder) / kind.replace(" ", "-"), kind)
        figures |= resumed(Path(folder))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
