"""Sales orders and files, as a user meets them: published, read, summed up, exported; and the ETL of the file alone."""

import csv
import io
import json
import subprocess
import sys
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from data.generate import RAW_FILE
from runtime.settings import Settings
from tests.e2e.command_line import CommandLine
from tests.e2e.stores import documents, rows, value
from tests.object_store import TestBucket
from tests.processes import PROJECT
from tests.waiting import eventually

RAW_ROWS, ORDERS, INVALID = 5_200, 4_680, 260


@pytest.fixture(scope="module")
def sales(headrace: CommandLine) -> dict[str, Any]:
    """The run that published data/raw.csv, which `headrace up` has made."""
    report: dict[str, Any] = json.loads(headrace("publish", "orders", "--wait", "--json").stdout)
    return report


pytestmark = pytest.mark.usefixtures("sales")


def test_of_5200_rows_4680_become_orders_and_each_other_one_is_accounted_for(
    sales: dict[str, Any], settings: Settings
) -> None:
    (run,) = sales["runs"]
    assert (run["published"], run["failed"], run["pending"]) == (RAW_ROWS, INVALID, 0)
    assert value(settings, "SELECT count(*) FROM orders") == ORDERS
    topic = settings.named("orders.raw")
    outcomes = rows(
        settings, "SELECT sum(inserted) i, sum(superseded) s, sum(failed) f FROM coverage WHERE topic = $1", topic
    )[0]
    assert outcomes == {"i": ORDERS, "s": RAW_ROWS - ORDERS - INVALID, "f": INVALID}
    reasons = rows(settings, "SELECT DISTINCT reason FROM ingest_failures WHERE dataset = 'orders' ORDER BY 1")
    expected = ["date_form", "number_form", "out_of_range", "required", "too_precise"]
    assert [row["reason"] for row in reasons] == expected


def test_orders_are_read_by_product_customer_date_and_price(api: httpx.Client) -> None:
    everything = api.get("/orders").json()
    assert (everything["total"], everything["page"], everything["limit"]) == (ORDERS, 1, 10)
    assert everything["total_pages"] == ORDERS // 10
    asked = {"product": "Desk lamp", "from": "2024-03-01", "to": "2024-03-31", "min_price": "30", "max_price": "34.50"}
    found = api.get("/orders", params={**asked, "limit": 100}).json()
    assert 0 < found["total"] == len(found["data"])
    for order in found["data"]:
        assert order["product"] == "Desk lamp"
        assert "2024-03-01" <= order["order_date"] <= "2024-03-31"
        assert 30 <= order["price"] <= 34.5
    one = found["data"][0]
    assert api.get(f"/datasets/orders/{one['order_id']}").json() == one
    of_customer = api.get("/orders", params={"customer_id": one["customer_id"], "limit": 100}).json()["data"]
    assert one in of_customer
    refused = api.get("/orders?from=yesterday")
    assert (refused.status_code, refused.json()["errors"][0]["parameter"]) == (400, "from")


def test_every_page_of_a_cursor_has_other_orders(api: httpx.Client) -> None:
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = api.get("/orders", params={"customer_id": "CUST007", "limit": 4, "cursor": cursor}).json()
        seen += [order["order_id"] for order in page["data"]]
        cursor = page["next_cursor"]
    assert len(seen) == page["total"] > 4
    assert seen == sorted(set(seen))


def test_an_order_is_found_by_its_product(api: httpx.Client, settings: Settings) -> None:
    if settings.elasticsearch_url:
        eventually(lambda: documents(settings, "orders") == ORDERS, what="all orders are indexed")
    hits = api.get("/search", params={"q": "desk lamp", "dataset": "orders"}).json()["data"]
    assert hits[0]["record"]["product"] == "Desk lamp"
    assert isinstance(hits[0]["record"]["quantity"], int)


def test_the_export_is_uploaded_and_is_what_the_etl_of_the_file_makes(
    headrace: CommandLine, api: httpx.Client, bucket: TestBucket
) -> None:
    exporting = CommandLine(headrace.home, {**headrace.variables, **bucket.environment})
    lines = [
        f"Initial rows: {RAW_ROWS}",
        f"Rows after cleaning: {ORDERS}",
        f"File processed_output.csv successfully uploaded to S3://{bucket.name}/processed_output.csv",
        f"File processed_output.parquet successfully uploaded to S3://{bucket.name}/processed_output.parquet",
    ]
    done = exporting("export", "orders", "--to", bucket.url, "--format", "csv,parquet")
    assert done.stdout.splitlines() == lines
    exported = bucket.read("processed_output.csv")
    table = parquet.read_table(pa.BufferReader(bucket.read("processed_output.parquet")))

    etl = subprocess.run(
        [sys.executable, "-m", "data.etl", str(RAW_FILE), "--bucket", bucket.name],
        cwd=PROJECT, env=exporting.environment(), capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert etl.stdout.splitlines() == lines
    assert bucket.read("processed_output.csv") == exported
    assert parquet.read_table(pa.BufferReader(bucket.read("processed_output.parquet"))).equals(table)

    check_totals(api, list(csv.DictReader(io.StringIO(exported.decode()))))


def check_totals(api: httpx.Client, orders: list[dict[str, str]]) -> None:
    for by, column, length in (("product", "product", None), ("month", "order_date", 7)):
        expected: dict[str, Decimal] = defaultdict(Decimal)
        for row in orders:
            expected[row[column][:length]] += int(row["quantity"]) * Decimal(row["price"])
        told = json.loads(api.get("/orders/totals", params={"by": by}).text, parse_float=Decimal)
        assert {row[by]: row["revenue"] for row in told["data"]} == expected
        assert (told["orders"], told["revenue"]) == (ORDERS, sum(expected.values()))
        assert told["quantity"] == sum(int(row["quantity"]) for row in orders)


def test_an_export_goes_to_a_folder_and_tells_its_figures_as_json(headrace: CommandLine, tmp_path: Path) -> None:
    told = json.loads(headrace("export", "orders", "--to", str(tmp_path), "--format", "csv", "--json").stdout)
    assert (told["initial_rows"], told["rows_after_cleaning"]) == (RAW_ROWS, ORDERS)
    assert [path.name for path in tmp_path.iterdir()] == ["processed_output.csv"]


def test_the_same_file_again_changes_nothing(headrace: CommandLine, settings: Settings) -> None:
    before = rows(settings, "SELECT * FROM orders ORDER BY order_id")
    headrace("publish", "orders", "--wait")
    assert rows(settings, "SELECT * FROM orders ORDER BY order_id") == before
    assert all(row["updated_at"] is None for row in before)
    assert "accounted for" in headrace("audit", "--wait", "60").stdout


def test_a_deleted_order_that_is_published_again_is_what_it_was(headrace: CommandLine, api: httpx.Client) -> None:
    before = api.get("/datasets/orders/ORD-00001").json()
    assert api.delete("/datasets/orders/ORD-00001").status_code == 204
    eventually(lambda: api.get("/datasets/orders/ORD-00001").status_code == 404, what="the cached read follows")
    assert api.get("/orders").json()["total"] == ORDERS - 1
    headrace("publish", "orders", "--wait")
    assert api.get("/orders").json()["total"] == ORDERS
    eventually(lambda: api.get("/datasets/orders/ORD-00001").status_code == 200, what="the cached read follows")
    after = api.get("/datasets/orders/ORD-00001").json()
    assert {**after, "created_at": before["created_at"]} == before
