"""The spine: records flow from their sources to every store and come back through the API, each exactly once."""

import json
from pathlib import Path
from typing import Any

import httpx

from data.generate import make_raw_file
from stores.tables import OUTCOMES
from tests.e2e.headrace import Headrace
from tests.e2e.stores import documents, rows, value
from tests.processes import Pipeline
from tests.waiting import eventually

CUSTOMERS, PASSENGERS, POSTS = 10_000, 1_309, 100
SALES, ORDERS, SPOILT_SALES = 5_200, 4_680, 260

OF_THE_SOURCE = """SELECT customer_id, created_at, updated_at FROM customers
    WHERE customer_id NOT LIKE 'PUSHED-%' AND customer_id NOT LIKE 'DELETED-%' ORDER BY 1"""


def ingest(api: httpx.Client) -> dict[str, object]:
    answer = api.post("/api/ingest", timeout=120)
    assert answer.status_code == 200, answer.text
    body: dict[str, object] = answer.json()
    return body


def test_ten_thousand_customers_and_the_default_sources_reach_every_store(
    pipeline: Pipeline, headrace: Headrace
) -> None:
    settings = pipeline.settings
    make_raw_file()
    published = headrace("publish", "--all", "--wait", "--json")
    assert published.returncode == 0, published.stdout + published.stderr

    outcomes = {run["source"]: run["outcomes"] for run in json.loads(published.stdout)["runs"]}
    none = dict.fromkeys(OUTCOMES, 0)
    assert outcomes["customers_api"] == none | {"inserted": CUSTOMERS}
    assert outcomes["orders"] == none | {
        "inserted": ORDERS,
        "superseded": SALES - ORDERS - SPOILT_SALES,
        "failed": SPOILT_SALES,
    }
    recorded = rows(settings, "SELECT source, outcomes FROM etl_runs")
    assert {run["source"]: json.loads(run["outcomes"]) for run in recorded} == outcomes
    stats = json.loads(headrace("stats", "--json").stdout)["sources"]
    assert {source: totals["outcomes"] for source, totals in stats.items()} == outcomes
    assert value(settings, "SELECT count(*) FROM customers") == CUSTOMERS
    assert value(settings, "SELECT count(*) FROM normalized_data WHERE source_name = 'titanic'") == PASSENGERS
    assert value(settings, "SELECT count(*) FROM normalized_data WHERE source_name = 'posts'") == POSTS
    assert value(settings, "SELECT count(*) FROM orders") == ORDERS
    failed = rows(settings, "SELECT dataset, count(*) AS failures FROM ingest_failures GROUP BY dataset")
    assert failed == [{"dataset": "orders", "failures": SPOILT_SALES}]
    eventually(lambda: documents(settings, "customers") == CUSTOMERS, what="all customers are indexed")
    eventually(lambda: documents(settings, "orders") == ORDERS, what="all orders are indexed")
    eventually(lambda: documents(settings, "records") == PASSENGERS + POSTS, what="all records are indexed")
    landed = "SELECT (SELECT count(*) FROM raw_api_data) + (SELECT count(*) FROM raw_csv_data)"
    eventually(
        lambda: value(settings, landed) == CUSTOMERS + PASSENGERS + POSTS + SALES, what="all raw records have landed"
    )

    with httpx.Client(base_url=pipeline["api"].url, trust_env=False) as api:
        assert api.get("/api/customers?limit=1").json()["total"] == CUSTOMERS
        assert api.get("/orders?limit=1").json()["total"] == ORDERS
        assert api.get("/data?source=csv").json()["total"] == PASSENGERS
        assert api.get("/data?source=posts").json()["total"] == POSTS
        served = api.get("/api/customers/CUST001").json()
    with httpx.Client(base_url=pipeline["mock-server"].url, trust_env=False) as mock:
        given = mock.get("/api/customers/CUST001").json()
    assert (served["first_name"], served["last_name"]) == (given["first_name"], given["last_name"])
    assert served["email"] == given["email"].lower()


