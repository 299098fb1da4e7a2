"""A data set out of a database: on a real MariaDB the tables are those of the same rows as Parquet."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from recsys.entry import conf_dir
from recsys.schema import InputError, Table
from recsys.settings import read_settings
from spark_jobs import job
from spark_jobs.faults import explained
from spark_jobs.jdbc import PASSWORD, PASSWORD_FILE, USER, connection
from spark_jobs.settings import JobSettings, SourceTable
from spark_jobs.sources import fingerprints, read_table
from tests import tiny
from tests.spark_jobs import mariadb, shop
from tests.spark_jobs.content import content

Composed = Callable[..., JobSettings]
URL = "jdbc:mariadb://db.example:3306/shop"
NUM_PARTITIONS = 4
OLD = 40  # rows that a first run finds where more come in after it
ROWS = [
    *shop.regular_lines(),
    shop.line("u1", "A", 69 + 2.5 / 24, invoice="early"),  # 02:30 on 2024-03-10, which New York's clocks skip
]
COLUMNS = "line_id, customer, sku, sold_at, stored_at, invoice, quantity, price, title"


def table(**options: Any) -> SourceTable:
    return SourceTable(path=URL, format="jdbc", options={"dbtable": "sales", **options})


@pytest.mark.parametrize("options", [{"user": "me"}, {"Password": "secret"}])
def test_credentials_in_the_yaml_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(InputError, match="must not stand in the data set's YAML; set RECSYS_JDBC_USER") as no:
        table(**options)
    assert "secret" not in str(no.value)


@pytest.mark.parametrize(
    "url", ["jdbc:mariadb://me:secret@db/shop", "jdbc:mysql://db/shop?a=1&password=secret"]
)
def test_credentials_in_the_url_are_refused(url: str) -> None:
    with pytest.raises(InputError, match="must not stand in the data set's YAML") as no:
        SourceTable(path=url, format="jdbc", options={"dbtable": "sales"})
    assert "secret" not in str(no.value)


@pytest.mark.parametrize(("path", "kind"), [(URL, "parquet"), ("sales.parquet", "jdbc")])
def test_a_url_and_its_format_belong_together(path: str, kind: str) -> None:
    with pytest.raises(InputError, match="jdbc: and format: jdbc belong together"):
        SourceTable(path=path, format=kind)


def test_credentials_come_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from a file\n")
    found = connection(table(), {USER: "me", PASSWORD_FILE: str(tmp_path / "password")})
    assert (found["user"], found["password"]) == ("me", "from a file")
    assert connection(table(), {USER: "me", PASSWORD: "plain"})["password"] == "plain"
    assert not {"user", "password"} & set(connection(table(), {}))
    with pytest.raises(InputError, match="RECSYS_JDBC_PASSWORD_FILE names 'nowhere': No such file"):
        connection(table(), {PASSWORD_FILE: "nowhere"})


def test_spark_quotes_names_as_the_server_does() -> None:
    """Spark 4.3 knows MySQL's quotes by the URL only, and takes "name" for a text in MariaDB's."""
    assert connection(table(), {})["url"] == "jdbc:mysql://db.example:3306/shop?permitMysqlScheme"
    found = connection(SourceTable(path="jdbc:db2://x", format="jdbc", options={"dbtable": "t"}), {})
    assert found == {"url": "jdbc:db2://x", "dbtable": "t"}


def test_half_a_description_is_refused(spark: Any) -> None:
    with pytest.raises(InputError, match="name no dbtable"):
        read_table(spark, SourceTable(path=URL, format="jdbc"))
    with pytest.raises(InputError, match="partitionColumn and numPartitions belong together"):
        read_table(spark, table(partitionColumn="line_id"))


def test_a_missing_driver_is_one_sentence(spark: Any) -> None:
    far = SourceTable(path="jdbc:postgresql://db/shop", format="jdbc", options={"dbtable": "sales"})
    with pytest.raises(InputError, match=r"no JDBC driver for jdbc:postgresql.* its jar, as in spark.jars"):
        read_table(spark, far)


def test_the_table_is_named_beside_the_raw_files() -> None:
    prints = fingerprints(shop.dataset(Path("unused"), events=table()))
    assert prints == [{"path": URL, "table": "sales", "bytes": None, "sha256": None}]


def test_a_server_that_goes_away_meanwhile_is_one_sentence() -> None:
    told = explained(Exception("java.sql.SQLException: gone\n\tat x"), shop.settings(Path("a"), Path("b")))
    assert isinstance(told, InputError)
    assert str(told).startswith("a database of data set shop failed while it was read (java.sql.SQLException")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mariadb.Server]:
    if (absent := mariadb.missing()) is not None:
        pytest.skip(absent)
    with mariadb.mariadb(tmp_path_factory.mktemp("mariadb")) as running:
        values = ", ".join(
            f"({number}, '{row['user']}', '{row['item']}', '{row['moment']}',"
            f" from_unixtime({row['moment'].replace(tzinfo=UTC).timestamp()}), '{row['invoice']}',"
            f" {row['quantity']}, {row['price']}, '{row['text']}')"
            for number, row in enumerate(ROWS, start=1)
        )
        running.run(
            "use shop; create table sales (line_id int primary key, customer varchar(20), sku varchar(20),"
            " sold_at datetime, stored_at timestamp, invoice varchar(20), quantity int, price decimal(10, 2),"
            f" title varchar(80)); insert into sales ({COLUMNS}) values {values};"
            " create table nothing like sales;"
        )
        yield running


@pytest.fixture
def shop_settings(server: mariadb.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Composed:
    """What the example in conf/dataset says, with overrides, of tables in the test's own folder."""
    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)

    def composed(*overrides: str) -> JobSettings:
        with initialize_config_dir(conf_dir(), version_base="1.3"):
            config = compose("spark_jobs", overrides=["dataset=mariadb_shop", *overrides])
        plain = OmegaConf.to_container(config, resolve=True)
        found = read_settings(JobSettings, plain)  # type: ignore[arg-type]
        return dataclasses.replace(found, features_dir=str(tmp_path / "features"))

    return composed


