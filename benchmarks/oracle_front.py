"""What the promise of the closed loop would cost somebody who knows everything.

    python -m benchmarks.oracle_front   # five seeds of the market, a minute each

The oracles of the market on the log that round 1 of `benchmarks.closed_loop` learns from: NDCG@10 of what a
value-aware oracle would show against what the myopic one would, on purchases of the last `--window-days`;
once with one list a user, made when the window begins, and once with a list for every day with a purchase.
Beside it the share of the attainable gain that the same oracle makes in the 180 days after. If the best
policy there is cannot make a share at a loss of NDCG, no learned one can. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from benchmarks.closed_loop import LOG_TEMPERATURE, REFERENCE, ROOT, Loop
from benchmarks.dial_curve import WORLD
from recsys.market_policies import PolicyParts, make_policies
from recsys.metrics.interval import mean_interval, paired_difference
from recsys.metrics.ragged import Ragged
from recsys.metrics.ranking import ranking_metrics
from recsys.policy.slates import PolicyConfig
from recsys.pseudonym import load_key
from recsys.schema import PAD
from recsys.settings import read_settings
from recsys.simulator.market import Market, Policy
from recsys.simulator.scene import scene_of
from recsys.simulator.truth import Ledger
from recsys.simulator.world import WorldConfig

POLICY = ROOT / "conf" / "policy" / "plackett_luce.yaml"
LOGGED = f"{REFERENCE}_stochastic"
K = 10


def the_world() -> WorldConfig:
    return read_settings(WorldConfig, OmegaConf.to_container(OmegaConf.load(WORLD)), where="world")


def policies_of(market: Market, weights: list[float]) -> dict[str, Policy]:
    given: Any = OmegaConf.to_container(OmegaConf.load(POLICY))
    slates = read_settings(PolicyConfig, given | {"temperature": LOG_TEMPERATURE}, where="policy")
    parts = PolicyParts(
        slates=slates, shelf_size=market.items.num_items, weights=weights, top_k=None, key=load_key()
    )
    return make_policies([REFERENCE, LOGGED, "value_aware"], market, parts)


def all_present(market: Market) -> Any:
    return scene_of(
        day=market.state.day,
        user_B=np.arange(len(market.users)),
        seed=market.seed,
        world=market.world,
        users=market.users,
        items=market.items,
        state=market.state,
    )


def ndcg_of(lists: dict[str, list[np.ndarray]], bought: list[np.ndarray]) -> dict[str, np.ndarray]:
    """NDCG@10 of each policy's lists on rows that bought something; `bought`: items of each row."""
    has = np.array([len(items) > 0 for items in bought])
    targets = Ragged.from_lists([items for items in bought if len(items)])
    return {
        name: ranking_metrics(ranked_UK=np.concatenate(parts)[has], targets=targets, ks=(K,))[f"ndcg@{K}"]
        for name, parts in lists.items()
    }


def log_of(market: Market, policies: dict[str, Policy], *, days: int, window_days: int) -> dict[str, Any]:
    """The log's days; NDCG per row of `by_user` (a list a user) and `by_day` (a list an occasion)."""
    shown = {name: policy for name, policy in policies.items() if name != LOGGED}
    by_day: dict[str, list[np.ndarray]] = {name: [] for name in shown}
    bought_by_day: list[np.ndarray] = []
    bought_by_user: list[list[int]] = [[] for _ in range(len(market.users))]
    by_user: dict[str, list[np.ndarray]] = {}
    for number in range(days):
        if number == days - window_days:
            by_user = {name: [policy(all_present(market)).item_BK] for name, policy in shown.items()}
        wanted: dict[str, np.ndarray] = {}

        def drawn(scene: Any, is_watched: bool = number >= days - window_days, seen: Any = wanted) -> Any:
            if is_watched:
                seen |= {name: policy(scene).item_BK for name, policy in shown.items()}
            return policies[LOGGED](scene)

        day = market.day(drawn)
        if not wanted:
            continue
        for name, item_BK in wanted.items():
            by_day[name].append(item_BK)
        bought_BK = np.where(day.done.bought_BK, day.shown.item_BK, PAD)
        bought_by_day += [np.unique(row[row != PAD]) for row in bought_BK]
        for user, row in zip(day.scene.user_B.tolist(), bought_BK, strict=True):
            bought_by_user[user] += row[row != PAD].tolist()
        for user, item in zip(day.late_user_R.tolist(), day.late_item_R.tolist(), strict=True):
            bought_by_user[user].append(item)
    return {
        "by_user": ndcg_of(by_user, [np.unique(items) for items in bought_by_user]),
        "by_day": ndcg_of(by_day, bought_by_day),
    }


