"""The whole cycle in the market with known truth: does the dial raise value that is real?

    python -m benchmarks.closed_loop   # 5 seeds, 3 rounds, the default and the null world: hours
    python -m benchmarks.closed_loop --users 300 --items 100 --seeds 1 --rounds 1 --worlds default

Round 1 starts from 120 days of a stochastic myopic policy that knows the hidden state, each later one from
what the round before it showed. A round runs the real commands: simulate (the log), feedback, spark_jobs,
train. Accuracy is judged as evaluate does, on days that neither model nor dial was fitted on. Then the market
runs 180 days on from the end of the log with every policy, on the same luck, and its users' true values are
compared. The dial is the bundle's own choice, beside the largest category penalty of `--category-penalties`
that leaves it one above 0 on validation days. Learned policies see the log only: the bundle is in service
(`served`), so that every `--renew-days` it answers as recommend would from the log so far; 180 and more: its
lists stay.

Policies: `dialled` (the dial and the category penalty), `variety` (the penalty alone), `accuracy` (neither),
`myopic_revenue` and `value_aware_*` (oracles). gain = dialled - accuracy; attainable = best oracle -
myopic_revenue. A finished round leaves result.json and values.parquet and is not run again. Ends with one
line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from recsys.bundle import load_bundle, set_dial
from recsys.data.tables import FeatureTables, resolve_tables
from recsys.entry import conf_dir
from recsys.evaluation.dial import dial_front
from recsys.policy.dial import DialConfig
from recsys.settings import read_settings

ROOT = Path(__file__).resolve().parents[1]
DATASET, BUNDLE, CHOICE = "market", "loop", "choice.json"
REFERENCE, ORACLES, SERVED = "myopic_revenue", "value_aware", "served"
LOG_TEMPERATURE = 0.3  # of the first log's oracle
ARMS = {"dialled": (None, True), "variety": (0.0, True), "accuracy": (0.0, False)}  # dial, has the penalty
NUM_RESAMPLES, LEVEL = 2000, 0.95


@dataclass(frozen=True, kw_only=True)
class Loop:
    """What a round is run with; another one does not go on from its results."""

    users: int = 5000
    items: int = 1000
    first_days: int = 120
    next_days: int = 60
    window_days: int = 14
    value_days: int = 180
    epochs: int = 8
    category_penalties: tuple[float, ...] = (0.1, 0.05, 0.0)  # from the largest; each one is tried
    category_memory_days: float = 3.0
    temperature: float = 0.3
    renew_days: int = 7
    extra: tuple[str, ...] = ()  # overrides of train


@dataclass(frozen=True)
class Place:
    """One world and seed; `folder` holds a folder a round."""

    world: str
    seed: int
    folder: Path

    def round(self, number: int) -> Path:
        return self.folder / f"round{number}"

    def log(self, number: int) -> Path:
        return self.round(number) / "sim" / "log"


def run(log: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
    """A command of this checkout; its output goes into a file, which a failure is told from."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | (env or {})
    with log.open("a") as file:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    if done.returncode:
        print(f"failed: {' '.join(arguments)}\n{log.read_text()[-3000:]}", file=sys.stderr)
        raise SystemExit(done.returncode)


def simulate(loop: Loop, place: Place, log: Path, output: Path, *overrides: str) -> None:
    run(
        log,
        *("-m", "recsys", "simulate", f"world={place.world}", f"seed={place.seed}"),
        *(f"users={loop.users}", f"items={loop.items}", f"shelf_size={loop.items}"),
        f"output_dir={output}",
        *overrides,
    )


