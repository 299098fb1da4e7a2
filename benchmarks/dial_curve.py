"""What the dial's NDCG budget can buy: true value over settings, by the learned critic and by the true one.

    python -m benchmarks.dial_curve   # one seed of the market, a quarter of an hour

The first round of `benchmarks.closed_loop` without a category penalty, then every setting of the dial with
two advantages: `critic`, as learned from the log, and `truth`, where b(i) is what an engagement with the item
really does to satisfaction (quality less bait, through the same tanh). If the truth buys no more at the same
loss of NDCG, the critic is not what limits the gain. share = (value - value at dial 0) / attainable.
Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from benchmarks.closed_loop import (
    BUNDLE,
    DATASET,
    REFERENCE,
    ROOT,
    SERVED,
    Loop,
    Place,
    in_service,
    judge,
    learn,
    make_log,
    measure,
    per_user,
    simulate,
)
from recsys.bundle import Bundle, load_bundle, save_bundle
from recsys.simulator.items import draw_items
from recsys.simulator.world import ItemSettings, SatisfactionSettings

WORLD = ROOT / "conf" / "world" / "default.yaml"


def true_advantage(bundle: Bundle, *, seed: int, num_items: int) -> np.ndarray:
    """float32 (V,): b(i) of the hidden state, where the critic knows anything of the item."""
    from omegaconf import OmegaConf

    given: Any = OmegaConf.to_container(OmegaConf.load(WORLD))
    items = draw_items(ItemSettings(**given["items"]), num_items=num_items, seed=seed)
    effects = SatisfactionSettings(**given["satisfaction"])
    effect = effects.from_clicks * (items.quality_V - items.bait_V)
    known_V = bundle.advantage["item_V"].numpy() != 0
    row_V = np.array([int("".join(filter(str.isdigit, name)) or 0) for name in bundle.item_ids])
    effect_V = effect[row_V[: len(known_V)]]
    standard_V = (effect_V - effect_V[known_V].mean()) / effect_V[known_V].std()
    return np.where(known_V, np.tanh(standard_V), 0).astype(np.float32)


def curve(loop: Loop, place: Place, bundle: Bundle, name: str, dials: list[float]) -> list[dict[str, float]]:
    """A row a setting: NDCG loss on test days with its interval, true value and its share."""
    folder = place.round(1)
    log, values = folder / "log.txt", dict(np.load(folder / "values.npz"))
    base = float(values["accuracy"].mean())
    attainable = float(per_user(place, 1)["attainable"].mean())
    save_bundle(bundle, folder / "models" / DATASET / name)
    judged = replace(loop, extra=(f"dial.settings=[{','.join(map(str, dials))}]",))
    found = judge(judged, place, 1, split="test", penalty=0.0, bundle=name)
    front = {row["dial"]: row for row in found["front"]}
    rows = []
    for dial in dials:
        truth = folder / f"{name}-truth"
        simulate(
            *(loop, place, log, truth, f"policies=[{SERVED}]", "policy=deterministic"),
            *(f"days={loop.value_days}", *in_service(loop, place, 1, dial=dial, bundle=name)),
        )
        value = float(np.mean(pq.read_table(truth / "values.parquet")[SERVED].to_numpy()))
        row = {"dial": dial, "value": round(value, 3), "share": round((value - base) / attainable, 3)}
        row |= {end: round(front[dial][end], 4) for end in ("ndcg_loss", "ndcg_loss_low", "ndcg_loss_high")}
        print(
            f"{name:>6} {dial:5g}: NDCG loss {row['ndcg_loss']:+.2%} [{row['ndcg_loss_low']:+.2%}, "
            f"{row['ndcg_loss_high']:+.2%}], value {value:.2f}, share {row['share']:.0%}",
            flush=True,
        )
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--dials", type=float, nargs="+", default=[0.15, 0.3, 0.6, 1.0, 1.6])
    parser.add_argument("--users", type=int, default=Loop.users)
    parser.add_argument("--items", type=int, default=Loop.items)
    for name in ("first_days", "window_days", "renew_days"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Loop, name))
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "dial_curve")
    given = parser.parse_args()
    loop = Loop(
        users=given.users,
        items=given.items,
        first_days=given.first_days,
        window_days=given.window_days,
        renew_days=given.renew_days,
        category_penalties=(0.0,),
    )
    place = Place("default", given.seed, given.output.resolve() / f"seed{given.seed}")
    folder = place.round(1)
    if not (folder / "values.npz").is_file():  # the last thing that the round leaves
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make_log(loop, place, 1, folder / "log.txt")
        learn(loop, place, 1, folder / "log.txt")
        measure(loop, place, 1, folder / "log.txt")
    bundle = load_bundle(folder / "models" / DATASET / BUNDLE)
    critic_V = bundle.advantage["item_V"].numpy()
    true_V = true_advantage(bundle, seed=given.seed, num_items=given.items)
    figures: dict[str, Any] = {"critic": curve(loop, place, bundle, "critic", given.dials)}
    bundle.advantage["item_V"] = torch.from_numpy(true_V)
    figures["truth"] = curve(loop, place, bundle, "truth", given.dials)
    known_V = critic_V != 0
    figures["correlation"] = round(float(np.corrcoef(critic_V[known_V], true_V[known_V])[0, 1]), 3)
    values = dict(np.load(folder / "values.npz"))
    figures["values"] = {name: round(float(values[name].mean()), 3) for name in values}
    figures |= {"seed": given.seed, "reference": REFERENCE}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
