"""Raw lines of any data set -> canonical event columns. Nothing is dropped; the unreadable is null."""

from __future__ import annotations

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys.schema import EventType
from spark_jobs.columns import Event
from spark_jobs.expressions import is_no_number, number_column, seconds_column, text_column
from spark_jobs.settings import TYPED_FORMATS, Dataset

ONE_PIECE = 1.0
LONGEST_DWELL_S = 4 * 3600.0  # whoever stays longer has left the page open
UNREADABLE_JOINT = ","


def normalise(raw: DataFrame, dataset: Dataset, *, batch: SparkColumn | None = None) -> DataFrame:
    """Canonical columns: `Event.BARE` with the raw user id, `unreadable`, `batch` (1 where none is given) and
    one `profile__` per profile fact; dwell and query only where the data set has them.

    Returns carry positive quantity, price and value here. InputError for a missing column or a wrong type.
    """
    named, path = dataset.columns, dataset.events.path
    loose = dataset.events.format not in TYPED_FORMATS

    def text(name: str, expression: str | None) -> SparkColumn:
        if expression is None:
            return F.lit(None).cast("string")
        return text_column(raw, expression, setting=f"columns.{name}", path=path)

    def number(name: str, expression: str | None) -> SparkColumn:
        if expression is None:
            return F.lit(None).cast("double")
        return number_column(raw, expression, setting=f"columns.{name}", path=path, loose=loose)

    numbers = {"quantity": named.quantity, "unit_price": named.unit_price, "value": named.value}
    unreadable = [
        F.when(is_no_number(raw, expression, setting=f"columns.{name}", path=path), F.lit(name))
        for name, expression in numbers.items()
        if expression is not None
    ]

    seconds = seconds_column(raw, named.timestamp, setting="columns.timestamp", path=path, loose=loose)
    typed = raw.select(
        text("user_id", named.user_id).alias(Event.USER_ID),
        text("item_id", named.item_id).alias(Event.ITEM_ID),
        text("event_type", named.event_type).alias(Event.EVENT_TYPE),
        seconds.alias(Event.TIMESTAMP),
        text("order_id", named.order_id).alias(Event.ORDER_ID),
        (number("quantity", named.quantity) if named.quantity else F.lit(ONE_PIECE)).alias(Event.QUANTITY),
        number("unit_price", named.unit_price).alias(Event.UNIT_PRICE),
        number("value", named.value).alias(Event.VALUE),
        text("text", named.text).alias(Event.TEXT),
        F.nullif(F.concat_ws(UNREADABLE_JOINT, *unreadable), F.lit("")).alias(Event.UNREADABLE),
        (F.lit(1) if batch is None else batch).cast("int").alias(Event.BATCH),
        *[
            text(f"profile.{name}", expression).alias(Event.PROFILE + name)
            for name, expression in named.profile.items()
        ],
        *([_dwell(number("dwell_s", named.dwell_s)).alias(Event.DWELL_S)] if named.dwell_s else []),
        *([text("query", named.query).alias(Event.QUERY)] if named.query else []),
    )
    return _complete_money(typed)


def _dwell(seconds: SparkColumn) -> SparkColumn:
    """Null where it is negative or no number; no longer than LONGEST_DWELL_S."""
    is_known = (seconds >= 0) & ~F.isnan(seconds)
    return F.when(is_known, F.least(seconds, F.lit(LONGEST_DWELL_S)))


def _complete_money(events: DataFrame) -> DataFrame:
    """Value from quantity and price or the other way round; returns positive, one piece if none is told."""
    is_return = F.col(Event.EVENT_TYPE) == EventType.RETURN

    def unsigned(name: str) -> SparkColumn:
        return F.when(is_return, F.abs(name)).otherwise(F.col(name))

    signed = events.withColumns(
        {name: unsigned(name) for name in (Event.QUANTITY, Event.UNIT_PRICE, Event.VALUE)}
    )
    is_bare_refund = is_return & F.col(Event.VALUE).isNotNull() & F.col(Event.UNREADABLE).isNull()
    quantity = F.coalesce(F.col(Event.QUANTITY), F.when(is_bare_refund, F.lit(ONE_PIECE)))
    pieces = signed.withColumn(Event.QUANTITY, quantity)
    value = F.coalesce(F.col(Event.VALUE), F.col(Event.QUANTITY) * F.col(Event.UNIT_PRICE))
    price = F.coalesce(F.col(Event.UNIT_PRICE), F.try_divide(F.col(Event.VALUE), F.col(Event.QUANTITY)))
    return pieces.withColumns({Event.VALUE: value, Event.UNIT_PRICE: price})