def play(loop: Loop, place: Place, number: int) -> dict[str, Any]:
    """One round from its log to its truth; returns result.json."""
    folder = place.round(number)
    known = folder / "result.json"
    if known.is_file():
        result: dict[str, Any] = json.loads(known.read_text())
        if result["loop"] == json.loads(json.dumps(asdict(loop))):
            return result
        raise SystemExit(f"{known} is of other settings; name another --output or remove it")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log, started = folder / "log.txt", time.monotonic()
    make_log(loop, place, number, log)
    learn(loop, place, number, log)
    truth = measure(loop, place, number, log)
    chosen = choice_of(place, number)
    result = chosen | {
        "loop": asdict(loop),
        "ndcg_loss": next(row["ndcg_loss"] for row in chosen["test_front"] if row["dial"] == chosen["dial"]),
        "ndcg": chosen["test_front"][0]["ndcg@10"],
        "means": truth,
        "wall_s": round(time.monotonic() - started, 1),
    }
    for name in ("features", "cache", "sim/log/impressions.parquet"):  # the next log may need those of now
        target = place.round(number - 1) / name
        shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
    known.write_text(json.dumps(result, indent=1))
    return result


def make_log(loop: Loop, place: Place, number: int, log: Path) -> None:
    """The log this round learns from: of the oracle at first, then of what the last round recommended."""
    output = place.round(number) / "sim"
    if number == 1:
        name, days = f"{REFERENCE}_stochastic", loop.first_days
        extra = [f"policy.temperature={LOG_TEMPERATURE}"]
    else:
        name, days = f"{SERVED}_stochastic", loop.next_days
        extra = [
            *in_service(loop, place, number - 1, dial=None),
            f"policy.temperature={loop.temperature}",
            *variety(loop, choice_of(place, number - 1)["penalty"], "policy"),
        ]
    simulate(loop, place, log, output, f"policies=[{name}]", f"log={name}", f"days={days}", *extra)


def learn(loop: Loop, place: Place, number: int, log: Path) -> None:
    folder = place.round(number)
    features, feedback = f"features_dir={folder / 'features'}", f"feedback_dir={place.folder / 'feedback'}"
    shown = place.log(number) / "impressions.parquet"
    run(log, "-m", "recsys", "feedback", f"dataset={DATASET}", f"impressions={shown}", features, feedback)
    events = place.folder / f"round[1-{number}]" / "sim" / "log" / "events.parquet"
    run(
        log,
        *("-m", "spark_jobs", f"dataset={DATASET}", features, feedback),
        f"dataset.events.path='{events}'",
        f"dataset.split.test_days_before_end={loop.window_days}",
        f"dataset.split.window_days={loop.window_days}",
        *(f"dataset.split.horizons_days=[{loop.window_days}]", "spark.driver_memory=1500m"),
        env={"RECSYS_MARKET_LOG": str(place.log(number))},
    )
    where = [features, f"models_dir={folder / 'models'}", f"cache_dir={folder / 'cache'}"]
    run(
        log,
        *("train.py", f"dataset={DATASET}", f"name={BUNDLE}", f"seed={place.seed}", *where),
        *(f"output_dir={folder / 'train'}", f"trainer.max_epochs={loop.epochs}"),
        *variety(loop, loop.category_penalties[0], "dial"),
        *("logger.wandb=null", "~callbacks.progress", "+trainer.enable_progress_bar=false"),
        *loop.extra,
    )
    penalty = loop.category_penalties[0]
    front: dict[str, Any] = json.loads((folder / "train" / "metrics.json").read_text())["dial"]
    for smaller in loop.category_penalties[1:]:
        if front["default"] > 0:
            break
        penalty, front = smaller, judge(loop, place, number, split="validation", penalty=smaller)
    set_dial(folder / "models" / DATASET / BUNDLE, front["default"])
    test_front = judge(loop, place, number, split="test", penalty=penalty)["front"]
    choice = {"penalty": penalty, "dial": front["default"], "refused": front["refused"]}
    (folder / CHOICE).write_text(json.dumps(choice | {"front": front["front"], "test_front": test_front}))


