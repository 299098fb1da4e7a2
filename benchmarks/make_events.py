"""A shop's log of any size, with the dirt of real ones: `python -m benchmarks.make_events --output DIR`

Writes DIR/events/*.parquet in the order in which events arrived, DIR/items.parquet and users.parquet, and
DIR/conf/dataset/shop_log.yaml, which the commands take by `--config-dir DIR/conf`. The same rows and seed
give the same log, however many files it is cut into. Without --output it is thrown away. Ends with one line
of JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from itertools import count, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.shop_catalogue import Catalogue, write_users
from benchmarks.shop_log import KINDS, NONE, SEARCH, LogConfig, blocks

BLOCKS_PER_FILE = 64
ROWS_PER_GROUP = 131_072  # a reader with several cores takes several


def as_table(rows: np.ndarray, catalogue: Catalogue) -> pa.Table:
    """The columns of the raw log."""

    def whole(name: str) -> pa.Array:
        return pa.array(rows[name], mask=rows[name] == NONE)

    def named(letter: str, name: str) -> pa.Array:
        return pc.binary_join_element_wise(letter, whole(name).cast(pa.string()), "")

    def number(name: str) -> pa.Array:
        return pa.array(rows[name], pa.float64(), from_pandas=True)

    is_search = rows["kind"] == SEARCH
    searched = pa.array(rows["item"], mask=~is_search | (rows["item"] == NONE))
    seconds = pa.array(rows["timestamp"] * 1000, mask=rows["timestamp"] == NONE)
    return pa.table(
        {
            "user_id": named("u", "user"),
            "item_id": named("i", "item"),
            "event_type": pa.array(KINDS).take(pa.array(rows["kind"])),
            "happened_at": seconds.cast(pa.timestamp("ms", tz="UTC")),
            "order_id": named("o", "order"),
            "quantity": whole("quantity").cast(pa.int32()),
            "unit_price": number("price"),
            "dwell_s": number("dwell_s"),
            "query": catalogue.query_V.take(searched),
            "stars": whole("stars").cast(pa.int8()),
        }
    )


def write_log(folder: Path, config: LogConfig, *, blocks_per_file: int = BLOCKS_PER_FILE) -> Path:
    """events/, items.parquet, users.parquet and conf/ in a new folder; returns the latter."""
    catalogue = Catalogue(config.num_items, config.seed)
    (folder / "events").mkdir(parents=True)
    drawn = blocks(config, catalogue)
    for number in count():
        tables = [as_table(rows, catalogue) for rows in islice(drawn, blocks_per_file)]
        if not tables:
            break
        file = folder / "events" / f"part-{number:05}.parquet"
        pq.write_table(pa.concat_tables(tables), file, row_group_size=ROWS_PER_GROUP)
    pq.write_table(catalogue.table(), folder / "items.parquet")
    write_users(folder / "users.parquet", config.num_users, config.seed)
    conf = folder / "conf" / "dataset"
    conf.mkdir(parents=True)
    (conf / "shop_log.yaml").write_text(_YAML.format(folder=folder.resolve()))
    return folder / "conf"


_YAML = """\
name: shop_log
public_examples: true
filter_seen: false
currency: $
has_time: true

events:
  path: {folder}/events

columns:
  user_id: user_id
  item_id: item_id
  timestamp: happened_at
  event_type: >-
    case when event_type = 'view' and dwell_s < 3 then 'bounce'
    when event_type = 'view' and dwell_s >= 30 then 'read' else event_type end
  order_id: order_id
  quantity: quantity
  unit_price: unit_price
  dwell_s: dwell_s
  query: query

items:
  source:
    path: {folder}/items.parquet
  item_id: item_id
  text: title
  fields:
    category: category
    brand: brand

users:
  source:
    path: {folder}/users.parquet
  user_id: user_id
  profile:
    country: country
    age: age

event_types: [view, search, cart, purchase, rating, return, bounce, read]
target_event_types: [purchase]
tie_key: [event_type, item_id, order_id, quantity, unit_price]

split:
  kind: time
  test_days_before_end: 30
  window_days: 14
  train_every_days: 14
  min_train_days: 30
  horizons_days: [7, 30]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    config = LogConfig(rows=wanted.rows, seed=wanted.seed)
    with tempfile.TemporaryDirectory() as place:
        folder = wanted.output or Path(place) / "log"
        began = time.monotonic()
        conf = write_log(folder, config)
        elapsed_s = time.monotonic() - began
        size_mib = sum(file.stat().st_size for file in (folder / "events").iterdir()) / 2**20
    print(f"{config.rows:,} rows; --config-dir {conf} dataset=shop_log reads them")
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"rows_per_s": config.rows / elapsed_s, "size_mib": size_mib, "peak_mib": peak_mib}
    print(json.dumps({name: round(value) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
