"""Column names that live only inside spark_jobs, between the raw files and the published tables."""

from __future__ import annotations

from recsys.schema import Column


class Edge:
    """A row of the follow graph after reading it: a user, whom they follow, since when."""

    USER_KEY = Column.USER_KEY
    OTHER_KEY = "other_key"  # string, the pseudonym of who is followed
    FOLLOWED_AT = "followed_at"  # int64, Unix seconds; 0 where the graph has no dates


class Event:
    """A row of the log after normalising. One row is one line: a user, an item, a type, a time."""

    USER_ID = "user_id"  # string, raw; gone after pseudonymising
    USER_KEY = Column.USER_KEY
    ITEM_ID = Column.ITEM_ID
    EVENT_TYPE = Column.EVENT_TYPE  # string name
    TYPE_INDEX = "event_type_index"  # int32, what the histories call event_type
    TIMESTAMP = Column.TIMESTAMP
    ORDER_ID = "order_id"  # string
    QUANTITY = "quantity"  # float64, returns positive
    UNIT_PRICE = "unit_price"  # float64, returns positive
    VALUE = Column.VALUE  # float64, returns positive until they are matched
    TEXT = Column.TEXT
    DWELL_S = Column.DWELL_S  # float64, null where unknown; only where the data set has it
    QUERY = Column.QUERY  # string, as typed; only where the data set has it
    PROFILE = "profile__"  # prefix of one string column per profile fact

    UNREADABLE = "unreadable"  # names of the numbers that hold other text; null = none; gone after flagging
    BATCH = "batch"  # int32, number of the ingestion batch it came with, from 1
    REASON = Column.REASON  # why a row is not kept; null = kept
    EVENT_ID = "event_id"  # int64, names a row within one run; a user's kept events ascend in stable order
    RETURNED_AT = Column.RETURNED_AT
    ANCHOR = "anchor_timestamp"  # the purchase's time: a return's partner, else the event's own
    POSITION = "position"  # int32, place in the user's history, from 1
    QUERY_WORDS = "query_words"  # array<int32>, words of the query by the items' vocabulary

    BARE = (
        *(USER_KEY, ITEM_ID, EVENT_TYPE, TIMESTAMP, ORDER_ID, QUANTITY, UNIT_PRICE, VALUE, TEXT),
        *(DWELL_S, QUERY),
    )
