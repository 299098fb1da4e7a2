"""What a tilt of the logging policy earns, in a log whose law is known."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from recsys.policy.impressions import IMPRESSION_SCHEMA
from recsys.policy.off_policy.panel import PanelConfig
from recsys.policy.off_policy.tilt import TiltedLog
from recsys.schema import Impression, InputError
from tests.policy.logs import TYPES, Event, histories, moment

PROBABILITY = {1: 0.6, 2: 0.3, 3: 0.1}
PAID = {1: 1.0, 2: 2.0, 3: 6.0}  # on the day, in the mean
ADVANTAGE = np.array([0.0, -1.0, 0.0, 1.0])
CONFIG = PanelConfig(num_resamples=100)


def log(seed: int, *, num_users: int = 400, visits: int = 6) -> tuple[pa.Table, list[Event]]:
    """Slates of one item a week; what is paid that day depends on the item and on the user's mood."""
    random = np.random.default_rng(seed)
    rows, events = [], []
    for user in range(1, num_users + 1):
        mood = random.lognormal(sigma=0.5) / np.exp(0.125)
        for visit in range(visits):
            item = int(random.choice([1, 2, 3], p=list(PROBABILITY.values())))
            day = 7 * visit
            events.append((user, day + 0.5, "purchase", item, mood * PAID[item]))
            rows.append(
                {
                    Impression.POLICY_VERSION: "p",
                    Impression.SLATE_ID: f"{user}-{visit}",
                    Impression.USER_KEY: f"{user:064x}",
                    Impression.ITEM_INDEX: 99,  # another numbering than that of the tables
                    Impression.ITEM_ID: f"i{item}",
                    Impression.SLOT: 1,
                    Impression.SCORE: 0.0,
                    Impression.TEMPERATURE: 1.0,
                    Impression.PROPENSITY: PROBABILITY[item],
                    Impression.IS_DETERMINISTIC: False,
                    Impression.CANDIDATES_HASH: "h",
                    Impression.TIMESTAMP: moment(day),
                }
            )
    return pa.Table.from_pylist(rows, IMPRESSION_SCHEMA), events


def tilted(seed: int, *, until: float = 60, **changes: object) -> TiltedLog:
    table, events = log(seed)
    settings = {
        "histories": histories(events, num_users=400),
        "item_id_V": np.array(["", "i1", "i2", "i3"], object),
        "until": moment(until),
        "horizon_days": 5,  # nobody comes back within it: the reward is the money of the day
        "event_types": TYPES,
    }
    return TiltedLog(table, **(settings | changes))


def true_gain(dial: float) -> float:
    weight = {item: p * np.exp(dial * ADVANTAGE[item]) for item, p in PROBABILITY.items()}
    tilt = sum(weight[item] * PAID[item] for item in PAID) / sum(weight.values())
    return tilt - sum(PROBABILITY[item] * PAID[item] for item in PAID)


@pytest.mark.parametrize("dial", [0.3, 0.6])
def test_the_gain_is_that_of_the_law(dial: float) -> None:
    """Z is estimated from six choices a user, which takes a share of about 1/6 off a gain."""
    gains = [tilted(seed).gain(ADVANTAGE[None], np.ones(401), dial=dial, config=CONFIG) for seed in range(12)]
    values = np.array([gain["value"] for gain in gains])
    error = values.std() / np.sqrt(len(values))
    assert 0.7 * true_gain(dial) - 3 * error < values.mean() < true_gain(dial) + 3 * error
    assert all(gain["lower"] < gain["value"] < gain["high"] for gain in gains)
    assert not any(gain["refused"] for gain in gains)


def test_an_advantage_of_nothing_gains_nothing() -> None:
    found = tilted(0).gain(np.zeros((1, 4)), np.ones(401), dial=1.0, config=CONFIG)
    assert found["value"] == pytest.approx(0, abs=1e-12)


def test_users_are_judged_by_the_critic_of_their_fold() -> None:
    one = tilted(1)
    both = one.gain(np.stack([ADVANTAGE, ADVANTAGE]), np.ones(401), dial=0.5, config=CONFIG)["value"]
    even = one.gain(np.stack([ADVANTAGE, 0 * ADVANTAGE]), np.ones(401), dial=0.5, config=CONFIG)["value"]
    odd = one.gain(np.stack([0 * ADVANTAGE, ADVANTAGE]), np.ones(401), dial=0.5, config=CONFIG)["value"]
    assert even + odd == pytest.approx(both)
    assert even != pytest.approx(both)


def test_tilted_propensities_are_probabilities_and_weights_average_one() -> None:
    decisions = tilted(2).decisions(np.tile([3.0, -3.0], 1200), dial=1.0)
    assert (decisions.target_propensity_R <= 1).all()
    for user in np.unique(decisions.user_R)[:20]:
        assert decisions.weight_R[decisions.user_R == user].mean() == pytest.approx(1, abs=0.05)


def test_only_what_was_followed_to_the_end_of_the_horizon_counts() -> None:
    assert len(tilted(0).decisions(np.zeros(2400), dial=1.0).user_R) == 400 * 6
    assert len(tilted(0, until=26).decisions(np.zeros(1600), dial=1.0).user_R) == 400 * 4
    with pytest.raises(InputError, match="no impression was followed"):
        tilted(0, until=3)


def test_a_log_that_cannot_be_evaluated_is_refused() -> None:
    table, events = log(0)
    place = table.schema.get_field_index(Impression.IS_DETERMINISTIC)
    certain = table.set_column(place, Impression.IS_DETERMINISTIC, pa.array([True] * table.num_rows))
    with pytest.raises(InputError, match="deterministic policy"):
        TiltedLog(
            certain,
            histories=histories(events, num_users=400),
            item_id_V=np.array(["", "i1", "i2", "i3"], object),
            until=moment(60),
            horizon_days=5,
            event_types=TYPES,
        )