def environment(server: mariadb.Server) -> dict[str, str]:
    return {
        "RECSYS_HMAC_KEY": "the key of these tests",
        "RECSYS_JDBC_URL": server.url,
        USER: mariadb.USER,
        PASSWORD: mariadb.PASSWORD,
    }


@pytest.fixture
def expected(spark: Any, shop_settings: Composed, tmp_path: Path) -> dict[str, str]:
    """The content of the tables of the same rows as Parquet."""
    rows = {
        "customer": [row["user"] for row in ROWS],
        "sku": [row["item"] for row in ROWS],
        "sold_at": pa.array([row["moment"] for row in ROWS], pa.timestamp("us")),
        "invoice": [row["invoice"] for row in ROWS],
        "quantity": [row["quantity"] for row in ROWS],
        "price": [row["price"] for row in ROWS],
        "title": [row["text"] for row in ROWS],
    }
    pq.write_table(pa.table(rows), tmp_path / "sales.parquet")
    changes = ("path=" + str(tmp_path / "sales.parquet"), "format=parquet")
    plain = shop_settings(*[f"dataset.events.{change}" for change in changes], "~dataset.events.options")
    return content(job.build(dataclasses.replace(plain, features_dir=str(tmp_path / "plain")), spark))


@pytest.mark.slow
def test_mariadb_and_parquet_give_the_same_tables(
    spark: Any, server: mariadb.Server, shop_settings: Composed, expected: dict[str, str]
) -> None:
    """Read by four queries at once; a moment with a zone names the same second as one that is UTC."""
    once = ("dataset.columns.timestamp=stored_at", "quality.max_future_changes=null")
    version = job.build(shop_settings(*once), spark)
    assert content(version) == expected
    parts = {line for line in server.queries if re.search(r"FROM sales\s+WHERE.*`?line_id`?", line)}
    assert len(parts) == NUM_PARTITIONS, parts
    counts = json.loads((version / Table.METADATA).read_text())["row_counts"]
    assert counts["rows_in"] == counts["rows_kept"] == len(ROWS)