def judge(
    loop: Loop, place: Place, number: int, *, split: str, penalty: float, bundle: str = BUNDLE
) -> dict[str, Any]:
    """The front of the dial on the days of a split, as evaluate makes it."""
    folder = place.round(number)
    overrides = [override for override in loop.extra if override.startswith("dial.")]
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        given = compose("evaluate", overrides=[*variety(loop, penalty, "dial"), *overrides])
    dial: Any = OmegaConf.to_container(given.dial, resolve=True)
    tables_dir = resolve_tables(features_dir=str(folder / "features"), dataset=DATASET, version="latest")
    return dial_front(
        bundle=load_bundle(folder / "models" / DATASET / bundle),
        tables=FeatureTables(tables_dir=tables_dir, cache_dir=folder / "cache"),
        split=split,
        config=read_settings(DialConfig, dial, where="dial"),
    )


def variety(loop: Loop, penalty: float, group: str) -> list[str]:
    """Overrides of `dial` or `policy`. What has no penalty needs no memory."""
    days = loop.category_memory_days if penalty else 0
    return [f"{group}.category_penalty={penalty}", f"{group}.category_memory_days={days}"]


def choice_of(place: Place, number: int) -> dict[str, Any]:
    """penalty, dial, why there is no estimate of its gain, the fronts that chose and that judged."""
    found: dict[str, Any] = json.loads((place.round(number) / CHOICE).read_text())
    return found


def in_service(
    loop: Loop, place: Place, number: int, *, dial: float | None, bundle: str = BUNDLE
) -> list[str]:
    """Overrides of simulate for the policy `served`; dial None: what the bundle says."""
    folder = place.round(number)
    return [
        f"bundle={folder / 'models' / DATASET / bundle}",
        f"tables={(folder / 'features' / DATASET / 'latest').resolve()}",
        *(f"cache_dir={folder / 'cache'}", f"renew_days={loop.renew_days}"),
        f"policy.dial={'null' if dial is None else dial}",
        f"state={place.log(number) / 'state.npz'}",
    ]


def measure(loop: Loop, place: Place, number: int, log: Path) -> dict[str, float]:
    """True value of every policy from the end of the log on; leaves values.parquet, returns the means."""
    folder, penalty = place.round(number), choice_of(place, number)["penalty"]
    value_U: dict[str, np.ndarray] = {}
    for arm, (dial, has_penalty) in ARMS.items():
        output = folder / "truth"
        names = [SERVED, *([ORACLES] if arm == "dialled" else [])]
        simulate(
            *(loop, place, log, output, f"policies=[{','.join(names)}]", "policy=deterministic"),
            *("weights=[0.1,0.2,0.4]", f"days={loop.value_days}"),
            *in_service(loop, place, number, dial=dial),
            *variety(loop, penalty if has_penalty else 0, "policy"),
        )
        found = pq.read_table(output / "values.parquet")
        value_U |= {name: found[name].to_numpy() for name in found.column_names if name != SERVED}
        value_U[arm] = found[SERVED].to_numpy()
    np.savez_compressed(folder / "values.npz", **value_U)
    return {name: float(values.mean()) for name, values in value_U.items()}


def per_user(place: Place, number: int) -> dict[str, np.ndarray]:
    """Gains of each user: of the dial and the penalty, of the penalty, of the whole over the oracle that is
    myopic, and what was attainable by the oracle that was best on average.
    """
    value = dict(np.load(place.round(number) / "values.npz"))
    oracles = [name for name in value if name.startswith(ORACLES)]
    best = max(oracles, key=lambda name: float(value[name].mean()))
    return {
        "gain": value["dialled"] - value["accuracy"],
        "gain_by_dial": value["dialled"] - value["variety"],
        "over_myopic": value["dialled"] - value[REFERENCE],
        "attainable": value[best] - value[REFERENCE],
    }


