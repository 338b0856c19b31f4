"""`headrace export`: a dataset out of Postgres into a folder or a bucket of a real S3 server."""

import csv
import io
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from msgspec.structs import replace

from exports import export as export_module
from exports.export import stored_rows
from runtime.settings import Settings
from tests.e2e.stores import rows as run_sql
from tests.integration.postgres_sink_driver import ORDERS, driver, order, record
from tests.object_store import TestBucket
from tests.processes import PROJECT, environment_of

MANY = 300_000

FILL = """
    INSERT INTO orders (order_id, customer_id, product, quantity, price, order_date,
        search_text, version, raw_partition, raw_offset, raw_timestamp)
    SELECT 'ORD-' || n, 'CUST' || n % 1000, 'Product ' || n % 50, n % 9 + 1, n / 100.0, date '2024-01-01' + n % 366,
        '', n, 0, n, 0
    FROM generate_series(1, {}) AS n"""


def export(
    settings: Settings, *arguments: str, environment: dict[str, str] | None = None, expect: int = 0
) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, "-m", "cli", "export", *arguments],
        cwd=PROJECT,
        env=inherited | environment_of(settings) | (environment or {}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done


async def store(settings: Settings, *keys: str, **fields: Any) -> None:
    """Store orders, and supersede the first of them once."""
    topic = settings.named(ORDERS.raw_topic)
    items = [*(order(key, number, **fields) for number, key in enumerate(keys)), order(keys[0], len(keys))]
    async with driver(settings) as sink:
        await sink.write(*(replace(item, origin=replace(item.origin, topic=topic)) for item in items))


async def test_orders_go_to_a_bucket_typed_and_sorted_byte_by_byte(
    migrated_settings: Settings, bucket: TestBucket
) -> None:
    await store(migrated_settings, "b", "a", "B", "ä", "10", "9", price="12.30", quantity=2)
    done = export(migrated_settings, "orders", "--to", f"{bucket.url}/daily", environment=bucket.environment)
    assert done.stdout.splitlines() == [
        "Initial rows: 7",
        "Rows after cleaning: 6",
        f"File processed_output.csv successfully uploaded to S3://{bucket.name}/daily/processed_output.csv",
        f"File processed_output.parquet successfully uploaded to S3://{bucket.name}/daily/processed_output.parquet",
    ]
    table = parquet.read_table(pa.BufferReader(bucket.read("daily/processed_output.parquet")))
    assert table["order_id"].to_pylist() == ["10", "9", "B", "a", "b", "ä"]
    assert table["price"].to_pylist() == [Decimal("12.30")] * 6
    assert (table.schema.field("price").type, table.schema.field("order_date").type) == (
        pa.decimal128(12, 2),
        pa.date32(),
    )
    rows = list(csv.DictReader(io.StringIO(bucket.read("daily/processed_output.csv").decode())))
    assert [row["order_id"] for row in rows] == table["order_id"].to_pylist()
    assert rows[0] == {
        "order_id": "10",
        "customer_id": "CUST001",
        "product": "Pen",
        "quantity": "2",
        "price": "12.30",
        "order_date": "2024-01-31",
    }


async def test_values_of_records_keep_all_their_digits(migrated_settings: Settings, tmp_path: Path) -> None:
    values = ["0.1234567", "12345678901234567890.5000", "47.0000"]
    async with driver(migrated_settings) as sink:
        await sink.write(*(record(str(number), number, value=value) for number, value in enumerate(values)))
    export(migrated_settings, "records", "--to", str(tmp_path))
    table = parquet.read_table(tmp_path / "processed_output.parquet")
    assert table["value"].to_pylist() == [Decimal(value) for value in values]
    with (tmp_path / "processed_output.csv").open(newline="") as file:
        assert [row["value"] for row in csv.DictReader(file)] == [
            "0.1234567",
            "12345678901234567890.5000000",
            "47.0000000",
        ]


async def test_a_folder_and_json(migrated_settings: Settings, tmp_path: Path) -> None:
    await store(migrated_settings, "O1")
    folder = tmp_path / "not" / "there" / "yet"
    told = json.loads(
        export(migrated_settings, "orders", "--to", str(folder), "--format", "parquet", "--name", "o", "--json").stdout
    )
    assert told == {
        "dataset": "orders",
        "initial_rows": 2,
        "rows_after_cleaning": 1,
        "local": True,
        "folder": str(folder),
        "files": [
            {"name": "o.parquet", "address": f"{folder}/o.parquet", "bytes": (folder / "o.parquet").stat().st_size}
        ],
    }
    assert [path.name for path in folder.iterdir()] == ["o.parquet"]


def test_a_dataset_without_rows_is_a_file_with_a_header(migrated_settings: Settings, tmp_path: Path) -> None:
    done = export(migrated_settings, "customers", "--to", str(tmp_path))
    assert done.stdout.startswith("Initial rows: 0\nRows after cleaning: 0\n")
    assert (tmp_path / "processed_output.csv").read_text().startswith("customer_id,first_name,")
    assert parquet.read_table(tmp_path / "processed_output.parquet").num_rows == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nope", "--to", "x"), "there is no dataset 'nope'; known are: customers, "),
        (("orders", "--to", "x", "--format", "xls"), "there is no format 'xls'; known are csv, csv-as-stored, parquet"),
        (("orders", "--to", "ftp://x"), "expected a folder, or a URL that begins with s3://"),
        (("orders", "--to", "x", "--name", "a/b"), "expected a file's name without its folder"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_done(
    migrated_settings: Settings, arguments: tuple[str, ...], told: str
) -> None:
    assert told in " ".join(export(migrated_settings, *arguments, expect=2).stderr.split())


def test_a_missing_bucket_is_told_before_anything_is_read(migrated_settings: Settings, bucket: TestBucket) -> None:
    done = export(migrated_settings, "orders", "--to", "s3://no-such-bucket", environment=bucket.environment, expect=1)
    assert done.stdout == ""
    assert "there is no bucket 'no-such-bucket'" in done.stderr


def test_postgres_that_does_not_answer_is_an_error(settings: Settings, tmp_path: Path) -> None:
    nobody = settings.plain_database_url.rpartition("/")[0] + "/nobody"
    done = export(settings, "orders", "--to", str(tmp_path), environment={"DATABASE_URL": nobody}, expect=1)
    assert "Postgres does not answer" in done.stderr
    assert list(tmp_path.iterdir()) == []


async def test_an_export_is_of_one_moment(migrated_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "BATCH_ROWS", 2)
    await store(migrated_settings, *"abcdef")
    seen = []
    async with stored_rows(migrated_settings, ORDERS) as source:
        assert await source.initial_rows() == 7
        async for batch in source.batches():
            seen += [row[0] for row in batch]
            run_sql(migrated_settings, "DELETE FROM orders")
    assert seen == list("abcdef")


PEAK = """
import resource, runpy, sys
sys.argv = ["headrace", *sys.argv[1:]]
try:
    runpy.run_module("cli", run_name="__main__")
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def peak_megabytes(settings: Settings, folder: Path) -> int:
    """Of an export that succeeds."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, "export", "orders", "--to", str(folder)],
        cwd=PROJECT,
        env=os.environ | environment_of(settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return int(done.stderr.split()[-1]) >> 10


def test_memory_does_not_grow_with_the_dataset(migrated_settings: Settings, tmp_path: Path) -> None:
    batch = export_module.BATCH_ROWS
    run_sql(migrated_settings, FILL.format(2 * batch))
    small = peak_megabytes(migrated_settings, tmp_path / "small")
    run_sql(migrated_settings, "TRUNCATE orders")
    run_sql(migrated_settings, FILL.format(MANY))
    large = peak_megabytes(migrated_settings, tmp_path / "large")
    table = parquet.read_table(tmp_path / "large" / "processed_output.parquet")
    assert table.num_rows == MANY
    grown = table.nbytes >> 20
    assert large - small < 30, f"{small} MB for {2 * batch:,} rows, {large} MB for {MANY:,}; all rows are {grown} MB"
