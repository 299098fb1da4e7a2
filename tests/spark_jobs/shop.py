"""A shop small enough to work out by hand, and the settings that read it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.settings import read_settings
from spark_jobs.settings import Dataset, JobSettings

DAY = 86_400
START = datetime(2024, 1, 1)
NO_BOUNDS: dict[str, Any] = {}

Line = dict[str, Any]


def at(day: float) -> datetime:
    """The moment `day` days after the shop opened."""
    return START + timedelta(days=day)


def seconds(day: float) -> int:
    return int(at(day).replace(tzinfo=UTC).timestamp())


def line(
    user: str | None,
    item: str | None,
    day: float | None,
    *,
    quantity: int = 1,
    price: float = 2.0,
    invoice: str = "1",
    text: str | None = None,
    country: str = "UK",
) -> Line:
    """An invoice line; an invoice that starts with C is a return."""
    return {
        "invoice": invoice,
        "item": item,
        "text": text if text is not None else f"RED {item} MUG",
        "quantity": quantity,
        "moment": None if day is None else at(day),
        "price": price,
        "user": user,
        "country": country,
    }


SCHEMA = pa.schema(
    [
        ("invoice", pa.string()),
        ("item", pa.string()),
        ("text", pa.string()),
        ("quantity", pa.int32()),
        ("moment", pa.timestamp("us")),
        ("price", pa.float64()),
        ("user", pa.string()),
        ("country", pa.string()),
    ]
)


def write(lines: list[Line], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(lines, schema=SCHEMA), path)
    return path


def regular_lines() -> list[Line]:
    """120 days: three users that buy weekly, one that comes on day 95, items A to D, one return."""
    lines = []
    for week in range(17):
        for place, user in enumerate(("u1", "u2", "u3")):
            item = "ABC"[(week + place) % 3]
            day = 7 * week + place + 0.5
            lines.append(
                line(user, item, day, quantity=1 + week % 2, price=2.0 + place, invoice=f"{week}-{user}")
            )
    lines.append(line("u1", "A", 64, quantity=-1, price=2.0, invoice="C1"))
    lines.append(line("late", "D", 95, quantity=4, price=9.0, invoice="L1", country="FR"))
    lines.append(line("u2", "D", 119.75, quantity=1, price=9.0, invoice="L2"))
    return lines


def dataset(path: Path, **changes: Any) -> Dataset:
    """The shop's settings; test cut day 90, validation cut day 75, a train cut every 15 days."""
    plain = Dataset(
        name="shop",
        public_examples=True,
        events=read_settings(_field("events"), {"path": str(path)}),
        columns=read_settings(
            _field("columns"),
            {
                "user_id": "user",
                "item_id": "item",
                "timestamp": "moment",
                "event_type": "if(invoice like 'C%', 'return', 'purchase')",
                "order_id": "invoice",
                "quantity": "quantity",
                "unit_price": "price",
                "text": "text",
                "profile": {"country": "country"},
            },
        ),
        event_types=["purchase", "return"],
        target_event_types=["purchase"],
        tie_key=["order_id", "item_id"],
        cleaning=read_settings(_field("cleaning"), {"not_an_item": "^POST$"}),
        split=read_settings(
            _field("split"),
            {
                "kind": "time",
                "test_cut": "2024-03-31",
                "window_days": 15,
                "train_every_days": 15,
                "min_train_days": 20,
                "horizons_days": [7, 30],
            },
        ),
        features=read_settings(
            _field("features"), {"category_words": 5, "price_bands": 2, "min_token_items": 1}
        ),
    )
    return dataclasses.replace(plain, **changes)


def settings(
    path: Path, folder: Path, *, quality: dict[str, Any] | None = None, **changes: Any
) -> JobSettings:
    """A run over the shop's file that publishes into `folder`."""
    return JobSettings(
        dataset=dataset(path, **changes),
        quality=quality or NO_BOUNDS,
        features_dir=str(folder / "features"),
        feedback_dir=str(folder / "feedback"),
        window_events=8,
    )


def _field(name: str) -> Any:
    """The dataclass of one group of a data set's settings."""
    from spark_jobs import settings as module

    return {
        "events": module.SourceTable,
        "columns": module.EventColumns,
        "cleaning": module.Cleaning,
        "split": module.SplitSettings,
        "features": module.FeatureSettings,
    }[name]
