"""The contract between Spark and training: tables, columns, dtypes, event types, PAD. Standard library only.

A column name is written once, here. `timestamp`-like columns are int64 Unix seconds, UTC; where a data set
has an order but no time they count positions and `metadata.json` says `has_time: false`.
"""

from __future__ import annotations

SCHEMA_VERSION = 2
PAD = 0
SECONDS_PER_DAY = 86_400


class InputError(ValueError):
    """Something handed in does not fit; the message is one line that names it and the remedy."""


class MisfitError(InputError):
    """A bundle cannot read feature tables: they have other features or indices than those it learned from."""


class EventType:
    """Names of the built-in event types. A data set's YAML may add others; indices live in metadata.json."""

    VIEW = "view"
    SEARCH = "search"
    CART = "cart"
    PURCHASE = "purchase"
    RATING = "rating"
    RETURN = "return"

    BUILT_IN = (VIEW, SEARCH, CART, PURCHASE, RATING, RETURN)


class Table:
    """Folder (or file) names inside `features/<dataset>/<version>/`."""

    METADATA = "metadata.json"
    QUALITY = "quality.json"
    VOCABULARIES = "vocabularies.json"  # what the indices of tokens, item fields and profile fields stand for
    PROFILE = "profile.json"  # what the kept rows look like, column by column, and their drift
    QUALITY_PAGE = "quality.html"  # both for people
    QUARANTINE = "quarantine"
    ITEM_FEATURES = "item_features"
    USER_FEATURES = "user_features"
    HISTORIES = "histories"
    EXAMPLES = "examples"
    VALUE_TARGETS = "value_targets"
    IMPRESSIONS = "impressions"  # what was shown, as handed back, and what came of it
    LEDGER = "ledger.json"  # which input came in with which batch
    LINES = "lines"  # of mode=incremental: the clean lines of all batches, so that none is read twice
    SEALED = "sealed"  # columns of the user table that only those with the key can read

    LATEST = "latest"  # symlink beside the versions, switched by rename


class Split:
    """Values of `examples.split`."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"
    NOW = "now"  # the end of the data, in splits by time: nothing came after it, so it has no targets

    HELD_OUT = (VALIDATION, TEST)


class SplitKind:
    """How a data set is split: by a global cut in time, or each user's last events held out."""

    TIME = "time"
    LEAVE_ONE_OUT = "leave_one_out"


class Column:
    """Every column of every table. The comment gives dtype and meaning."""

    # keys
    USER_INDEX = "user_index"  # int32, from 1
    USER_KEY = "user_key"  # string, hex HMAC-SHA256 of the raw user id
    ITEM_INDEX = "item_index"  # int32, from 1; PAD in histories where an event has no item
    ITEM_ID = "item_id"  # string, the platform's own id
    FIRST_SEEN = "first_seen"  # int64, timestamp of the first kept event of this item or user
    VALID_FROM = "valid_from"  # int64, the cut this row of features belongs to
    KNOWN_AT = "known_at"  # int64, timestamp of the newest fact in the row
    CUT = "cut"  # int64, timestamp; events at or before it are history (0 for leave_one_out)
    SPLIT = "split"  # string, one of Split

    # histories: one row per (user, window), list columns in stable time order
    WINDOW_INDEX = "window_index"  # int32, from 0
    NUM_EVENTS = "num_events"  # int32
    EVENT_TYPE = "event_type"  # int32 (list in histories), index by metadata.event_types
    TIMESTAMP = "timestamp"  # int64 (list in histories)
    VALUE = "value"  # float64 (list in histories), money of the event, returns negative
    RETURNED_AT = "returned_at"  # int64 (list in histories), when a purchase was wholly returned; 0 = not
    # only where the data set tells them, so that tables of others are as they were (no new schema version)
    DWELL_S = "dwell_s"  # float32 (list in histories), seconds a view kept; 0 = unknown
    QUERY = "query"  # list<int32> (list in histories), words of a search, indices as in TOKENS

    # examples
    PREFIX_LENGTH = "prefix_length"  # int32, number of history events at or before the cut

    # item features
    TEXT = "text"  # string
    CATEGORICAL = "categorical"  # list<int32> aligned with metadata.item_fields; 0 = unknown
    NUMERIC = "numeric"  # list<float32> aligned with metadata.item_numeric, standardised
    TOKENS = "tokens"  # list<int32>, words of the text by the training vocabulary, from 1
    PRICE = "price"  # float64, median unit price known at valid_from; null where there is none
    POPULARITY = "popularity"  # int64, target events of the last 30 days before valid_from
    IN_TRAINING = "in_training"  # bool, first seen at or before valid_from

    # user features
    PROFILE = "profile"  # list<int32> aligned with metadata.profile_fields; 0 = unknown

    # value targets, one row per (user, cut) but none at `now`; lists aligned with
    # metadata.split.horizons_days
    SPEND = "spend"  # list<float64>, net money in (cut, cut + horizon]
    NUM_ACTIVE_DAYS = "num_active_days"  # list<int32>, days with any event in (cut, cut + horizon]
    NUM_PURCHASES = "num_purchases"  # list<int32>, purchase events kept in (cut, cut + horizon]
    NEXT_ACTIVE_DAYS = "next_active_days"  # float64, days from cut to the next event; null if none observed
    OBSERVED_DAYS = "observed_days"  # float64, days from cut to the end of the data

    # quarantine
    REASON = "reason"  # string