def test_an_update_is_seen_everywhere_and_a_repeat_changes_nothing(pipeline: Pipeline) -> None:
    settings = pipeline.settings
    with (
        httpx.Client(base_url=pipeline["api"].url, trust_env=False) as api,
        httpx.Client(base_url=pipeline["mock-server"].url, trust_env=False) as mock,
    ):
        assert ingest(api)["records_processed"] == CUSTOMERS
        first = rows(settings, OF_THE_SOURCE)
        assert all(row["updated_at"] is None for row in first)

        for _ in range(2):
            cached = api.get("/api/customers/CUST007")
        assert cached.headers["X-Cache"] == "hit"
        mock.patch("/api/customers/CUST007", json={"last_name": "Zyxelwood"}).raise_for_status()
        assert ingest(api)["status"] == "success"

        assert value(settings, "SELECT last_name FROM customers WHERE customer_id = 'CUST007'") == "Zyxelwood"
        eventually(
            lambda: api.get("/api/customers/CUST007").json()["last_name"] == "Zyxelwood", what="the cached read follows"
        )
        eventually(lambda: found(api, "zyxelwood") == ["CUST007"], what="search follows")
        second = rows(settings, OF_THE_SOURCE)
        assert [row["created_at"] for row in second] == [row["created_at"] for row in first]
        assert [row["customer_id"] for row in second if row["updated_at"] is not None] == ["CUST007"]

        assert ingest(api)["records_processed"] == CUSTOMERS
        assert rows(settings, OF_THE_SOURCE) == second
        held = value(settings, "SELECT count(*) FROM customers")
        eventually(lambda: documents(settings, "customers") == held, what="nothing is indexed twice")


def test_pushed_records_are_stored_or_found_among_the_failures(pipeline: Pipeline, headrace: Headrace) -> None:
    good = '{"customer_id": "PUSHED-1", "first_name": "Ada", "last_name": "L", "email": "ada@example.org"}'
    bad = '{"customer_id": "PUSHED-2", "first_name": "", "last_name": "L", "email": "nobody"}'
    pushed = headrace("push", "customers", "-", "--wait", "--json", stdin=f"{good}\n{bad}\nnot json\n")
    assert pushed.returncode == 0, pushed.stdout + pushed.stderr
    assert value(pipeline.settings, "SELECT count(*) FROM customers WHERE customer_id LIKE 'PUSHED-%'") == 1
    failures = rows(
        pipeline.settings, "SELECT reason, payload FROM ingest_failures WHERE dataset = 'customers' ORDER BY reason"
    )
    assert [failure["payload"] for failure in failures] == [b"not json", bad.encode()]
    assert [failure["reason"] for failure in failures] == ["not_json", "required"]


def test_a_deleted_record_is_gone_everywhere_and_may_come_again(pipeline: Pipeline, headrace: Headrace) -> None:
    settings = pipeline.settings
    before = value(settings, "SELECT count(*) FROM customers")
    failures = "SELECT count(*) FROM ingest_failures"
    failed = value(settings, failures)
    lines = [
        f'{{"customer_id": "DELETED-{n}", "first_name": "Dee", "last_name": "Leted", "email": "d{n}@example.org"}}'
        for n in range(3)
    ]
    assert headrace("push", "customers", "-", "--wait", stdin="\ufeff" + "\n".join(lines)).returncode == 0
    with httpx.Client(base_url=pipeline["api"].url, trust_env=False) as api:
        eventually(lambda: documents(settings, "customers") == before + 3, what="all are indexed")
        assert api.get("/api/customers/DELETED-0").status_code == 200
        assert api.delete("/api/customers/DELETED-0").status_code == 204
        assert headrace("push", "customers", "-", "--delete", "--wait", stdin="\ufeffDELETED-1\n").returncode == 0
        assert api.delete("/api/customers/nobody").status_code == 204

        eventually(lambda: api.get("/api/customers/DELETED-0").status_code == 404, what="the cached read follows")
        assert api.get("/api/customers").json()["total"] == before + 1
        eventually(lambda: documents(settings, "customers") == before + 1, what="the documents are gone")

        copied = lines[0].replace("DELETED", "DEL\u00adETED\u200b")
        assert headrace("push", "customers", "-", "--wait", stdin=copied).returncode == 0
        eventually(lambda: api.get("/api/customers/DELETED-0").status_code == 200, what="a newer record lives again")
        eventually(lambda: documents(settings, "customers") == before + 2, what="it is indexed again")
    assert value(settings, "SELECT sum(deleted) FROM coverage") == 3
    assert value(settings, failures) == failed


