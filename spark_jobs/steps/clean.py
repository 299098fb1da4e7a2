"""Why a row is not kept: one named condition each; the first that holds is the reason."""

from __future__ import annotations

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.schema import SECONDS_PER_DAY, EventType
from spark_jobs.columns import Event
from spark_jobs.expressions import computed_once
from spark_jobs.settings import Dataset

LATEST_SECOND = 4_102_444_800  # 2100-01-01; a larger number is milliseconds, not seconds


class Reason:
    """Values of the quarantine's `reason`."""

    MISSING_USER = "missing_user"
    MISSING_ITEM = "missing_item"
    BAD_TIMESTAMP = "bad_timestamp"
    IN_THE_FUTURE = "in_the_future"
    UNKNOWN_EVENT_TYPE = "unknown_event_type"
    NOT_AN_ITEM = "not_an_item"
    UNREADABLE_NUMBER = "unreadable_number"
    MISSING_QUANTITY = "missing_quantity"
    ZERO_QUANTITY = "zero_quantity"
    NEGATIVE_QUANTITY = "negative_quantity"
    NON_POSITIVE_PRICE = "non_positive_price"
    RETURN_WITHOUT_PURCHASE = "return_without_purchase"


def flag(
    events: DataFrame, dataset: Dataset, *, now: int | SparkColumn, user: str = Event.USER_KEY
) -> DataFrame:
    """Adds `reason`: null for rows to keep. `now`: Unix seconds; a day or more later is an error; `user`: the
    column that names the user, the raw one where pseudonyms are not made yet.
    """
    conditions = _identity_conditions(dataset, now, user) | (
        _money_conditions(dataset) if dataset.has_value else {}
    )
    reasons = [F.when(condition, F.lit(reason)) for reason, condition in conditions.items()]
    return events.withColumn(Event.REASON, computed_once(F.coalesce(*reasons)))


def _identity_conditions(dataset: Dataset, now: int | SparkColumn, user: str) -> dict[str, SparkColumn]:
    timestamp, item_id = F.col(Event.TIMESTAMP), F.col(Event.ITEM_ID)
    earliest = 1 if dataset.has_time else 0
    known_type = F.coalesce(F.col(Event.EVENT_TYPE).isin(dataset.event_types), F.lit(False))
    conditions = {
        Reason.MISSING_USER: F.col(user).isNull(),
        Reason.MISSING_ITEM: item_id.isNull() & ~_may_lack_item(dataset),
        Reason.BAD_TIMESTAMP: timestamp.isNull() | (timestamp < earliest) | (timestamp >= LATEST_SECOND),
        Reason.IN_THE_FUTURE: timestamp > now + SECONDS_PER_DAY if dataset.has_time else F.lit(False),
        Reason.UNKNOWN_EVENT_TYPE: ~known_type,
    }
    if dataset.cleaning.not_an_item:
        conditions[Reason.NOT_AN_ITEM] = item_id.rlike(dataset.cleaning.not_an_item)
    return conditions


def _may_lack_item(dataset: Dataset) -> SparkColumn:
    named = F.col(Event.EVENT_TYPE).isin(dataset.event_types_without_item)
    return F.coalesce(named, F.lit(False))


def _money_conditions(dataset: Dataset) -> dict[str, SparkColumn]:
    quantity, price = F.col(Event.QUANTITY), F.col(Event.UNIT_PRICE)
    has_money = F.col(Event.EVENT_TYPE).isin(dataset.money_event_types)
    is_return = F.col(Event.EVENT_TYPE) == EventType.RETURN
    too_low = price < 0 if dataset.cleaning.allow_zero_price else price <= 0
    return {
        Reason.UNREADABLE_NUMBER: has_money & F.col(Event.UNREADABLE).isNotNull(),
        Reason.MISSING_QUANTITY: has_money & quantity.isNull(),
        Reason.ZERO_QUANTITY: has_money & (quantity == 0),
        Reason.NEGATIVE_QUANTITY: has_money & ~is_return & (quantity < 0),
        Reason.NON_POSITIVE_PRICE: has_money & (price.isNull() | F.isnan(price) | too_low),
    }
