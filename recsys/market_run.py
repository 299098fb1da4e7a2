"""Every policy in the market from the same state with the same luck, and what each is truly worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.market_log import STATE, MarketLog
from recsys.market_policies import DRAWN, REFERENCE, Drawn, PolicyParts, make_policies
from recsys.metrics.interval import mean_intervals
from recsys.policy.slates import PolicyConfig
from recsys.pseudonym import Key
from recsys.schema import InputError
from recsys.settings import check_range
from recsys.simulator.market import Day, Market, Policy
from recsys.simulator.truth import Ledger
from recsys.simulator.world import WorldConfig

RETENTION_DAYS = (30, 90, 180)
VALUES = "values.parquet"  # true value of every user, a column a policy
LOG = "log"  # folder of the policy that is logged


@dataclass(frozen=True, kw_only=True)
class SimulateSettings:
    """The settings of conf/simulate.yaml that belong to no group."""

    users: int
    items: int
    days: int
    seed: int
    discount_per_day: float
    policies: list[str]
    weights: list[float]
    shelf_size: int
    top_k: str | None = None
    bundle: str | None = None
    tables: str | None = None
    cache_dir: str
    renew_days: int
    state: str | None = None
    log: str | None = None
    output_dir: str

    def __post_init__(self) -> None:
        check_range("days", self.days, least=1)
        check_range("shelf_size", self.shelf_size, least=1)
        check_range("renew_days", self.renew_days, least=1)
        for weight in self.weights:
            check_range("weights", weight, least=0)


class Simulation:
    """Policies and the market they are tried in. InputError for settings that do not go together."""

    def __init__(
        self, settings: SimulateSettings, *, world: WorldConfig, slates: PolicyConfig, key: Key
    ) -> None:
        self.settings, self._world, self._key = settings, world, key
        market = self._market()
        self.first_day = market.state.day
        parts = PolicyParts(
            slates=slates,
            shelf_size=settings.shelf_size,
            weights=[float(weight) for weight in settings.weights],
            top_k=_path(settings.top_k),
            key=key,
            bundle=_path(settings.bundle),
            tables=_path(settings.tables),
            cache_dir=Path(settings.cache_dir),
            renew_days=settings.renew_days,
        )
        self.policies = make_policies(settings.policies, market, parts)
        if settings.log is not None and settings.log not in {*self.policies} & {*DRAWN}:
            raise InputError(
                f"log={settings.log} cannot be logged; name one of {', '.join(DRAWN)} that policies names too"
            )

    def run(self, folder: Path, *, on_day: Callable[[str], None]) -> dict[str, Any]:
        """Write each user's value and the log that is asked for into the folder; returns what truth.json
        says.
        """
        ledgers = {name: self._run(name, policy, folder, on_day) for name, policy in self.policies.items()}
        per_user = {name: ledger.value_U for name, ledger in ledgers.items()}
        pq.write_table(pa.table(per_user), folder / VALUES)
        return {
            "world": asdict(self._world),
            "settings": asdict(self.settings),
            "first_day": self.first_day,
            "reference": REFERENCE,
            "policies": figures(ledgers),
        }

    def _run(self, name: str, policy: Policy, folder: Path, on_day: Callable[[str], None]) -> Ledger:
        market = self._market()
        ledger = Ledger(market, discount_per_day=self.settings.discount_per_day)

        def days() -> Iterator[Day]:
            for _ in range(self.settings.days):
                day = market.day(policy)
                ledger.add(day)
                if isinstance(policy, Drawn):
                    policy.saw(day)
                on_day(name)
                yield day

        if name != self.settings.log:
            for _ in days():
                pass
            return ledger
        assert isinstance(policy, Drawn)
        with MarketLog(folder / LOG, market, policy, self._key) as log:
            for day in days():
                log.add(day)
        market.save(folder / LOG / STATE)
        return ledger

    def _market(self) -> Market:
        settings = self.settings
        return Market(
            world=self._world,
            num_users=settings.users,
            num_items=settings.items,
            seed=settings.seed,
            state_file=_path(settings.state),
        )


def _path(name: str | None) -> Path | None:
    return Path(name) if name else None


def figures(ledgers: Mapping[str, Ledger]) -> dict[str, dict[str, Any]]:
    """Per policy: means over users with 95 % intervals, differences paired by user against the reference.

    `gain` is the difference as a share of the reference's mean value, which is taken as known.
    """
    reference_U = ledgers[REFERENCE].value_U
    measures = {("value", name): ledger.value_U for name, ledger in ledgers.items()}
    measures |= {("difference", name): ledger.value_U - reference_U for name, ledger in ledgers.items()}
    intervals = mean_intervals({"/".join(names): values_U for names, values_U in measures.items()})
    found: dict[str, dict[str, Any]] = {}
    for name, ledger in ledgers.items():
        difference = intervals[f"difference/{name}"].as_dict()
        base = float(reference_U.mean())
        found[name] = {
            "value": intervals[f"value/{name}"].as_dict(),
            "difference": difference,
            "gain": {end: x / base if base > 0 and x is not None else None for end, x in difference.items()},
            "first_visit_spend": float(ledger.first_spend_U.mean()),
            "first_visit_clicks": float(ledger.first_clicks_U.mean()),
            "visits": float(ledger.num_visits_U.mean()),
            "retention": {str(days): ledger.retention(days) for days in RETENTION_DAYS},
        }
    return found


def table_lines(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The figures as a table for people."""
    heads = ["policy", "true value", "difference [95 %]", "gain", "first spend", "first clicks", "visits"]
    rows = [[*heads, *(f"there d{days}" for days in RETENTION_DAYS)]]
    for name, figure in found.items():
        difference, gain = figure["difference"], figure["gain"]["value"]
        rows.append(
            [
                name,
                f"{figure['value']['value']:.2f}",
                f"{difference['value']:+.2f} [{difference['low']:+.2f}, {difference['high']:+.2f}]",
                "-" if gain is None else f"{gain:+.1%}",
                f"{figure['first_visit_spend']:.2f}",
                f"{figure['first_visit_clicks']:.2f}",
                f"{figure['visits']:.1f}",
                *("-" if share is None else f"{share:.3f}" for share in figure["retention"].values()),
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = [[cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return ["  ".join([row[0].ljust(widths[0]), *cells[1:]]) for row, cells in zip(rows, padded, strict=True)]