def pooled(seeds: list[dict[str, np.ndarray]]) -> dict[str, list[float]]:
    """Mean over seeds with its interval, users of each seed resampled, of every gain and of its share of the
    attainable one.
    """
    random = np.random.default_rng(0)
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in seeds[0]}
    for values in seeds:
        size = len(values["gain"])
        weight_RU = random.multinomial(size, np.full(size, 1 / size), NUM_RESAMPLES) / size
        for name, value_U in values.items():
            drawn[name].append(np.r_[value_U.mean(), weight_RU @ value_U])
    mean = {name: np.mean(parts, axis=0) for name, parts in drawn.items()}
    for name in ("gain", "gain_by_dial", "over_myopic"):
        mean[f"share_{name}"] = mean[name] / np.where(mean["attainable"] != 0, mean["attainable"], np.nan)
    return {name: [float(x[0]), *_ends(x[1:])] for name, x in mean.items()}


def _ends(resampled_R: np.ndarray) -> list[float]:
    finite_R = resampled_R[np.isfinite(resampled_R)]
    if not len(finite_R):
        return [float("nan")] * 2
    return [float(x) for x in np.quantile(finite_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])]


def summary(found: dict[str, dict[int, list[tuple[Place, dict[str, Any]]]]]) -> dict[str, Any]:
    """Named figures: world/round/what, with the ends of intervals beside them."""
    figures: dict[str, Any] = {}
    for world, rounds in found.items():
        for number, results in rounds.items():
            name = f"{world}/round{number}"
            for what, (value, low, high) in pooled([per_user(p, number) for p, _ in results]).items():
                figures |= {f"{name}/{what}": value, f"{name}/{what}/low": low, f"{name}/{what}/high": high}
            losses = [result["ndcg_loss"] for _, result in results]
            figures[f"{name}/ndcg_loss"] = float(np.mean(losses))
            figures[f"{name}/ndcg_loss/by_seed"] = [round(loss, 4) for loss in losses]
            figures[f"{name}/dials"] = [result["dial"] for _, result in results]
            figures[f"{name}/penalties"] = [result["penalty"] for _, result in results]
            figures[f"{name}/seeds"] = [place.seed for place, _ in results]
            figures[f"{name}/values"] = {
                policy: round(float(np.mean([result["means"][policy] for _, result in results])), 3)
                for policy in results[0][1]["means"]
            }
    return {
        name: round(figure, 4) if isinstance(figure, float) else figure for name, figure in figures.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    own = [field for field in fields(Loop) if field.name != "extra"]
    for field in own:
        flag, default = f"--{field.name.replace('_', '-')}", field.default
        several = {"nargs": "+", "type": float} if isinstance(default, tuple) else {"type": type(default)}
        parser.add_argument(flag, default=default, **several)  # type: ignore[arg-type]
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--worlds", nargs="+", default=["default", "null_world"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--train", nargs="*", default=[], help="more overrides of train")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "closed_loop")
    given = parser.parse_args()
    chosen = {field.name: getattr(given, field.name) for field in own}
    chosen["category_penalties"] = tuple(chosen["category_penalties"])
    loop = Loop(**chosen, extra=tuple(given.train))
    found: dict[str, dict[int, list[tuple[Place, dict[str, Any]]]]] = {}
    for world in given.worlds:
        for seed in given.seeds:
            place = Place(world, seed, given.output.resolve() / world / f"seed{seed}")
            for number in range(1, given.rounds + 1):
                result = play(loop, place, number)
                found.setdefault(world, {}).setdefault(number, []).append((place, result))
                means = {name: round(value, 2) for name, value in result["means"].items()}
                print(
                    f"{world} seed {seed} round {number}: dial {result['dial']:g}, penalty "
                    f"{result['penalty']:g}, NDCG loss "
                    f"{result['ndcg_loss']:+.2%}, {means} ({result['wall_s']:.0f} s)",
                    flush=True,
                )
    print(json.dumps(summary(found)))


if __name__ == "__main__":
    main()
