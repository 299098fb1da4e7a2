"""Real next-item targets a second of training, beside a plain PyTorch SASRec of the same size.

`python -m benchmarks.train_throughput [--sizes ml_1m short ml_1m_wide]` prints a table for each size and loss
and ends with one line of JSON. Every contender is a process of its own; they take turns, round after round,
so that whatever else the machine does falls on all of them, and ratios are medians over the rounds. On a busy
machine, `--threads 1 --clock processor` counts only the time that a process had a processor. Peak memory is
above that after the imports. The share of the peak is of the FLOPs of real events, beside the best product of
two square matrices in the same run and precision. `--profile` prints where the time of a step goes instead.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.contender import CLOCKS, LOSSES, PRECISIONS, Contender, resident_mib, take_turn
from benchmarks.train_workloads import SIZES, open_workload, write_workload
from benchmarks.turns import Process, serve

PLAIN, OWN = "plain_sasrec", "own_training"
SHOWN = {PLAIN: "plain SASRec", OWN: "recsys"}
BARS = {"fp32": 1.5, "bf16": 2.5}  # targets a second over the plain one's in float32
MEMORY_BAR, PEAK_BAR, WAIT_BAR, WIDE = 0.5, 0.5, 0.05, 256


@dataclass(frozen=True)
class Entry:
    """A contender and its precision."""

    module: str
    precision: str

    @property
    def name(self) -> str:
        return f"{self.module}_{self.precision}"

    def contender(self) -> Contender:
        found: Any = importlib.import_module(f"benchmarks.{self.module}")
        return found  # type: ignore[no-any-return]


BASE = Entry(PLAIN, "fp32")


def contend(entry: Entry, arguments: argparse.Namespace) -> None:
    """Of a contender's process: the first turn tells about it, the others train."""
    contender, workload = entry.contender(), open_workload(arguments.folder)
    imported_mib = resident_mib("VmRSS")
    training = contender.training(workload, loss=arguments.loss, precision=entry.precision)

    def turns() -> Iterator[dict[str, Any]]:
        take_turn(training, least_s=0)  # warms up
        yield {"flops_per_target": training.flops_per_target()}
        while True:
            turn = take_turn(training, least_s=arguments.seconds, clock=arguments.clock)
            yield asdict(turn) | {"peak_mib": resident_mib("VmHWM") - imported_mib}

    each = turns()
    serve(lambda: next(each))


def reach_peak(arguments: argparse.Namespace) -> None:
    from benchmarks.matrix_peak import peak_flops, products

    asked = products()
    peak_flops(asked)
    serve(lambda: peak_flops(asked, clock=CLOCKS[arguments.clock]))


def prepare(folder: Path, size: str, losses: list[str]) -> None:
    """Sequences, and the samples that the framework makes of them once for all runs."""
    from benchmarks.own_training import samples_of

    write_workload(folder, size)
    for loss in losses:
        samples_of(open_workload(folder), loss=loss)


