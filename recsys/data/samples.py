"""Training samples: windows of users' events, with the item and cut queries that fall into each.

Built once, a block of users at a time, into files that all ranks and workers of a node map.
Legend: U users, E events, S samples, V items.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from recsys.data.content import ItemContent
from recsys.data.cut_features import CutScaler, num_cut_features, raw_cut_features
from recsys.data.cut_queries import CutQueryTable, cut_queries, training_cuts
from recsys.data.cut_tables import CutTable
from recsys.data.item_queries import ItemQueryTable, dated_queries, no_queries
from recsys.data.mapped import GrowingArrays, open_mapped
from recsys.data.negatives import Negatives
from recsys.data.popularity import period_starts
from recsys.data.sample_config import SampleConfig
from recsys.data.tables import FeatureTables
from recsys.data.windows import UserBlock, Windows, cut_windows, read_block, segments
from recsys.disk import built_once
from recsys.draws import draw
from recsys.schema import Split

_FORMAT = 4  # of the files; another number where other code would write others
_PLACE = 4  # stream of draws, after those of recsys.data.negatives


class TrainingSamples:
    """All that may be learned before the cut of `fit_until`; nothing after it is looked at.

    scaler: that of the model to go on from, whose value heads mean its units; without one it is that of the
    training cuts.
    """

    def __init__(
        self, *, tables: FeatureTables, fit_until: str, config: SampleConfig, scaler: CutScaler | None = None
    ) -> None:
        assert fit_until in Split.HELD_OUT
        self.tables, self.fit_until, self.config = tables, fit_until, config
        self.histories = tables.histories
        self.boundary = tables.cut(fit_until)
        self.period_starts = period_starts(tables, self.boundary)
        folder = built_once(
            tables.cache_dir / f"{tables.version}-samples-{fit_until}-{_key(config)}",
            lambda folder: _Build(self, fit_until).write(folder),
        )

        def opened(name: str) -> np.ndarray:
            return open_mapped(folder / f"{name}.npy")

        self.user_end, self.profile = opened("user_end"), opened("profile")
        self.target_mask = opened("target_mask")  # bool (E,), events that may be targets
        self.user, self.begin, self.end = opened("user"), opened("begin"), opened("end")
        self.lengths, self.weight, self.num_cuts = opened("lengths"), opened("weight"), opened("num_cuts")
        self.items = ItemQueryTable(*(opened(f"item_{f.name}") for f in fields(ItemQueryTable)))
        self.cuts = CutQueryTable(*(opened(f"cut_{f.name}") for f in fields(CutQueryTable)))
        self.scaler = scaler or CutScaler(**json.loads((folder / "scaler.json").read_text()))
        self.content: ItemContent | None = None
        self.negatives: Negatives | None = None
        if tables.num_items > config.num_negatives:
            self.content = tables.content(fit_until, self.period_starts)
            self.negatives = Negatives(
                count_V=opened("taken"),
                in_training_V=self.content.in_training_V,
                num_draws=config.num_negatives,
            )

    def __len__(self) -> int:
        return len(self.user)

    def windows(self, rows: np.ndarray, *, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """First event of each sample's window and the event after its last, in this epoch."""
        begin, end, length = self.begin[rows], self.end[rows], self.lengths[rows]
        begin = begin + (
            draw(rows, seed=seed, epoch=epoch, stream=_PLACE) * (end - begin - length + 1)
        ).astype(int)
        return begin, begin + length


def _key(config: SampleConfig) -> str:
    """Short hash of all that decides the files beside the tables and the cut."""
    return hashlib.sha256(json.dumps([_FORMAT, asdict(config)], sort_keys=True).encode()).hexdigest()[:12]


