"""A purchase log of one cohort with heavy tails: date, quantity and money, and next to no items.

Every user first buys within the first 13 weeks; some 30 % ever come back. Buying and leaving are lognormal
across users (not the gamma and beta of BG/NBD, so that it stands as a challenger, not as the truth), money is
lognormal across users and within them.

Legend: U users, E purchases.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

WEEK_DAYS = 7


@dataclass(frozen=True, kw_only=True)
class CohortConfig:
    """Lognormal parameters: `*_median`, `*_sigma` (of the log). Rates are per week."""

    num_users: int = 20_000
    acquired_weeks: int = 13
    weeks: int = 78
    first_day: str = "2021-01-01"
    rate_median: float = 0.028
    rate_sigma: float = 1.3
    leave_median: float = 0.018
    leave_sigma: float = 1.5
    money_median: float = 24.0
    money_user_sigma: float = 0.6
    money_sigma: float = 0.55


def cohort_log(seed: int, config: CohortConfig | None = None) -> pa.Table:
    """user, date, quantity, money of each purchase; at most one a day, in order of user and date."""
    config = config or CohortConfig()
    rng = np.random.default_rng(seed)
    num = config.num_users

    def lognormal(median: float, sigma: float) -> np.ndarray:
        return median * np.exp(sigma * rng.standard_normal(num))

    rate_U = lognormal(config.rate_median, config.rate_sigma)
    leave_U = lognormal(config.leave_median, config.leave_sigma)
    money_U = lognormal(config.money_median, config.money_user_sigma)
    first_U = rng.uniform(0, config.acquired_weeks, num)
    end_U = np.minimum(first_U + rng.exponential(1 / leave_U), config.weeks)
    count_U = rng.poisson(rate_U * (end_U - first_U))
    user_E = np.repeat(np.arange(num), count_U)
    again_E = rng.uniform(first_U[user_E], end_U[user_E])
    user_E = np.r_[np.arange(num), user_E]
    day_E = np.floor(np.r_[first_U, again_E] * WEEK_DAYS).astype(int)
    bought = np.unique(np.stack([user_E, day_E]), axis=1)
    quantity_E = 1 + rng.poisson(1.2, bought.shape[1])
    money_E = money_U[bought[0]] * np.exp(config.money_sigma * rng.standard_normal(bought.shape[1]))
    money_E *= 0.4 + 0.6 * quantity_E / 2.2
    return pa.table(
        {
            "user": bought[0] + 1,
            "date": np.datetime64(config.first_day) + bought[1],
            "quantity": quantity_E,
            "money": np.round(np.maximum(money_E, 1), 2),
        }
    )


def write_cohort(folder: Path, *, seed: int, config: CohortConfig | None = None) -> Path:
    """cohort.csv in the folder, and conf/dataset/cohort.yaml that the commands take by --config-dir."""
    config = config or CohortConfig()
    folder.mkdir(parents=True, exist_ok=True)
    pa.csv.write_csv(cohort_log(seed, config), folder / "cohort.csv")
    half_days = config.weeks // 2 * WEEK_DAYS
    last_day = config.weeks * WEEK_DAYS - 1
    test_cut = np.datetime64(config.first_day) + last_day - half_days
    conf = folder / "conf" / "dataset"
    conf.mkdir(parents=True, exist_ok=True)
    (conf / "cohort.yaml").write_text(
        _YAML.format(path=(folder / "cohort.csv").resolve(), test_cut=test_cut, horizon=half_days)
    )
    return folder / "conf"


_YAML = """\
name: cohort
public_examples: true
filter_seen: false
currency: $
has_time: true

events:
  path: {path}
  format: csv
  options: {{header: true}}

columns:
  user_id: user
  item_id: "'any'"
  timestamp: to_timestamp(date)
  event_type: "'purchase'"
  order_id: "concat(user, date)"
  quantity: quantity
  value: cast(money as double)

event_types: [purchase]
target_event_types: [purchase]
tie_key: [item_id, quantity, value]

split:
  kind: time
  test_cut: "{test_cut}"
  window_days: 30
  train_every_days: 14
  min_train_days: 30
  horizons_days: [7, 30, 90, 180, {horizon}]
"""
