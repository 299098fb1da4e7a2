"""Fit of a `ValueCalibration` to a trained model: how its value heads did at the latest training cuts.

Nothing after the boundary of training is looked at.

Legend: K cut queries of all training cuts, U users at a cut, H horizons (increments), J hazard bins.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from recsys.batch import Catalogue, TrainBatch
from recsys.build import catalogue_at
from recsys.data.collate import predict_batch
from recsys.data.cut_queries import training_cuts
from recsys.data.cut_tables import CutTable
from recsys.data.plan import ElasticLoader, PlanConfig
from recsys.data.samples import TrainingSamples
from recsys.known_events import interactions_until
from recsys.nn.user_model import UserModel
from recsys.nn.value_heads import ValueHeadsConfig
from recsys.schema import SECONDS_PER_DAY, InputError
from recsys.valuation.calibration import ValueCalibration, no_calibration
from recsys.valuation.decay import Decay
from recsys.valuation.heads import value_parameters
from recsys.valuation.law import ValueParameters, coverage, increment_cdf
from recsys.valuation.maps import MonotoneMap, fit_map

_MAX_QUERIES = 200_000
_MAX_USERS = 20_000  # of a cut, for the level
_MIN_CUTS = 4  # a horizon that fewer cuts watched than that and than the first one is extrapolated
_NUM_CUTS = 4  # of the latest ones that watched a horizon to its end, to calibrate it
_SPREADS = np.geomspace(0.4, 2.5, 22)
_DEPENDENCES = np.linspace(0.0, 0.95, 20)
_MAX_PATHS = 2_000  # records whose draws are looked at for the dependence
_MAX_LEVEL = 3.0  # a level that is off by more is not believed


@dataclass(frozen=True)
class CutRecords:
    """What the heads said at training cuts, and what came. `fold_K`: equal for cuts of one history window;
    the rest as in `CutQueries`."""

    said: ValueParameters
    fold_K: np.ndarray
    spend_KH: np.ndarray
    observed_KH: np.ndarray
    next_active_days_K: np.ndarray
    observed_days_K: np.ndarray
    converted_K: np.ndarray

    def latest(self, watched_K: np.ndarray) -> np.ndarray:
        """bool (K,): records of the latest cuts among the watched ones. Cuts differ in observed_days."""
        cut_K = np.round(self.observed_days_K, 3)
        return watched_K & np.isin(cut_K, np.unique(cut_K[watched_K])[:_NUM_CUTS])

    def num_cuts(self, watched_K: np.ndarray) -> int:
        return len(np.unique(np.round(self.observed_days_K[watched_K], 3)))


@dataclass(frozen=True)
class Level:
    """Money of the population at the boundary, by its own past and the decay: float64 (H,) of increments.

    expected: by the decay alone, up to a factor; ratio: what came / what a decay fitted there expected, the
    median of the latest cuts that watched the increment, nan where none did. said: what the heads say there;
    source: the model of the decay.
    """

    expected_H: np.ndarray
    ratio_H: np.ndarray
    hazard_J: np.ndarray
    said: ValueParameters
    source: str


def calibrated_heads(
    model: UserModel, catalogue: Catalogue | None, samples: TrainingSamples, *, plan: PlanConfig
) -> ValueCalibration | None:
    """What the training cuts say of a trained model's value heads; None without them. Every rank of a
    sharded table calls this.
    """
    if model.value_heads is None or not len(samples.cuts.prefix):
        return None
    loader = ElasticLoader(samples=samples, config=plan)
    records = cut_records(model, catalogue, islice(loader, len(loader)))
    return fit_calibration(records, population_level(model, samples), model.value_heads.config)


@torch.no_grad()
def cut_records(model: UserModel, catalogue: Catalogue | None, batches: Iterable[TrainBatch]) -> CutRecords:
    """One pass over training batches in evaluation mode, ended by 200,000 cut queries."""
    was_training = model.training
    model.eval()
    parts: list[tuple[np.ndarray, ...]] = []
    num_rows = num_queries = 0
    for batch in batches:
        cuts, mask = batch.cuts, batch.cuts.mask_BC.numpy().ravel()
        states = model(batch.histories, batch.catalogue(catalogue))
        said = value_parameters(model.value(states, cuts.length_BC, cuts.features_BCR))
        fold = num_rows + np.repeat(np.arange(len(cuts.mask_BC)), cuts.mask_BC.shape[1])
        came = (cuts.spend_BCH, cuts.observed_BCH, cuts.next_active_days_BC, cuts.observed_days_BC)
        flat = [values.numpy().reshape(len(mask), *values.shape[2:]) for values in (*came, cuts.converted_BC)]
        parts.append(tuple(column[mask] for column in (*vars(said).values(), fold, *flat)))
        num_rows, num_queries = num_rows + len(cuts.mask_BC), num_queries + int(mask.sum())
        if num_queries >= _MAX_QUERIES:
            break
    model.train(was_training)
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return CutRecords(ValueParameters(*columns[:5]), *columns[5:])


def population_level(model: UserModel, samples: TrainingSamples) -> Level:
    """Of at most 20,000 users at each cut."""
    tables, boundary = samples.tables, samples.boundary
    horizons, heads = tables.horizons_days, model.value_heads
    assert heads is not None
    now = tables.at_cut(split=samples.fit_until).thinned(_MAX_USERS)
    known = interactions_until(tables, now)
    decay = Decay(known)
    cuts = training_cuts(tables, fit_until=samples.fit_until, boundary=boundary)
    ratio_CH = np.full((len(cuts), len(horizons)), np.nan)
    for c, watched_H in enumerate(_latest_watched(cuts, horizons, boundary)):
        if watched_H.any():
            ratio_CH[c] = np.where(watched_H, _came_of_expected(samples, cuts[c], decay.source), np.nan)
    known_H, ratio_H = np.isfinite(ratio_CH).any(0), np.full(len(horizons), np.nan)
    ratio_H[known_H] = np.nanmedian(ratio_CH[:, known_H], axis=0)
    return Level(
        expected_H=decay.increments(known, horizons),
        ratio_H=ratio_H,
        hazard_J=decay.hazards(known, heads.config.bin_ends_days),
        said=_said_at(model, samples, now),
        source=decay.source,
    )


def _latest_watched(cuts: list[CutTable], horizons_days: Sequence[int], boundary: int) -> np.ndarray:
    """bool (C, H): the latest cuts that were watched through each horizon."""
    watched_days_C1 = (boundary - np.array([[table.cut] for table in cuts])) / SECONDS_PER_DAY
    watched_CH: np.ndarray = np.asarray(horizons_days) <= watched_days_C1 + 1e-6
    later_CH = np.cumsum(watched_CH[::-1], axis=0)[::-1]  # this one included
    return watched_CH & (later_CH <= _NUM_CUTS)


def _came_of_expected(samples: TrainingSamples, table: CutTable, source: str) -> np.ndarray:
    """(H,): what came in each increment / what a decay fitted at the cut, as one would have then, expects of
    it; nan where another model was all that could be fitted, or nothing came.
    """
    table = table.thinned(_MAX_USERS)
    known = interactions_until(samples.tables, table)
    decay, came_H = Decay(known), np.diff(np.nansum(table.spend, axis=0), prepend=0.0)
    ratio_H = came_H / decay.increments(known, samples.tables.horizons_days)
    return np.where((ratio_H > 0) & (decay.source == source), ratio_H, np.nan)


@torch.no_grad()
def _said_at(
    model: UserModel, samples: TrainingSamples, table: CutTable, chunk: int = 256
) -> ValueParameters:
    """The heads of each user of the table who has a history."""
    was_training = model.training
    model.eval()
    catalogue = catalogue_at(samples.tables, samples.fit_until)
    rows = np.flatnonzero(table.prefix_length > 0)
    rows = rows[np.argsort(table.prefix_length[rows], kind="stable")]
    parts = []
    for start in range(0, len(rows), chunk):
        batch = predict_batch(
            samples.histories,
            table,
            rows[start : start + chunk],
            scaler=samples.scaler,
            max_length=model.config.max_length,
        )
        states = model(batch.histories, catalogue)
        output = model.value(states, batch.histories.length_B[:, None], batch.features_BR[:, None])
        parts.append(vars(value_parameters(output)))
    model.train(was_training)
    return ValueParameters(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def fit_calibration(records: CutRecords, level: Level, heads: ValueHeadsConfig) -> ValueCalibration:
    """Shape, spread and dependence from the latest cuts that watched each horizon to its end; level from the
    decay. Of a dataset without money only hazards and conversion are touched. Raises InputError where the
    heads say what is no number.
    """
    if any(np.isnan(column).any() for column in vars(records.said).values()):
        raise InputError("some value estimates are not numbers; look at the losses, and lower optimizer.lr")
    horizons, bins = heads.horizons_days, heads.bin_ends_days
    num_bins = _num_learned(records, bins)
    hazard_maps = [_hazard_map(records, bins, j) for j in range(num_bins)]
    first_K = records.latest(records.observed_KH[:, 0])
    found = dataclasses.replace(
        no_calibration(len(horizons), len(bins)),
        num_learned=_num_learned(records, horizons),
        num_learned_bins=num_bins,
        hazard_maps=_filled(hazard_maps, len(bins)),
        hazard_ratio=_ratios(level.hazard_J, num_bins),
        decay=level.source,
        conversion_map=_map(records, records.said.conversion_U, records.converted_K, first_K),
    )
    return _fit_spend(found, records, level) if heads.has_value and found.num_learned else found


def _fit_spend(found: ValueCalibration, records: CutRecords, level: Level) -> ValueCalibration:
    said, num_learned, num_horizons = records.said, found.num_learned, len(found.spread)
    spend_maps, payer_maps, largest = [], [], list(found.largest)
    for h in range(num_learned):
        at_K, spend_K = records.latest(records.observed_KH[:, h]), records.spend_KH[:, h]
        spend_maps.append(_map(records, said.mean_UH[:, h], spend_K, at_K))
        payer_maps.append(_map(records, said.payer_UH[:, h], spend_K > 0, at_K))
        largest[h] = float(spend_K[records.observed_KH[:, h]].max(initial=0.0)) or largest[h]
    found = dataclasses.replace(
        found,
        spend_maps=_filled(spend_maps, num_horizons),
        payer_maps=_filled(payer_maps, num_horizons),
        largest=tuple(largest),
    )
    found = dataclasses.replace(found, spread=_spreads(found, records))
    found = dataclasses.replace(found, dependence=_dependence(found, records))
    beyond = _spread_beyond(found, records)
    found = dataclasses.replace(
        found, spread=(*found.spread[:num_learned], *(beyond,) * (num_horizons - num_learned))
    )
    told = found(level.said)
    found = dataclasses.replace(found, spread=_no_surer(found, records, told))
    total_H, told_H = level.expected_H * level.ratio_H, told.mean_UH.sum(axis=0)
    level_H = np.clip(total_H / np.maximum(told_H, 1e-12), 1 / _MAX_LEVEL, _MAX_LEVEL)
    level_H = np.where(np.isfinite(level_H), level_H, 1.0)
    return dataclasses.replace(
        found,
        level=(*level_H[:num_learned].tolist(), *(1.0,) * (num_horizons - num_learned)),
        spend_ratio=_ratios(level.expected_H, num_learned),
    )


def _filled(maps: list[MonotoneMap], size: int) -> tuple[MonotoneMap, ...]:
    return (*maps, *(MonotoneMap(),) * (size - len(maps)))


def _num_learned(records: CutRecords, ends_days: Sequence[int]) -> int:
    """How many ends, from the first on, enough cuts watched: all that there are, where a log is young."""
    watched = [records.num_cuts(records.observed_days_K >= days - 1e-6) for days in ends_days]
    enough = [0 < min(_MIN_CUTS, watched[0]) <= num_cuts for num_cuts in watched]
    return next((k for k, is_enough in enumerate(enough) if not is_enough), len(ends_days))


def _ratios(expected: np.ndarray, num_learned: int) -> tuple[float, ...]:
    """What each end that was not learned adds, relative to all that was."""
    ratio = expected / max(expected[:num_learned].sum(), 1e-12)
    ratio[:num_learned] = 0.0
    return tuple(ratio.tolist())


def _map(records: CutRecords, said_K: np.ndarray, came_K: np.ndarray, at_K: np.ndarray) -> MonotoneMap:
    return fit_map(said_K[at_K], came_K[at_K].astype(np.float64), records.fold_K[at_K])


def _hazard_map(records: CutRecords, bins: tuple[int, ...], j: int) -> MonotoneMap:
    start = bins[j - 1] if j else 0.0
    at_risk_K = (records.next_active_days_K > start) & (records.observed_days_K >= bins[j] - 1e-6)
    happened_K = records.next_active_days_K <= bins[j]
    return _map(records, records.said.hazard_UJ[:, j], happened_K, records.latest(at_risk_K))


def _of(parameters: ValueParameters, at_K: np.ndarray) -> ValueParameters:
    return ValueParameters(*(column[at_K] for column in vars(parameters).values()))


def _spreads(found: ValueCalibration, records: CutRecords) -> tuple[float, ...]:
    """Of each learned increment by itself; those beyond take the last one's for now."""
    spreads = []
    for h in range(found.num_learned):
        at_K = records.latest(records.observed_KH[:, h])
        told, spend_K = found(_of(records.said, at_K)), records.spend_KH[at_K, h]
        mean, payer, sigma = told.mean_UH[:, h], told.payer_UH[:, h], told.sigma_UH[:, h]
        covers = [
            coverage(*increment_cdf(spend_K, mean=mean, payer=payer, sigma=sigma * spread))
            for spread in _SPREADS
        ]
        spreads.append(_nearest(covers, _SPREADS, default=1.0))
    return (*spreads, *(spreads[-1:] * (len(found.spread) - len(spreads))))