class UserNumeric:
    """Columns of user_features that describe activity up to `valid_from` (float64 each)."""

    NUM_EVENTS = "num_events"
    NUM_ORDERS = "num_orders"  # distinct (order id, else timestamp) with a purchase
    NUM_ACTIVE_DAYS = "num_active_days"
    RECENCY_DAYS = "recency_days"  # valid_from - last event
    TENURE_DAYS = "tenure_days"  # valid_from - first event
    SPEND = "spend"  # net of returns known by valid_from
    SPEND_30D = "spend_30d"
    SPEND_90D = "spend_90d"

    ALL = (
        NUM_EVENTS,
        NUM_ORDERS,
        NUM_ACTIVE_DAYS,
        RECENCY_DAYS,
        TENURE_DAYS,
        SPEND,
        SPEND_30D,
        SPEND_90D,
    )

    # only in tables of data sets with a follow graph, after those of ALL
    NUM_FOLLOWING = "num_following"  # users whom this one followed by valid_from
    NUM_FOLLOWERS = "num_followers"  # users who followed this one by valid_from

    GRAPH = (NUM_FOLLOWING, NUM_FOLLOWERS)


class Sealed:
    """Columns of the table of sealed values beside user_key."""

    COLUMN = "column"  # string, its name in the raw user table
    VALUE = "sealed"  # binary, see `recsys.sealed`


class Impression:
    """Columns of the impression log that `recommend` writes."""

    POLICY_VERSION = "policy_version"  # string
    SLATE_ID = "slate_id"  # string
    USER_KEY = Column.USER_KEY
    ITEM_INDEX = Column.ITEM_INDEX
    ITEM_ID = Column.ITEM_ID
    SLOT = "slot"  # int32, place on screen, from 1
    SCORE = "score"  # float32
    TEMPERATURE = "temperature"  # float32
    PROPENSITY = "propensity"  # float64, of this item in this slot given the slots before; 1 if deterministic
    IS_DETERMINISTIC = "is_deterministic"  # bool
    CANDIDATES_HASH = "candidates_hash"  # string
    TIMESTAMP = Column.TIMESTAMP  # int64, when the slate was made

    ALL = (
        POLICY_VERSION,
        SLATE_ID,
        USER_KEY,
        ITEM_INDEX,
        ITEM_ID,
        SLOT,
        SCORE,
        TEMPERATURE,
        PROPENSITY,
        IS_DETERMINISTIC,
        CANDIDATES_HASH,
        TIMESTAMP,
    )


class Response:
    """Columns that the table of impressions has beside those of Impression: what followed a slot."""

    NUM_OUTCOMES = "num_outcomes"  # int32, outcomes of this user, slate and item from the impression on
    VALUE = "outcome_value"  # float64, their money; 0 without any
    FIRST_AT = "first_outcome_at"  # int64, null without any

    ALL = (NUM_OUTCOMES, VALUE, FIRST_AT)


class Outcome:
    """Columns of an outcomes file as a platform hands it in, and of the feedback log that spark_jobs reads.

    The file carries raw `user_id`; the log carries `user_key` in its place.
    """

    OUTCOME_ID = "outcome_id"  # string, unique; handing the same one in twice changes nothing
    USER_ID = "user_id"  # string, only in the file handed in
    USER_KEY = Column.USER_KEY  # string, only in the log
    ITEM_ID = Column.ITEM_ID  # string
    EVENT_TYPE = Column.EVENT_TYPE  # string name
    TIMESTAMP = Column.TIMESTAMP  # int64
    VALUE = Column.VALUE  # float64, money; null for events without
    SLATE_ID = Impression.SLATE_ID  # string, null where the event did not follow an impression

    FILE = (OUTCOME_ID, USER_ID, ITEM_ID, EVENT_TYPE, TIMESTAMP, VALUE, SLATE_ID)
    LOG = (OUTCOME_ID, USER_KEY, ITEM_ID, EVENT_TYPE, TIMESTAMP, VALUE, SLATE_ID)


class Recommendation:
    """Files of the folder that `recommend` writes, and their columns beside those of Column."""

    TOP_K = "top_k"  # .parquet, and .csv with the items' names
    USER_VECTORS = "user_vectors"
    ITEM_VECTORS = "item_vectors"
    VALUE_ESTIMATES = "value"
    IMPRESSIONS = "impressions"

    ANYONE = "anyone"  # user_key of the answer for a user without history

    RANK = "rank"  # int32, from 1
    SCORE = "score"  # float32, the model's logit
    ITEM_NAME = "item_name"  # string, only in the CSV
    VECTOR = "vector"  # list<float32>, of length 1
    SPEND = "spend_{days}d"  # float64, expected net money within the days after the cut
    SPEND_LOWER = "spend_{days}d_lower"  # float64, below it lies a twentieth of the law of that money
    SPEND_UPPER = "spend_{days}d_upper"  # float64, above it the last twentieth
    RETURN = "return_{days}d"  # float64, probability of any event within the days after the cut
    CONVERSION = "conversion_{days}d"  # float64, probability of a purchase within the days after the cut


class FeedbackTable:
    """Folder names inside `feedback/<dataset>/`; each holds Parquet files named by content hash."""

    OUTCOMES = "outcomes"
    IMPRESSIONS = "impressions"

    DATASET = b"recsys.dataset"  # in the Parquet metadata of what `recommend` writes: the data set it is of
    KEY_VERSION = b"recsys.key_version"  # in each file's Parquet metadata: the key its pseudonyms are under
