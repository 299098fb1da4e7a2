"""What a data set's YAML may say, as frozen dataclasses that check themselves."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from recsys.schema import EventType, InputError, SplitKind

FORMATS = ("parquet", "csv", "json", "jdbc")
TYPED_FORMATS = ("parquet", "jdbc")  # their columns have types, so that text is no number
JOBS = ("build", "erase", "rotate")
MODES = ("full", "incremental")
SETTINGS_OF_JOBS = {
    "users_file": ("erase", "rotate"),
    "erase_raw": ("erase",),
    "key_map": ("rotate",),
    "drop_tombstones": ("rotate",),
}


@dataclass(frozen=True, kw_only=True)
class SourceTable:
    """One file, folder or database table (`path` is its JDBC URL); `options` go to Spark's reader.

    `computed`: columns to add, as Spark SQL. `keys`: the columns a second file is joined by. `appended_by`
    (events): a column that grows with every row that comes in; new rows are told by it, not by new files.
    """

    path: str
    format: str = "parquet"
    options: dict[str, Any] = field(default_factory=dict)
    computed: dict[str, str] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    appended_by: str | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise InputError(
                f"format {self.format!r} of {self.path} is not known; use one of {', '.join(FORMATS)}"
            )
        if (self.format == "jdbc") != self.path.startswith("jdbc:"):
            raise InputError("a path that begins with jdbc: and format: jdbc belong together; give both")
        if self.format == "jdbc":
            self._check_no_credentials()

    def _check_no_credentials(self) -> None:
        """A YAML is copied into logs and runs, so that none may stand in it."""
        in_options = {name.lower() for name in self.options} & {"user", "password"}
        in_url = "@" in self.path or re.search(r"[?&;](user|password)=", self.path, re.IGNORECASE)
        if in_options or in_url:
            raise InputError(
                "a database's user and password must not stand in the data set's YAML; set RECSYS_JDBC_USER"
                " and RECSYS_JDBC_PASSWORD or RECSYS_JDBC_PASSWORD_FILE"
            )


@dataclass(frozen=True, kw_only=True)
class EventColumns:
    """Which column (or Spark SQL expression) of the events is what."""

    user_id: str
    item_id: str
    timestamp: (
        str  # a timestamp, a date, text Spark can read as one, or whole seconds (positions without time)
    )
    event_type: str
    order_id: str | None = None
    quantity: str | None = None
    unit_price: str | None = None
    value: str | None = None  # money of the line; else quantity x unit_price
    text: str | None = None
    dwell_s: str | None = None  # seconds that a view kept
    query: str | None = None  # what a search asked for, as text
    profile: dict[str, str] = field(default_factory=dict)  # facts about the user that stand in the event


@dataclass(frozen=True, kw_only=True)
class ItemTable:
    """What is known of items without a date. `tokens`: expressions that give arrays, e.g. genres."""

    source: SourceTable
    item_id: str
    text: str | None = None
    fields: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class UserTable:
    """What is known of users without a date."""

    source: SourceTable
    user_id: str
    profile: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class FollowGraph:
    """Who follows whom, a row an edge. Without `timestamp` every edge is known from the beginning."""

    source: SourceTable
    user_id: str
    other_id: str
    timestamp: str | None = None


@dataclass(frozen=True, kw_only=True)
class Sensitive:
    """Raw columns that must not go on as they are. No feature can use those of `drop` and `encrypt`.

    `coarsen`: replaced by Spark SQL over raw columns; `encrypt`: of the user table, for those with the key.
    """

    drop: list[str] = field(default_factory=list)
    coarsen: dict[str, str] = field(default_factory=dict)
    encrypt: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = [*self.drop, *self.coarsen, *self.encrypt]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"sensitive names {twice!r} twice; drop, coarsen or encrypt it")


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """Rules of the cleaning step that differ between data sets."""

    not_an_item: str | None = None  # regular expression of item ids that are no items
    allow_zero_price: bool = False


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """`time`: the test cut as a date or as days before the end of the data. `leave_one_out` needs nothing.

    `max_gap_days`: the longest time without an event that is believed; None = `window_days`.
    """

    kind: str
    test_cut: str | None = None
    test_days_before_end: int | None = None
    window_days: int = 30
    train_every_days: int = 14
    min_train_days: int = 30
    max_gap_days: int | None = None
    horizons_days: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.kind not in (SplitKind.TIME, SplitKind.LEAVE_ONE_OUT):
            raise InputError(f"split.kind {self.kind!r} is not known; use time or leave_one_out")
        if self.kind == SplitKind.TIME and (self.test_cut is None) == (self.test_days_before_end is None):
            raise InputError("split needs exactly one of test_cut and test_days_before_end")
        numbers = [self.window_days, self.train_every_days, self.min_train_days, self.longest_gap_days]
        if min(*numbers, *self.horizons_days) < 1:
            raise InputError("split: days must be whole numbers from 1")
        if self.kind == SplitKind.TIME and not self.horizons_days:
            raise InputError("split.horizons_days names no days; give at least one, like [7, 30]")
        if any(later <= earlier for earlier, later in pairwise(self.horizons_days)):
            raise InputError(f"split.horizons_days {self.horizons_days} must rise, none twice")

    @property
    def longest_gap_days(self) -> int:
        return self.window_days if self.max_gap_days is None else self.max_gap_days


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """Sizes of vocabularies, all fitted on training time. `drop`: features to leave out (`dropped`)."""

    category_words: int = 0  # > 0: a field `category`, the item's most common catalogue word among this many
    price_bands: int = 10
    max_tokens: int = 2000
    min_token_items: int = 2
    max_field_size: int = 1000
    drop: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One data set, as `conf/dataset/<name>.yaml` describes it."""

    name: str
    events: SourceTable
    columns: EventColumns
    event_types: list[str]
    target_event_types: list[str]
    split: SplitSettings
    event_types_without_item: list[str] = field(default_factory=list)  # whose rows may lack an item
    has_time: bool = True
    public_examples: bool = False
    filter_seen: bool = False
    currency: str = ""  # a symbol or a code, shown with money in reports
    join: SourceTable | None = None
    items: ItemTable | None = None
    users: UserTable | None = None
    graph: FollowGraph | None = None
    tie_key: list[str] = field(default_factory=list)
    sensitive: Sensitive = field(default_factory=Sensitive)
    cleaning: Cleaning = field(default_factory=Cleaning)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    quality: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = set(self.target_event_types) - set(self.event_types)
        if unknown or not self.target_event_types:
            raise InputError(f"data set {self.name}: target_event_types must name some of event_types")
        self._check_without_item()
        if self.split.kind == SplitKind.TIME and not self.has_time:
            raise InputError(f"data set {self.name} has no time; set split.kind to leave_one_out")
        if self.sensitive.encrypt and self.users is None:
            raise InputError(f"data set {self.name}: sensitive.encrypt needs `users`, whose columns it seals")
        if self.graph is not None and self.split.kind != SplitKind.TIME:
            raise InputError(
                f"data set {self.name}: graph is counted as of cuts in time; it needs split.kind time"
            )
        if self.join is not None and not self.join.keys:
            raise InputError(f"data set {self.name}: join.keys must name the columns that both files share")
        beside = [part.source for part in (self.items, self.users, self.graph) if part is not None]
        beside += [self.join] if self.join is not None else []
        if any(source.appended_by is not None for source in beside):
            raise InputError(
                f"data set {self.name}: appended_by belongs to events; every run reads other tables whole"
            )

    def _check_without_item(self) -> None:
        """What is recommended, bought or given back is an item."""
        need_item = {*self.target_event_types, EventType.PURCHASE, EventType.RETURN}
        for name in self.event_types_without_item:
            if name not in self.event_types or name in need_item:
                raise InputError(
                    f"data set {self.name}: event_types_without_item must name some of event_types, and no"
                    f" target, {EventType.PURCHASE} or {EventType.RETURN}; {name!r} is none"
                )

    @property
    def has_value(self) -> bool:
        """Whether events carry money."""
        columns = self.columns
        return columns.value is not None or (columns.quantity is not None and columns.unit_price is not None)

    @property
    def money_event_types(self) -> list[str]:
        """The types whose rows must carry a price."""
        return [name for name in self.event_types if name in (EventType.PURCHASE, EventType.RETURN)]

    @property
    def event_type_index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.event_types, start=1)}