def _dependence(found: ValueCalibration, records: CutRecords) -> float:
    """At which the sum of all learned increments is covered."""
    last = found.num_learned - 1
    covers = [
        _covered(dataclasses.replace(found, dependence=float(dependence)), records, last)
        for dependence in _DEPENDENCES
    ]
    return _nearest(covers, _DEPENDENCES, default=0.0)


def _spread_beyond(found: ValueCalibration, records: CutRecords) -> float:
    """Of increments that were not learned: the one at which the last learned one, carried on from those
    before it as if it were not, is covered. With one learned increment there is none to try it on.
    """
    last = found.num_learned - 1
    if not 0 < last < len(found.spread) - 1:
        return found.spread[last]
    at_K = records.latest(records.observed_KH[:, last])
    before = found(_of(records.said, at_K)).mean_UH[:, :last].sum()
    ratio = records.spend_KH[at_K, last].sum() / max(before, 1e-12)
    practice = dataclasses.replace(
        found,
        num_learned=last,
        spend_ratio=(*found.spend_ratio[:last], float(ratio), *found.spend_ratio[last + 1 :]),
    )

    def covered(spread: float) -> float:
        tried = (*found.spread[:last], spread, *found.spread[last + 1 :])
        return _covered(dataclasses.replace(practice, spread=tried), records, last)

    return _nearest([covered(float(spread)) for spread in _SPREADS], _SPREADS, default=found.spread[last])


