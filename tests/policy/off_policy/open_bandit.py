"""The small Open Bandit data: two policies that ran side by side on a shop, each a truth for the other.

Saito et al. 2021. Clicks are rare, so a truth is some forty clicks and has an error of its own. The rows name
no users and each counts as one. `open_bandit_prior.json` holds the Beta priors that the Thompson sampling
started from, as the obp package publishes them (Apache licence 2.0, obp/policy/conf/prior_bts.yaml); its
propensities moved with what it learned, and are in its log.

Legend: R rows, A items, K positions, D features.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.policy.off_policy.decisions import Decisions
from recsys.policy.off_policy.reward_model import with_ridge_model

FOLDER = Path(os.environ.get("RECSYS_SHARED_DATA", "../shared/data")) / "open-bandit-small"
PRIOR = Path(__file__).parent / "open_bandit_prior.json"
RANDOM, BTS = "random", "bts"
CAMPAIGNS = ("all", "men", "women")
_NUM_SIMULATED = 100_000


@dataclass(frozen=True)
class Truth:
    """Click rate of the target policy in its own log."""

    value: float
    relative_error: float  # standard error of the rate / the rate


@dataclass(frozen=True)
class OpenBanditLog:
    """One log and what a target policy would have shown in it."""

    decisions: Decisions
    features_RD: np.ndarray
    expected_features_RD: np.ndarray
    truth: Truth

    def with_model(self, *, row_R: np.ndarray | None = None, seed: int = 0) -> Decisions:
        """With a cross-fitted reward model; `row_R` takes those rows, one that comes twice as one user."""
        rows = np.arange(len(self.features_RD)) if row_R is None else row_R
        taken = {
            name: getattr(self.decisions, name)[rows]
            for name in ("slot_R", "action_R", "reward_R", "propensity_R", "target_propensity_R")
        }
        return with_ridge_model(
            Decisions(user_R=rows, slate_R=np.arange(len(rows)), **taken),
            features_RD=self.features_RD[rows],
            expected_features_RD=self.expected_features_RD[rows],
            penalty=100.0,
            seed=seed,
        )


def is_there() -> bool:
    return FOLDER.is_dir()


def open_log(*, logged_by: str, campaign: str) -> OpenBanditLog:
    """The log of one policy with the other as its target."""
    table = pq.read_table(FOLDER / f"{logged_by}_{campaign}.parquet")
    affinity_RA = np.column_stack(
        [table[name].to_numpy() for name in table.column_names if name.startswith("user-item_affinity")]
    )
    num_items = affinity_RA.shape[1]
    item_R, position_R = table["item_id"].to_numpy(), table["position"].to_numpy() - 1
    if logged_by == RANDOM:
        target_RA = thompson_propensities(campaign)[:, position_R].T
    else:
        target_RA = np.full((len(item_R), num_items), 1 / num_items)
    shown_RA = np.eye(num_items)[item_R]
    context_RD = np.hstack([_one_hot(table[f"user_feature_{n}"]) for n in range(4)] + [np.eye(3)[position_R]])
    rows = np.arange(len(item_R))
    return OpenBanditLog(
        Decisions(
            user_R=rows,
            slate_R=rows,
            slot_R=position_R + 1,
            action_R=item_R + 1,
            reward_R=table["click"].to_numpy().astype(np.float64),
            propensity_R=table["propensity_score"].to_numpy(),
            target_propensity_R=target_RA[rows, item_R],
        ),
        _features(context_RD, shown_RA, affinity_RA),
        _features(context_RD, target_RA, affinity_RA),
        _truth(BTS if logged_by == RANDOM else RANDOM, campaign),
    )


def _truth(policy: str, campaign: str) -> Truth:
    click_R = pq.read_table(FOLDER / f"{policy}_{campaign}.parquet", columns=["click"])["click"].to_numpy()
    rate = float(click_R.mean())
    return Truth(rate, math.sqrt((1 - rate) / (rate * len(click_R))))


@lru_cache
def thompson_propensities(campaign: str) -> np.ndarray:
    """(A, K) Bernoulli Thompson sampling's chance of each item in each of three places, by simulation."""
    prior = json.loads(PRIOR.read_text())[campaign]
    rng = np.random.default_rng(0)
    num_items = len(prior["alpha"])
    count_KA = np.zeros((3, num_items))
    for _ in range(10):
        drawn = rng.beta(prior["alpha"], prior["beta"], size=(_NUM_SIMULATED // 10, num_items))
        best_K = np.argsort(-drawn, axis=1)[:, :3].T
        count_KA += [np.bincount(best, minlength=num_items) for best in best_K]
    return count_KA.T / _NUM_SIMULATED


def _features(context_RD: np.ndarray, chance_RA: np.ndarray, affinity_RA: np.ndarray) -> np.ndarray:
    """User and place, item, and the user's affinity to the item, the last two in expectation."""
    return np.hstack([context_RD, chance_RA, (chance_RA * affinity_RA).sum(axis=1, keepdims=True)])


def _one_hot(column: pa.ChunkedArray) -> np.ndarray:
    _, code_R = np.unique(column.to_numpy(), return_inverse=True)
    return np.eye(int(code_R.max()) + 1)[code_R]