def value_of(market: Market, policy: Policy, *, days: int) -> np.ndarray:
    ledger = Ledger(market, discount_per_day=0.999)
    for _ in range(days):
        ledger.add(market.day(policy))
    return ledger.value_U


def front(seed: int, given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """A row a policy: its share of the attainable gain, and NDCG and its loss by view with the interval."""

    def market(state: Path | None = None) -> Market:
        sizes = {"num_users": given.users, "num_items": given.items, "seed": seed}
        return Market(world=the_world(), state_file=state, **sizes)

    logged = market()
    policies = policies_of(logged, given.weights)
    ndcg = log_of(logged, policies, days=given.days, window_days=given.window_days)
    given.state.parent.mkdir(parents=True, exist_ok=True)
    logged.save(given.state)
    value = {
        name: value_of(market(given.state), policy, days=Loop.value_days)
        for name, policy in policies_of(logged, given.weights).items()
        if name != LOGGED
    }
    best = max(value, key=lambda name: float(value[name].mean()))
    attainable = float((value[best] - value[REFERENCE]).mean())
    rows: dict[str, dict[str, float]] = {}
    for name, value_U in value.items():
        row = {"attainable": attainable, "share": float((value_U - value[REFERENCE]).mean()) / attainable}
        for view, found in ndcg.items():
            base_U = found[REFERENCE]
            loss, base = paired_difference(base_U, found[name]).as_dict(), float(base_U.mean())
            row[f"{view}/ndcg"] = mean_interval(found[name]).value
            row |= {f"{view}/loss/{end}": (x or 0.0) / base for end, x in loss.items()}
        rows[name] = row
    return rows


def lines(title: str, rows: dict[str, dict[str, float]]) -> list[str]:
    """For people; a mean over seeds has no interval."""

    def told(row: dict[str, float], view: str) -> str:
        ends = [row.get(f"{view}/loss/{end}") for end in ("low", "high")]
        told = f"{row[f'{view}/loss/value']:+.1%}"
        return told if None in ends else f"{told} [{ends[0]:+.1%}, {ends[1]:+.1%}]"

    return [
        f"{title} {name:>16}: share {row['share']:.0%}; NDCG loss with a list a user {told(row, 'by_user')}, "
        f"with a list a day {told(row, 'by_day')}"
        for name, row in rows.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--weights", type=float, nargs="+", default=[0.02, 0.05, 0.1, 0.2, 0.4])
    parser.add_argument("--users", type=int, default=Loop.users)
    parser.add_argument("--items", type=int, default=Loop.items)
    parser.add_argument("--days", type=int, default=Loop.first_days)
    parser.add_argument("--window-days", type=int, default=Loop.window_days)
    parser.add_argument("--state", type=Path, default=Path("outputs") / "oracle_front.npz")
    given = parser.parse_args()
    found: dict[str, dict[str, dict[str, float]]] = {}
    for seed in given.seeds:
        found[str(seed)] = front(seed, given)
        print("\n".join(lines(f"seed {seed}", found[str(seed)])), flush=True)
    of_all = list(found.values())
    found["mean"] = {
        name: {
            figure: float(np.mean([rows[name][figure] for rows in of_all]))
            for figure in row
            if not figure.endswith(("/low", "/high"))
        }
        for name, row in of_all[0].items()
    }
    print("\n".join(lines("mean", found["mean"])))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