@dataclass(frozen=True, kw_only=True)
class SparkSettings:
    """How the session is started where spark-submit does not bring one."""

    master: str = "local[*]"
    driver_memory: str = "2g"
    shuffle_partitions: int | None = None
    checkpoint_dir: str | None = None
    java_options: str = ""
    jars: list[str] = field(default_factory=list)
    conf: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.shuffle_partitions is not None and self.shuffle_partitions < 1:
            raise InputError("spark.shuffle_partitions must be at least 1, or null to leave it to Spark")


@dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """Files of the tables. A reader that streams keeps a row group of each file it reads in memory."""

    rows_per_file: int = 100_000
    row_group_mb: float = 16.0

    def __post_init__(self) -> None:
        if self.rows_per_file < 1 or self.row_group_mb <= 0:
            raise InputError("output: rows_per_file and row_group_mb must be more than 0")


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """Everything one run needs."""

    dataset: Dataset
    quality: dict[str, Any]
    features_dir: str = "features"
    feedback_dir: str = "feedback"
    models_dir: str = "models"
    outputs_dir: str = "outputs"
    cache_dir: str = "outputs/cache"
    job: str = "build"
    mode: str = "full"
    users_file: str | None = None  # of job=erase and job=rotate
    erase_raw: bool = False
    key_map: str | None = None  # of job=rotate: where to leave old and new pseudonyms
    drop_tombstones: bool = False  # of job=rotate: also where erased people cannot be kept out any more
    window_events: int = 1024
    rotate_key: bool = False  # go on without the key before: every user begins anew
    allow_demo_key: bool = False  # also where the data set is not declared public
    output: OutputSettings = field(default_factory=OutputSettings)
    spark: SparkSettings = field(default_factory=SparkSettings)

    def __post_init__(self) -> None:
        if self.window_events < 1:
            raise InputError("window_events must be at least 1")
        if self.job not in JOBS:
            raise InputError(f"job={self.job} is not known; use one of {', '.join(JOBS)}")
        if self.mode not in MODES:
            raise InputError(f"mode={self.mode} is not known; use one of {', '.join(MODES)}")
        for name, jobs in SETTINGS_OF_JOBS.items():
            if getattr(self, name) and self.job not in jobs:
                raise InputError(f"{name} belongs to job={' and job='.join(jobs)}, not to job={self.job}")
