"""What is done to the parameters of the value heads before anyone sees them; kept in the bundle.

1. Increments and hazards of horizons that were learned go through rising maps fitted on past cuts.
2. No user is expected to spend more in an increment than anyone was seen to.
3. Their sum is brought to the level that a buy-till-you-die model carries from those cuts to the boundary.
4. Increments beyond the last learned horizon follow those before by the decay of that model.
5. The spread of amounts and their dependence within a user are those at which past intervals covered.

Legend: U users, H horizons (increments), J hazard bins.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.valuation.law import NUM_DRAWS, ValueParameters, spend_draws
from recsys.valuation.maps import MonotoneMap, from_lists, to_lists

_MAPS = ("spend_maps", "payer_maps", "hazard_maps", "conversion_map")


@dataclass(frozen=True, kw_only=True)
class ValueCalibration:
    """num_learned: the first so many horizons were learned, the rest are extrapolated; num_learned_bins: the
    same of hazard bins. level: factor of each learned increment. spend_ratio, hazard_ratio: what each
    extrapolated increment is of the sum up to the last learned one. largest: the most anyone spent in an
    increment. decay: the model that level and ratios are from.
    """

    num_learned: int
    num_learned_bins: int
    level: tuple[float, ...]
    spend_maps: tuple[MonotoneMap, ...]
    payer_maps: tuple[MonotoneMap, ...]
    hazard_maps: tuple[MonotoneMap, ...]
    conversion_map: MonotoneMap
    spend_ratio: tuple[float, ...]
    hazard_ratio: tuple[float, ...]
    largest: tuple[float, ...]
    spread: tuple[float, ...]
    dependence: float
    decay: str

    def __call__(self, raw: ValueParameters) -> ValueParameters:
        """Parameters as they may be told."""
        n, m = self.num_learned, self.num_learned_bins
        payer_UH, hazard_UJ = raw.payer_UH.copy(), raw.hazard_UJ.copy()
        mean_UH, sigma_UH = raw.mean_UH.copy(), raw.sigma_UH * np.asarray(self.spread)
        for h in range(n):
            payer_UH[:, h] = _chance(self.payer_maps[h](payer_UH[:, h]))
            mean_UH[:, h] = np.minimum(self.spend_maps[h](mean_UH[:, h]), self.largest[h]) * self.level[h]
        for j in range(m):
            hazard_UJ[:, j] = _chance(self.hazard_maps[j](hazard_UJ[:, j]))
        spend_U, log_silent_U = mean_UH[:, :n].sum(1), np.log1p(-payer_UH[:, :n]).sum(1)
        for h in range(n, payer_UH.shape[1]) if n else ():
            mean_UH[:, h] = spend_U * self.spend_ratio[h]
            payer_UH[:, h] = _chance(-np.expm1(log_silent_U * self.spend_ratio[h]))
            sigma_UH[:, h] = raw.sigma_UH[:, n - 1] * self.spread[h]
        log_gone_U = np.log1p(-hazard_UJ[:, :m]).sum(1)
        for j in range(m, hazard_UJ.shape[1]) if m else ():
            hazard_UJ[:, j] = _chance(-np.expm1(log_gone_U * self.hazard_ratio[j]))
        conversion_U = _chance(self.conversion_map(raw.conversion_U))
        return ValueParameters(payer_UH, mean_UH, sigma_UH, hazard_UJ, conversion_U)

    def draws(
        self, told: ValueParameters, user_index_U: np.ndarray, *, num_draws: int = NUM_DRAWS
    ) -> np.ndarray:
        """float32 (U, H, S): draws of cumulative spend from the law of calibrated parameters."""
        return spend_draws(told, user_index_U, dependence=self.dependence, num_draws=num_draws)

    def note(self, horizons_days: Sequence[int]) -> str | None:
        """A sentence on the horizons that nobody was watched long enough to learn; None if there are none."""
        if self.num_learned == len(horizons_days):
            return None
        if not self.num_learned:
            return "no training cut was watched to its first horizon: estimates are what the heads start from"
        learned = horizons_days[self.num_learned - 1]
        added = ", ".join(
            f"up to {days} days {1 + sum(self.spend_ratio[: h + 1]):.2f} times that"
            for h, days in enumerate(horizons_days)
            if h >= self.num_learned
        )
        return (
            f"training cuts were watched for {learned} days; spend beyond follows that before by "
            f"{self.decay}: {added}"
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["conversion_map"] = (self.conversion_map,)
        return values | {name: to_lists(values[name]) for name in _MAPS}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ValueCalibration:
        maps = {name: from_lists(values[name]) for name in _MAPS}
        rest: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**rest | maps | {"conversion_map": maps["conversion_map"][0]})


def no_calibration(num_horizons: int, num_bins: int) -> ValueCalibration:
    """Everything as the heads say it."""
    return ValueCalibration(
        num_learned=num_horizons,
        num_learned_bins=num_bins,
        level=(1.0,) * num_horizons,
        spend_maps=(MonotoneMap(),) * num_horizons,
        payer_maps=(MonotoneMap(),) * num_horizons,
        hazard_maps=(MonotoneMap(),) * num_bins,
        conversion_map=MonotoneMap(),
        spend_ratio=(0.0,) * num_horizons,
        hazard_ratio=(0.0,) * num_bins,
        largest=(float("inf"),) * num_horizons,
        spread=(1.0,) * num_horizons,
        dependence=0.0,
        decay="",
    )


def _chance(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 1e-6, 1 - 1e-6)
