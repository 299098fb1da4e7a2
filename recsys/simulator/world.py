"""What a world is made of: the numbers of conf/world/*.yaml. Their equations: docs/market.md."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.schema import InputError
from recsys.settings import check_range

POSITION, CASCADE = "position", "cascade"


@dataclass(frozen=True, kw_only=True)
class UserSettings:
    """How users differ. `*_sigma` are those of lognormals; budgets are money per 30 days."""

    taste_concentration: float  # of the Dirichlet over topics; small: few topics each
    price_sensitivity_mean: float
    price_sensitivity_sigma: float
    whale_sigma: float  # of what multiplies the budget and, weaker, the odds to buy
    budget_mean: float
    response_sigma: float  # of how strongly satisfaction answers
    arrived_share: float  # of the users, there on day 0
    arrival_days: int  # the others arrive evenly over these days

    def __post_init__(self) -> None:
        check_range("users.taste_concentration", self.taste_concentration, above=0)
        check_range("users.price_sensitivity_mean", self.price_sensitivity_mean, least=0)
        check_range("users.price_sensitivity_sigma", self.price_sensitivity_sigma, least=0, most=3)
        check_range("users.whale_sigma", self.whale_sigma, least=0, most=3)
        check_range("users.budget_mean", self.budget_mean, above=0)
        check_range("users.response_sigma", self.response_sigma, least=0, most=3)
        check_range("users.arrived_share", self.arrived_share, least=0, most=1)
        check_range("users.arrival_days", self.arrival_days, least=1)


@dataclass(frozen=True, kw_only=True)
class ItemSettings:
    """How items differ: quality is a standard normal, and so is clickbait, correlated with it."""

    num_topics: int
    bait_correlation: float
    price_median: float
    price_sigma: float
    born_share: float  # of the items, there on day 0
    birth_days: int  # the others come evenly over these days

    def __post_init__(self) -> None:
        check_range("items.num_topics", self.num_topics, least=2)
        check_range("items.bait_correlation", self.bait_correlation, least=-1, most=1)
        check_range("items.price_median", self.price_median, above=0)
        check_range("items.price_sigma", self.price_sigma, least=0, most=3)
        check_range("items.born_share", self.born_share, above=0, most=1)
        check_range("items.birth_days", self.birth_days, least=1)


@dataclass(frozen=True, kw_only=True)
class ChoiceSettings:
    """Log odds of clicks and purchases; shares of what is put off and of visits that search."""

    attention: str
    click_bias: float
    click_affinity: float
    click_bait: float
    click_boredom: float
    slot_slope: float  # log odds lost from slot to slot (attention: position)
    go_on_after_skip: float  # probability to look at the next slot (attention: cascade)
    go_on_after_click: float
    buy_bias: float
    buy_affinity: float
    buy_quality: float
    buy_whale: float
    delayed_share: float
    delay_days_mean: float
    search_share: float

    def __post_init__(self) -> None:
        if self.attention not in (POSITION, CASCADE):
            raise InputError(f"choice.attention={self.attention!r} is unknown; use {POSITION} or {CASCADE}")
        for name in ("go_on_after_skip", "go_on_after_click", "delayed_share", "search_share"):
            check_range(f"choice.{name}", getattr(self, name), least=0, most=1)
        check_range("choice.delay_days_mean", self.delay_days_mean, least=1)
        check_range("choice.slot_slope", self.slot_slope, least=0)
        check_range("choice.click_boredom", self.click_boredom, least=0)


@dataclass(frozen=True, kw_only=True)
class SatisfactionSettings:
    """What moves satisfaction (0: neutral) and boredom (of each topic, from 0)."""

    memory: float  # share of satisfaction that a visit leaves
    from_clicks: float  # per click, times quality - clickbait
    from_purchases: float  # per purchase, times quality
    from_boredom: float  # lost per unit of mean boredom with what is shown
    saturation: float  # largest change a visit can bring, by tanh; 0: linear, without bound
    boredom_gain: float  # of a whole slate of one topic
    boredom_decay: float  # share of boredom left after a day

    def __post_init__(self) -> None:
        for name in ("memory", "boredom_decay"):
            check_range(f"satisfaction.{name}", getattr(self, name), least=0, most=1)
        for name in ("from_clicks", "from_purchases", "from_boredom", "saturation", "boredom_gain"):
            check_range(f"satisfaction.{name}", getattr(self, name), least=0)


@dataclass(frozen=True, kw_only=True)
class ReturnSettings:
    """How soon users come back and when they leave for good, and what satisfaction does to that."""

    daily_return: float  # probability
    return_effect: float  # log odds per unit of satisfaction
    daily_hazard: float  # of leaving for good
    hazard_effect: float  # log hazard less per unit of satisfaction

    def __post_init__(self) -> None:
        check_range("returns.daily_return", self.daily_return, above=0, below=1)
        check_range("returns.return_effect", self.return_effect, least=0)
        check_range("returns.daily_hazard", self.daily_hazard, least=0, below=1)
        check_range("returns.hazard_effect", self.hazard_effect, least=0)


@dataclass(frozen=True, kw_only=True)
class ChangeSettings:
    """What the calendar changes. Drifts go evenly from old to new over so many days; 0: none."""

    season_amplitude: float  # of the odds to buy and to come back, over a year
    weekend_factor: float  # of the same odds, on the last two days of seven
    shock_first_day: int
    shock_days: int  # 0: no shock
    shock_factor: float
    taste_drift_days: int
    quality_drift_days: int

    def __post_init__(self) -> None:
        check_range("change.season_amplitude", self.season_amplitude, least=0, below=1)
        check_range("change.weekend_factor", self.weekend_factor, above=0)
        check_range("change.shock_factor", self.shock_factor, above=0)
        for name in ("shock_first_day", "shock_days", "taste_drift_days", "quality_drift_days"):
            check_range(f"change.{name}", getattr(self, name), least=0)


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """A world of conf/world/."""

    name: str
    users: UserSettings
    items: ItemSettings
    choice: ChoiceSettings
    satisfaction: SatisfactionSettings
    returns: ReturnSettings
    change: ChangeSettings