def _no_surer(found: ValueCalibration, records: CutRecords, told: ValueParameters) -> tuple[float, ...]:
    """Spreads at which the sigma of what is told at the boundary is no less, money by money, than at the cuts
    that taught it. Histories there are longer than at any cut that was watched through a long horizon, and
    the heads grow surer with them than anything has shown them to be.
    """
    widened = list(found.spread)
    for h in range(found.num_learned):
        taught = found(_of(records.said, records.latest(records.observed_KH[:, h])))
        widened[h] *= max(1.0, _mean_sigma(taught, h) / _mean_sigma(told, h))
    last = found.num_learned - 1  # whose sigma those beyond take
    beyond = np.array(found.spread[last + 1 :]) * widened[last] / found.spread[last]
    return (*widened[: last + 1], *beyond.tolist())


def _mean_sigma(told: ValueParameters, h: int) -> float:
    """Of an increment, weighted by the money expected."""
    return float(np.average(told.sigma_UH[:, h], weights=told.mean_UH[:, h] + 1e-12))


def _covered(found: ValueCalibration, records: CutRecords, last: int) -> float:
    """Coverage of the sum of increments up to `last`, at the latest cuts that watched it to its end."""
    at_K = np.flatnonzero(records.latest(records.observed_KH[:, last]))
    at_K = at_K[:: max(1, -(-len(at_K) // _MAX_PATHS))]
    spend_K = records.spend_KH[at_K, : last + 1].sum(1)[:, None]
    draws_KS = found.draws(found(_of(records.said, at_K)), at_K)[:, last]
    return coverage((draws_KS < spend_K).mean(1), (draws_KS <= spend_K).mean(1))


def _nearest(covers: list[float], values: np.ndarray, *, default: float) -> float:
    """The value nearest to the default among those that cover about as well as any."""
    off = np.abs(np.array(covers) - 0.9)
    good = values[off <= off.min() + 0.002]
    return float(good[np.argmin(np.abs(good - default))])