def measured(folder: Path, loss: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """What each contender and the processor said: name -> its turns, "peak" -> FLOPs a second."""
    others = [module for module in SHOWN if module != PLAIN]
    entries = [BASE, *(Entry(module, precision) for module in others for precision in arguments.precision)]
    common = ["-m", "benchmarks.train_throughput", "--seconds", str(arguments.seconds)]
    common += ["--clock", arguments.clock, "--folder", str(folder), "--loss", loss]
    with ExitStack() as stack:

        def started(*more: str) -> Process:
            return stack.enter_context(Process(*common, *more, threads=arguments.threads))

        processes = {e.name: started("--contender", e.module, "--precision", e.precision) for e in entries}
        peak = started("--contender", "peak")
        told = {name: [process.ask()] for name, process in processes.items()}
        rates = list[dict[str, float]]()
        for _ in range(arguments.rounds):
            rates.append(peak.ask())
            for name, process in processes.items():
                told[name].append(process.ask())
    best = {precision: max(rate[precision] for rate in rates) for precision in PRECISIONS}
    return {"peak": best, **told}


def print_profile(folder: Path, loss: str, arguments: argparse.Namespace) -> None:
    """In this process, since nothing is compared."""
    import torch

    from benchmarks.step_profile import table

    torch.set_num_threads(arguments.threads)
    for precision in arguments.precision:
        training = (
            Entry(OWN, precision).contender().training(open_workload(folder), loss=loss, precision=precision)
        )
        print("\n".join(["", *table(training, num_steps=arguments.rounds)]), flush=True)


def figures_of(told: dict[str, Any]) -> dict[str, float]:
    """By contender: rate, its ratio to the plain one's, memory, waiting, share of the peak."""
    found = {f"peak_gflops_{precision}": rate / 1e9 for precision, rate in told["peak"].items()}
    entries = {name: turns for name, turns in told.items() if name != "peak"}
    rates = {name: [t["num_targets"] / t["elapsed_s"] for t in turns[1:]] for name, turns in entries.items()}
    for name, (about, *turns) in entries.items():
        rate = statistics.median(rates[name])
        peak = told["peak"][name.rpartition("_")[2]]
        found |= {
            f"{name}_targets_per_s": rate,
            f"{name}_peak_mib": turns[-1]["peak_mib"],
            f"{name}_data_wait": sum(t["waited_s"] for t in turns) / sum(t["elapsed_s"] for t in turns),
            f"{name}_of_peak": rate * about["flops_per_target"] / peak,
        }
        if name != BASE.name:
            paired = zip(rates[name], rates[BASE.name], strict=True)
            found[f"{name}_over_plain"] = statistics.median(own / plain for own, plain in paired)
            found[f"{name}_memory_over_plain"] = turns[-1]["peak_mib"] / entries[BASE.name][-1]["peak_mib"]
    return found


def show(title: str, found: dict[str, float], names: list[str]) -> None:
    peaks = ", ".join(f"{found[f'peak_gflops_{p}']:.0f} {p}" for p in PRECISIONS)
    print(f"\n{title}; peak GFLOP/s {peaks}; load {os.getloadavg()[0]:.1f}")
    print(f"{'':<22} targets/s over plain peak MiB over plain waiting of peak")
    for name in names:
        module, _, precision = name.rpartition("_")
        ratio, memory = found.get(f"{name}_over_plain", 1.0), found.get(f"{name}_memory_over_plain", 1.0)
        print(
            f"{SHOWN[module] + ', ' + precision:<22} {found[f'{name}_targets_per_s']:>9,.0f} {ratio:>9.2f}x "
            f"{found[f'{name}_peak_mib']:>8,.0f} {memory:>9.2f}x {found[f'{name}_data_wait']:>7.1%} "
            f"{found[f'{name}_of_peak']:>7.1%}",
            flush=True,
        )


def verdicts(size: str, found: dict[str, float]) -> Iterator[str]:
    """Each bar, and whether it is met."""
    for precision, bar in BARS.items():
        name = Entry(OWN, precision).name
        if f"{name}_over_plain" not in found:
            continue
        held = [
            ("targets/s over plain", found[f"{name}_over_plain"], bar, True),
            ("memory over plain", found[f"{name}_memory_over_plain"], MEMORY_BAR, False),
            ("waiting for data", found[f"{name}_data_wait"], WAIT_BAR, False),
        ]
        if SIZES[size].width >= WIDE:
            held.append(("of the peak", found[f"{name}_of_peak"], PEAK_BAR, True))
        for what, value, limit, at_least in held:
            met = "met" if (value >= limit) == at_least or value == limit else "missed"
            said = "at least" if at_least else "at most"
            yield f"  {precision} {what} {value:.2f} (bar: {said} {limit:g}, {met})"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["ml_1m", "short", "ml_1m_wide"])
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a turn, at least")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--profile", action="store_true")
    for name, kind in (("--contender", str), ("--folder", Path), ("--loss", str)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    if arguments.contender == "peak":
        reach_peak(arguments)
        return
    if arguments.contender:
        contend(Entry(arguments.contender, arguments.precision[0]), arguments)
        return
    figures: dict[str, float] = {"threads": arguments.threads, "load_before": os.getloadavg()[0]}
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            prepare(folder, size, arguments.losses)
            for loss in arguments.losses:
                if arguments.profile:
                    print(f"\n**{size}, {loss} softmax, {arguments.threads} threads**", flush=True)
                    print_profile(folder, loss, arguments)
                    continue
                told = measured(folder, loss, arguments)
                found = figures_of(told)
                title = f"{size}, {loss} softmax, {arguments.threads} threads, {arguments.clock} time"
                show(title, found, [name for name in told if name != "peak"])
                print("\n".join(verdicts(size, found)), flush=True)
                figures |= {f"{size}_{loss}_{name}": value for name, value in found.items()}
    if not arguments.profile:
        print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