def test_a_key_that_is_not_unique_does_not_pass_for_rows_and_several_columns_make_one(
    pipeline: Pipeline, headrace: Headrace, tmp_path: Path
) -> None:
    file = tmp_path / "weather.csv"
    rows_of_file = [f"{number % 4},{number // 4},Station {number % 4},{number}" for number in range(2_000)]
    file.write_text("\n".join(("station,day,name,rain", *rows_of_file)))
    stored = "SELECT source_id FROM normalized_data WHERE source_name = $1"
    csv = ("publish", "csv", str(file), "--wait", "--json", "--source")

    (run,) = json.loads(headrace(*csv, "by-station", "--key", "station").stdout)["runs"]
    outcomes = run["outcomes"]
    assert (run["stored"], run["failed"], outcomes["inserted"]) == (2_000, 0, 4)
    assert outcomes["updated"] + outcomes["unchanged"] + outcomes["superseded"] == 1_996
    assert "2,000 records have 4 different keys" in run["warning"]
    assert run["columns_left_out"] == ["day", "rain"]

    for source, key in (("by-both", "station,day"), ("by-row", "@row")):
        (run,) = json.loads(headrace(*csv, source, "--key", key).stdout)["runs"]
        assert (run["outcomes"]["inserted"], run["warning"]) == (2_000, None)
        (again,) = json.loads(headrace(*csv, source, "--key", key).stdout)["runs"]
        assert again["outcomes"]["unchanged"] == 2_000
        assert len(rows(pipeline.settings, stored, source)) == 2_000
    assert len(rows(pipeline.settings, stored, "by-station")) == 4


def test_no_group_has_lag_when_all_is_done(pipeline: Pipeline, headrace: Headrace) -> None:
    assert headrace("publish", "titanic", "--wait").returncode == 0
    with httpx.Client(base_url=pipeline["api"].url, trust_env=False) as api:
        eventually(lambda: sum(row["lag"] for row in lag_rows(api)) == 0, what="no group lags")
        assert {row["group"].rpartition(".")[2] for row in lag_rows(api)} >= {"normalizer", "sink-postgres"}


def test_the_audit_accounts_for_every_record_and_finds_a_hole(pipeline: Pipeline, headrace: Headrace) -> None:
    settings = pipeline.settings
    covered = "SELECT coalesce(sum(upper(r) - lower(r)), 0)::bigint FROM coverage, unnest(ranges) AS r"
    before = value(settings, covered)
    assert headrace("publish", "titanic", "--wait").returncode == 0
    clean = headrace("audit", "--wait", "60", "--json")
    assert clean.returncode == 0, clean.stdout + clean.stderr
    partitions = json.loads(clean.stdout)["partitions"]
    assert sum(row["covered"] for row in partitions) == before + PASSENGERS
    with httpx.Client(base_url=pipeline["api"].url, trust_env=False) as api:
        assert api.get("/audit").json()["clean"] is True

        # The last test of the file: what is taken out of the books here does not come back.
        lost = """UPDATE coverage SET ranges = ranges - '{[1,2)}', inserted = inserted - 1
            WHERE topic LIKE '%records.raw' AND partition = 0 RETURNING 1"""
        assert value(settings, lost) == 1
        dirty = headrace("audit")
        assert dirty.returncode == 1
        assert "1 LOST" in dirty.stdout
        assert "[1,2)" in dirty.stdout
        assert api.get("/audit").json()["clean"] is False


def found(api: httpx.Client, words: str) -> list[str]:
    answer = api.get("/search", params={"q": words, "dataset": "customers"}).raise_for_status()
    return [hit["key"] for hit in answer.json()["data"]]


def lag_rows(api: httpx.Client) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = api.get("/lag").raise_for_status().json()["data"]
    return rows