@pytest.mark.slow
def test_the_command_reads_it_wherever_the_clocks_are(
    tmp_path: Path, server: mariadb.Server, expected: dict[str, str]
) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "spark_jobs", "dataset=mariadb_shop", f"spark.jars=[{mariadb.DRIVER}]"),
            *("spark.master='local[2]'", "spark.driver_memory=1g", "spark.shuffle_partitions=2"),
        ],
        cwd=tmp_path,
        env=os.environ
        | environment(server)
        | {"PYTHONPATH": str(tiny.ROOT), "PYSPARK_PYTHON": sys.executable, "TZ": "America/New_York"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    version = (tmp_path / "features" / "mariadb_shop" / "latest").resolve()
    assert content(version) == expected
    told = "".join(path.read_text() for path in version.glob("*.*"))
    assert mariadb.PASSWORD not in told + done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("column", "old"), [("line_id", OLD), ("sold_at", ROWS[OLD]["moment"])])
def test_rows_are_appended_by_a_column_that_grows(
    spark: Any,
    server: mariadb.Server,
    shop_settings: Composed,
    expected: dict[str, str],
    column: str,
    old: int | datetime,
) -> None:
    """The second run asks the server for the new rows only, and the tables are those of all."""
    table = f"growing_by_{column}"
    server.run(
        f"use shop; create table {table} like sales;"
        f" insert into {table} select * from sales where {column} <= '{old}';"
    )
    of = (f"dataset.events.options.dbtable={table}", f"+dataset.events.appended_by={column}")
    job.build(shop_settings(*of, "mode=incremental"), spark)
    server.run(f"use shop; insert into {table} select * from sales where {column} > '{old}';")
    already = len(server.queries)
    version = job.build(shop_settings(*of, "mode=incremental"), spark)
    batches = json.loads((version / Table.LEDGER).read_text())["batches"]
    newest = len(ROWS) if column == "line_id" else max(row["moment"] for row in ROWS)
    assert [str(batch["inputs"][0]["upto"]) for batch in batches] == [str(old), str(newest)]
    asked = [line for line in server.queries[already:] if re.search(rf"FROM {table}\s+WHERE (?!1=0)", line)]
    assert len(asked) == NUM_PARTITIONS
    assert all(re.search(rf"`{column}` > '?{old}", line) for line in asked), asked
    assert content(version) == expected
    replayed = job.build(shop_settings(*of, "mode=full", "quality.max_future_changes=null"), spark)
    assert content(replayed) == expected


@pytest.mark.slow
def test_tables_beside_the_log_are_asked_for_once(
    spark: Any, server: mariadb.Server, shop_settings: Composed
) -> None:
    server.run(
        "use shop; create table goods (sku varchar(20), kind varchar(20));"
        " insert into goods values ('A', 'mug'), ('B', 'cup');"
        " create table people (customer varchar(20), country varchar(20));"
        " insert into people values ('u1', 'UK');"
    )

    def source(table: str) -> str:
        return f"source:{{path:'{server.url}',format:jdbc,options:{{dbtable:{table}}}}}"

    items = f"+dataset.items={{{source('goods')},item_id:sku,fields:{{kind:kind}}}}"
    users = f"+dataset.users={{{source('people')},user_id:customer,profile:{{country:country}}}}"
    version = job.build(shop_settings(items, users), spark)
    told = json.loads((version / Table.VOCABULARIES).read_text())
    assert set(told["item_fields"]["kind"]) == {"mug", "cup"}
    for table in ("goods", "people"):
        looks = [line for line in server.queries if f"FROM {table}" in line and "WHERE 1=0" not in line]
        assert len(looks) == 1, looks


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "password", "message"),
    [
        ("job=build", "a wrong one", "Access denied for user 'reader'.*that RECSYS_JDBC_USER and"),
        ("dataset.events.options.dbtable=sale", mariadb.PASSWORD, "Table 'shop.sale' doesn't exist"),
        ("dataset.events.options.dbtable=nothing", mariadb.PASSWORD, "is an empty table; give one with rows"),
        ("dataset.events.path='jdbc:mariadb://127.0.0.1:1/shop'", mariadb.PASSWORD, "Connection refused"),
    ],
)
def test_what_the_server_refuses_is_one_sentence(
    spark: Any,
    shop_settings: Composed,
    monkeypatch: pytest.MonkeyPatch,
    override: str,
    password: str,
    message: str,
) -> None:
    monkeypatch.setenv(PASSWORD, password)
    with pytest.raises(InputError, match=message) as told:
        job.build(shop_settings(override), spark)
    assert password not in str(told.value)
    assert len(str(told.value).splitlines()) == 1