class _Build:
    """The files of one table version, cut and config."""

    def __init__(self, samples: TrainingSamples, fit_until: str) -> None:
        self.tables, self.config = samples.tables, samples.config
        self.boundary, self.period_starts = samples.boundary, samples.period_starts
        self.at_boundary = self.tables.at_cut(split=fit_until)
        self.known_users = self.at_boundary
        if not self.tables.is_time_split:  # there the held-out cut lacks those of whom nothing is held out
            self.known_users = self.tables.at_cut(split=Split.TRAIN, cut=self.boundary)
        self.cut_tables = training_cuts(self.tables, fit_until=fit_until, boundary=self.boundary)

    def write(self, folder: Path) -> None:
        taken_V = np.zeros(self.tables.num_items + 1, np.int64)
        num_items = num_cuts = 0
        with GrowingArrays(folder) as out:
            out.append(item_start=np.zeros(1, np.int64), cut_start=np.zeros(1, np.int64))
            for users in self.tables.histories.blocks(rows_per_user=len(self.period_starts)):
                block = read_block(self.tables, users, boundary=self.boundary, at_boundary=self.at_boundary)
                windows, items = self._item_queries(block)
                cuts = cut_queries(
                    block,
                    windows,
                    self.cut_tables,
                    horizons_days=self.tables.horizons_days,
                    boundary=self.boundary,
                )
                out.append(
                    user_end=block.end,
                    profile=_profiles(self.known_users, users),
                    target_mask=block.is_target,
                    **vars(windows),
                    lengths=np.minimum(windows.end - windows.begin, self.config.max_length),
                    weight=_sample_weights(items)
                    if self.tables.is_time_split
                    else self._share(block, windows),
                    num_cuts=np.diff(cuts.start),
                    item_start=num_items + items.start[1:],
                    cut_start=num_cuts + cuts.start[1:],
                    **_columns("item", items),
                    **_columns("cut", cuts),
                )
                num_items, num_cuts = num_items + len(items.prefix), num_cuts + len(cuts.prefix)
                item, count = np.unique(
                    block.item_index[block.is_known & block.is_target], return_counts=True
                )
                taken_V[item] += count
        np.save(folder / "taken.npy", taken_V)
        scaler = CutScaler.fit(
            lambda: (raw_cut_features(part.activity) for table in self.cut_tables for part in table.blocks()),
            num_features=num_cut_features(self.at_boundary.activity.shape[1]),
        )
        (folder / "scaler.json").write_text(json.dumps(asdict(scaler)))

    def _item_queries(self, block: UserBlock) -> tuple[Windows, ItemQueryTable]:
        if not self.tables.is_time_split:
            windows = segments(block, max_length=self.config.max_length)
            return windows, no_queries(windows)
        windows = cut_windows(block, max_length=self.config.max_length)
        return windows, dated_queries(
            block,
            windows,
            period_starts=self.period_starts,
            boundary=self.boundary,
            config=self.config,
        )

    def _share(self, block: UserBlock, windows: Windows) -> np.ndarray:
        """float64 (S,): targets to expect in a window that is drawn within each segment."""
        total = np.r_[0, np.cumsum(block.is_target)]
        found = total[windows.end - block.first_event] - total[windows.begin - block.first_event]
        length = windows.end - windows.begin
        return found * np.minimum(1.0, self.config.max_length / np.maximum(length, 1))


def _columns(prefix: str, table: ItemQueryTable | CutQueryTable) -> dict[str, np.ndarray]:
    return {f"{prefix}_{name}": column for name, column in vars(table).items() if name != "start"}


def _sample_weights(items: ItemQueryTable) -> np.ndarray:
    """float64 (S,): weight that a sample's queries have in an epoch."""
    sums = np.add.reduceat(np.r_[items.weight * items.share, 0.0], items.start)[:-1]
    return sums * (np.diff(items.start) > 0)


def _profiles(known_users: CutTable, users: tuple[int, int]) -> np.ndarray:
    """int64 (U, F): profile of each user as known at the boundary."""
    part = known_users.of_users(*users)
    profile = np.zeros((users[1] - users[0], part.profile.shape[1]), np.int64)
    profile[part.user_index - 1 - users[0]] = part.profile
    return profile
