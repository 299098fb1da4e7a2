"""The rows of a shop's log, as numbers: who did what with which item and when, in the order of arrival.

Few users and items make most events, evenings and weekends most of the rest; user 0 is a bot. Rows are drawn
in blocks, each from the seed and its own number, so that memory does not grow with the log.

Legend: R rows, V items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.shop_catalogue import Catalogue
from recsys.schema import SECONDS_PER_DAY, EventType

BLOCK_ROWS, LEAST_ROWS = 16_384, 1_000
FIRST_SECOND = 1_704_067_200  # 2024-01-01, a Monday
HOUR_S, HOURS_PER_DAY = 3_600, 24
HOUR_WEIGHTS = np.r_[np.full(7, 0.3), np.full(10, 1.0), np.full(5, 2.2), np.full(2, 0.8)]
WEEKDAY_WEIGHTS = np.array([0.9, 0.9, 0.9, 1.0, 1.1, 1.4, 1.2])
KINDS = (*EventType.BUILT_IN, "wish")  # the last is none that the data set declares
VIEW, SEARCH, CART, PURCHASE, RATING, RETURN, UNDECLARED = range(len(KINDS))
KIND_SHARES = (0.70, 0.13, 0.08, 0.06, 0.03)  # view to rating
STEEPNESS = 0.9  # of the power laws
EVENTS_PER_SESSION, SECONDS_PER_EVENT, RETURN_DAYS = 6, 40, 30
BOT, NONE = 0, -1  # numbers of users; NONE: null, of any whole number

ROW = np.dtype(
    [
        (name, np.int64)
        for name in ("user", "item", "kind", "timestamp", "order", "quantity", "stars", "arrival")
    ]
    + [(name, np.float64) for name in ("price", "dwell_s")]  # NaN: null
)


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """Shares are of all rows; users and items grow with the log, items as its square root."""

    rows: int
    seed: int = 0
    days: int = 180
    bot_share: float = 0.01
    duplicate_share: float = 0.02
    malformed_share: float = 0.01
    return_share: float = 0.005
    late_share: float = 0.03

    def __post_init__(self) -> None:
        if self.rows < LEAST_ROWS:
            raise ValueError(f"rows must be at least {LEAST_ROWS}")

    @property
    def num_users(self) -> int:
        return self.rows // 50

    @property
    def num_items(self) -> int:
        return int(10 * self.rows**0.5)


class Clock:
    """Shares of the log (0 to 1) -> Unix seconds, so that the busy hours get more of it."""

    def __init__(self, days: int) -> None:
        weights = np.outer(WEEKDAY_WEIGHTS[np.arange(days) % 7], HOUR_WEIGHTS).ravel()
        self._share = np.r_[0.0, np.cumsum(weights) / weights.sum()]
        self._second = FIRST_SECOND + HOUR_S * np.arange(days * HOURS_PER_DAY + 1)
        self.last_second = FIRST_SECOND + days * SECONDS_PER_DAY - 1

    def at(self, share_R: np.ndarray) -> np.ndarray:
        seconds = np.interp(share_R, self._share, self._second).astype(np.int64)
        return np.minimum(seconds, self.last_second)


def power_law(rng: np.random.Generator, size_R: np.ndarray, *, flat: float) -> np.ndarray:
    """Whole numbers from 0 to below each size, small ones most: density (x + flat * size) ** -STEEPNESS."""
    shift_R, rest = flat * size_R, 1 - STEEPNESS
    low_R, high_R = shift_R**rest, (size_R + shift_R) ** rest
    drawn_R = (low_R + rng.random(len(size_R)) * (high_R - low_R)) ** (1 / rest) - shift_R
    return np.minimum(drawn_R.astype(np.int64), size_R.astype(np.int64) - 1)


def drawn_block(config: LogConfig, catalogue: Catalogue, clock: Clock, place: tuple[int, int]) -> np.ndarray:
    """Rows born in a block; some happen, and some arrive, in a later one. `place`: (block, num_blocks)."""
    block, num_blocks = place
    rng = np.random.default_rng([config.seed, block])
    num_rows = config.rows * (block + 1) // num_blocks - config.rows * block // num_blocks
    num_returns, num_again, num_malformed, num_bot = (
        round(share * num_rows)
        for share in (config.return_share, config.duplicate_share, config.malformed_share, config.bot_share)
    )
    num_people = num_rows - num_returns - num_again - num_bot
    people = _sessions(rng, config, clock, place, num_people)
    bot = _bot(rng, config, clock, place, num_bot)
    bought = people["kind"] == PURCHASE
    people["price"][bought] = catalogue.price_V[people["item"][bought]]
    people["quantity"][bought] = 1 + rng.poisson(0.3, bought.sum())
    plain = rng.permutation(np.flatnonzero(~bought))
    purchases = rng.permutation(np.flatnonzero(bought))
    returns = _returns(rng, clock, people[purchases[:num_returns]])
    sound = ~_damage(people, purchases[num_returns:], plain, num_malformed)
    again = people[rng.choice(np.flatnonzero(sound), num_again, replace=False)]
    again["arrival"] += 1 + rng.exponential(HOUR_S, num_again).astype(np.int64)
    rows = np.concatenate([people, bot, returns])
    late = rng.random(len(rows)) < config.late_share
    rows["arrival"][late] += rng.lognormal(np.log(6 * HOUR_S), 1.0, late.sum()).astype(np.int64)
    return np.concatenate([rows, again])


def _blank(num_rows: int) -> np.ndarray:
    rows = np.full(num_rows, NONE).astype(ROW)
    rows["price"] = rows["dwell_s"] = np.nan
    return rows


def _sessions(
    rng: np.random.Generator, config: LogConfig, clock: Clock, place: tuple[int, int], num_rows: int
) -> np.ndarray:
    """Visits of people: views and searches name an item, what follows in the visit is about the same one."""
    block, num_blocks = place
    length = rng.geometric(1 / EVENTS_PER_SESSION, num_rows)
    session_R = np.repeat(np.arange(num_rows), length)[:num_rows]
    share = (block + rng.random(num_rows)) / num_blocks
    grown = np.maximum(config.num_users * (0.3 + 0.7 * share), 1)
    user = 1 + power_law(rng, grown, flat=0.002)
    rows = _blank(num_rows)
    begins_R = np.r_[True, session_R[1:] != session_R[:-1]]
    waited_R = np.cumsum(rng.exponential(SECONDS_PER_EVENT, num_rows))
    waited_R -= waited_R[np.maximum.accumulate(np.where(begins_R, np.arange(num_rows), 0))]
    rows["user"] = user[session_R]
    rows["timestamp"] = np.minimum(clock.at(share)[session_R] + waited_R.astype(np.int64), clock.last_second)
    rows["arrival"] = rows["timestamp"]
    rows["kind"] = rng.choice(len(KIND_SHARES), num_rows, p=KIND_SHARES)
    names_item_R = begins_R | np.isin(rows["kind"], (VIEW, SEARCH))
    on_sale_R = np.maximum(config.num_items * (0.7 + 0.3 * share[session_R]), 1)
    item_R = power_law(rng, on_sale_R, flat=0.005)
    rows["item"] = item_R[np.maximum.accumulate(np.where(names_item_R, np.arange(num_rows), 0))]
    viewed_R, rated_R = rows["kind"] == VIEW, rows["kind"] == RATING
    rows["dwell_s"][viewed_R] = np.round(rng.lognormal(np.log(12), 1.2, viewed_R.sum()), 1)
    rows["stars"][rated_R] = rng.choice(np.arange(1, 6), rated_R.sum(), p=(0.08, 0.07, 0.15, 0.3, 0.4))
    bought_R = rows["kind"] == PURCHASE
    rows["order"][bought_R] = (session_R + block * BLOCK_ROWS)[bought_R]
    return rows


def _bot(
    rng: np.random.Generator, config: LogConfig, clock: Clock, place: tuple[int, int], num_rows: int
) -> np.ndarray:
    """One visitor that goes through the whole catalogue day and night and buys nothing."""
    block, num_blocks = place
    rows = _blank(num_rows)
    rows["user"] = BOT
    rows["item"] = rng.integers(0, config.num_items, num_rows)
    rows["kind"] = np.where(rng.random(num_rows) < 0.9, VIEW, SEARCH)
    rows["timestamp"] = rows["arrival"] = clock.at((block + rng.random(num_rows)) / num_blocks)
    rows["dwell_s"][rows["kind"] == VIEW] = 0.5
    return rows


def _returns(rng: np.random.Generator, clock: Clock, purchases: np.ndarray) -> np.ndarray:
    """Each purchase comes back, whole or in part, within RETURN_DAYS and before the log ends."""
    rows = purchases.copy()
    left = np.minimum(RETURN_DAYS * SECONDS_PER_DAY, clock.last_second - rows["timestamp"])
    rows["timestamp"] += (rng.random(len(rows)) * left).astype(np.int64)
    rows["arrival"] = rows["timestamp"]
    rows["kind"] = RETURN
    rows["quantity"] = rng.integers(1, rows["quantity"] + 1)
    return rows


def _damage(rows: np.ndarray, purchases: np.ndarray, plain: np.ndarray, num_malformed: int) -> np.ndarray:
    """One fault each for `num_malformed` rows: money of purchases, else who, what, when or which kind.

    Returns which rows were hit.
    """
    hit_R = np.zeros(len(rows), bool)
    faults = (
        ("price", purchases, lambda hit: -rows["price"][hit]),
        ("quantity", purchases, 0),
        ("user", plain, NONE),
        ("item", plain, NONE),
        ("timestamp", plain, NONE),
        ("timestamp", plain, 0),
        ("kind", plain, UNDECLARED),
    )
    for number, (name, among, value) in enumerate(faults):
        hit = among[number : num_malformed : len(faults)]
        rows[name][hit] = value(hit) if callable(value) else value
        hit_R[hit] = True
    return hit_R


def blocks(config: LogConfig, catalogue: Catalogue) -> Iterator[np.ndarray]:
    """All rows in the order of their arrival; what arrives in a later block waits for it."""
    clock = Clock(config.days)
    num_blocks = -(-config.rows // BLOCK_ROWS)
    waiting = np.empty(0, ROW)
    for block in range(num_blocks):
        waiting = np.concatenate([waiting, drawn_block(config, catalogue, clock, (block, num_blocks))])
        is_last = block + 1 == num_blocks
        arrived = is_last | (waiting["arrival"] < clock.at(np.array((block + 1) / num_blocks)))
        rows, waiting = waiting[arrived], waiting[~arrived]
        yield rows[np.argsort(rows["arrival"], kind="stable")]
