"""Customers and every other dataset over HTTP: pages, cursors, single records, on real stores."""

import asyncio
import datetime
import json
from collections.abc import AsyncIterator
from decimal import Decimal

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy import text

from runtime.settings import Settings
from stores.cache import Invalidation, VersionedCache
from stores.postgres_engine import postgres_engine
from tests.integration.api_client import CUSTOMERS, RECORDS, api_client, closed_port, customer, record, store
from tests.waiting import eventually_async


@pytest.fixture
async def client(migrated_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with api_client(migrated_settings) as client:
        yield client


async def change(settings: Settings, statement: str) -> None:
    engine = postgres_engine(settings, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(statement))
    await engine.dispose()


async def test_a_page_has_the_shape_of_the_source(client: httpx.AsyncClient, migrated_settings: Settings) -> None:
    await store(migrated_settings, CUSTOMERS, [customer(n) for n in range(1, 26)])
    body = (await client.get("/api/customers?page=2&limit=10")).json()
    assert [row["customer_id"] for row in body["data"]] == [f"CUST{n:03}" for n in range(11, 21)]
    assert (body["total"], body["page"], body["limit"], body["total_pages"]) == (25, 2, 10, 3)


async def test_the_first_ten_customers_are_the_default_page(
    client: httpx.AsyncClient, migrated_settings: Settings
) -> None:
    await store(migrated_settings, CUSTOMERS, [customer(n) for n in range(1, 13)])
    body = (await client.get("/api/customers")).json()
    assert (body["page"], body["limit"], len(body["data"])) == (1, 10, 10)


async def test_no_customers_are_an_empty_page(client: httpx.AsyncClient) -> None:
    body = (await client.get("/api/customers?page=7")).json()
    assert body == {"data": [], "total": 0, "page": 7, "limit": 10, "total_pages": 0, "next_cursor": None}


async def test_cursors_lead_through_all_records_once(client: httpx.AsyncClient, migrated_settings: Settings) -> None:
    await store(migrated_settings, CUSTOMERS, [customer(n) for n in range(1, 24)])
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        body = (await client.get("/api/customers", params={"cursor": cursor, "limit": 10})).json()
        seen += [row["customer_id"] for row in body["data"]]
        assert body["page"] is None
        cursor = body["next_cursor"]
    assert seen == [f"CUST{n:03}" for n in range(1, 24)]


async def test_cursors_of_a_composite_key_lead_through_all_records(
    client: httpx.AsyncClient, migrated_settings: Settings
) -> None:
    rows = [record(source, str(n), "x") for source in ("a", "b", "c") for n in range(7)]
    await store(migrated_settings, RECORDS, rows)
    seen: list[tuple[str, str]] = []
    cursor: str | None = ""
    while cursor is not None:
        body = (await client.get("/datasets/records", params={"cursor": cursor, "limit": 4})).json()
        seen += [(row["source_name"], row["source_id"]) for row in body["data"]]
        cursor = body["next_cursor"]
    assert seen == sorted((row["source_name"], row["source_id"]) for row in rows)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("page=0", "page"),
        ("page=-1", "page"),
        ("page=x", "page"),
        ("page=", "page"),
        ("page=1.0", "page"),
        ("page=%2B1", "page"),
        ("page=1_0", "page"),
        ("page=٣", "page"),
        ("page=" + "9" * 5000, "page"),
        ("page=10000000000000000000", "page"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("cursor=%21%21", "cursor"),
        ("cursor=WyJhIiwiYiJd", "cursor"),
        ("cursor=WyJcdTAwMDAiXQ", "cursor"),
        ("cursor=&page=2", "cursor"),
    ],
)
async def test_a_wrong_parameter_is_named(client: httpx.AsyncClient, query: str, parameter: str) -> None:
    answer = await client.get(f"/api/customers?{query}")
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["detail"].startswith(f"{parameter}=")
    assert problem["errors"][0]["parameter"] == parameter
    assert problem["instance"] == "/api/customers"
    assert problem["request_id"] == answer.headers["x-request-id"]


async def test_values_are_json_numbers_and_iso_dates(client: httpx.AsyncClient, migrated_settings: Settings) -> None:
    row = customer(
        1, account_balance=Decimal("1234567890123.10"), date_of_birth=datetime.date(1990, 2, 3), address='Ärger "x"'
    )
    await store(migrated_settings, CUSTOMERS, [row])
    for path in ("/api/customers/CUST001", "/datasets/customers/CUST001"):
        answer = await client.get(path)
        assert answer.headers["content-type"] == "application/json"
        assert '"account_balance":1234567890123.10,' in answer.text
        body = answer.json()
        assert body["date_of_birth"] == "1990-02-03"
        assert body["created_at"] == "2024-05-17T08:30:01.250000Z"
        assert body["updated_at"] is None
        assert body["address"] == 'Ärger "x"'
        assert list(body) == [field.name for field in CUSTOMERS.fields] + ["created_at", "updated_at"]


async def test_the_first_read_fills_the_cache_and_the_second_hits_it(
    client: httpx.AsyncClient, migrated_settings: Settings
) -> None:
    await store(migrated_settings, CUSTOMERS, [customer(1)])
    first, second = [await client.get("/api/customers/CUST001") for _ in range(2)]
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("miss", "hit")
    assert first.content == second.content
    assert "postgres" in first.headers["server-timing"]
    assert "postgres" not in second.headers["server-timing"]


async def test_without_redis_by_choice_records_come_from_postgres(migrated_settings: Settings) -> None:
    await store(migrated_settings, CUSTOMERS, [customer(1)])
    async with api_client(migrated_settings.model_copy(update={"redis_url": None})) as client:
        answers = [await client.get("/api/customers/CUST001") for _ in range(2)]
    assert [(one.status_code, one.headers["x-cache"]) for one in answers] == [(200, "bypass")] * 2


async def test_an_invalidated_record_is_read_again(client: httpx.AsyncClient, migrated_settings: Settings) -> None:
    await store(migrated_settings, CUSTOMERS, [customer(1)])
    await client.get("/api/customers/CUST001")
    await change(migrated_settings, "UPDATE customers SET first_name = 'Grace', version = 2")
    redis = Redis.from_url(str(migrated_settings.plain_redis_url))
    await VersionedCache(redis, migrated_settings).invalidate([Invalidation("customers", "CUST001", 2)])
    await redis.aclose()
    answer = await client.get("/api/customers/CUST001")
    assert (answer.json()["first_name"], answer.headers["x-cache"]) == ("Grace", "miss")


async def test_a_missing_record_is_a_404_and_its_absence_is_cached(client: httpx.AsyncClient) -> None:
    first, second = [await client.get("/api/customers/NOBODY") for _ in range(2)]
    assert first.status_code == second.status_code == 404
    assert first.headers["content-type"] == "application/problem+json"
    assert "NOBODY" in first.json()["detail"]
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("miss", "hit")


@pytest.mark.parametrize("key", ["a%00b", "x" * 2000, "%FF", "..%2F..", "' OR 1=1 --", "CUST001%20"])
async def test_a_key_that_cannot_be_is_a_404(client: httpx.AsyncClient, key: str) -> None:
    assert (await client.get(f"/api/customers/{key}")).status_code == 404


async def test_a_key_may_hold_slashes_and_separators(client: httpx.AsyncClient, migrated_settings: Settings) -> None:
    await store(migrated_settings, RECORDS, [record("feed", "https://x.example/a:b", "x", value=Decimal("1.5000"))])
    answer = await client.get("/datasets/records/feed:https%3A%2F%2Fx.example%2Fa%3Ab")
    assert answer.status_code == 200, answer.text
    assert answer.json()["source_id"] == "https://x.example/a:b"
    assert '"value":1.5000,' in answer.text
    assert (await client.get("/datasets/records/no-separator")).status_code == 404


async def test_an_unchanged_record_is_not_sent_again(client: httpx.AsyncClient, migrated_settings: Settings) -> None:
    await store(migrated_settings, CUSTOMERS, [customer(1)])
    first = await client.get("/api/customers/CUST001")
    again = await client.get("/api/customers/CUST001", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = await client.get("/api/customers/CUST001", headers={"If-None-Match": 'W/"other"'})
    assert other.status_code == 200


async def test_many_readers_of_one_key_make_one_query(client: httpx.AsyncClient, migrated_settings: Settings) -> None:
    await store(migrated_settings, CUSTOMERS, [customer(1)])
    # The row is locked away, so that all readers must wait for the first one's query.
    engine = postgres_engine(migrated_settings)
    async with engine.begin() as connection:
        await connection.execute(text("LOCK TABLE customers IN ACCESS EXCLUSIVE MODE"))
        readers = [asyncio.create_task(client.get("/api/customers/CUST001")) for _ in range(60)]
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )

        async def queries() -> int:
            async with engine.connect() as observer:
                return int((await observer.execute(waiting)).scalar_one())

        seen = await eventually_async(queries, what="the first reader's query waits")
        await asyncio.wait(readers, timeout=0.5)
        assert (seen, await queries()) == (1, 1), "no other reader asks meanwhile"
    await engine.dispose()
    answers = await asyncio.gather(*readers)
    assert {answer.status_code for answer in answers} == {200}


async def test_every_dataset_is_readable_by_its_name(client: httpx.AsyncClient, migrated_settings: Settings) -> None:
    await store(migrated_settings, RECORDS, [record("titanic", "1", "Braund")])
    listed = (await client.get("/datasets")).json()["data"]
    assert {"customers", "records"} <= {dataset["name"] for dataset in listed}
    for dataset in listed:
        assert (await client.get(dataset["url"])).status_code == 200
    one = (await client.get("/datasets/records/titanic:1")).json()
    assert (one["name"], one["source_name"]) == ("Braund", "titanic")
    assert isinstance(one["id"], int)
    assert (await client.get("/datasets/nothing")).status_code == 404


async def test_without_redis_records_come_from_postgres(migrated_settings: Settings) -> None:
    await store(migrated_settings, CUSTOMERS, [customer(1)])
    closed = migrated_settings.model_copy(update={"redis_url": SecretStr(f"redis://127.0.0.1:{closed_port()}/0")})
    async with api_client(closed) as client:
        for _ in range(3):
            answer = await client.get("/api/customers/CUST001")
            assert (answer.status_code, answer.headers["x-cache"]) == (200, "bypass")
        assert (await client.get("/api/customers/NOBODY")).status_code == 404


async def test_without_postgres_cached_records_still_answer_and_the_rest_says_when_to_retry(
    migrated_settings: Settings,
) -> None:
    await store(migrated_settings, CUSTOMERS, [customer(1), customer(2)])
    async with api_client(migrated_settings) as client:
        cached = (await client.get("/api/customers/CUST001")).json()
    url = f"postgresql://headrace:headrace@127.0.0.1:{closed_port()}/headrace"
    closed = Settings(**{**migrated_settings.model_dump(), "database_url": url})
    async with api_client(closed) as client:
        answer = await client.get("/api/customers/CUST001")
        assert (answer.status_code, answer.json(), answer.headers["x-cache"]) == (200, cached, "hit")
        for path in ("/api/customers/CUST002", "/api/customers", "/data", "/datasets/records"):
            refused = await client.get(path)
            assert refused.status_code == 503, path
            assert refused.headers["content-type"] == "application/problem+json"
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["store"] == "postgres"


async def test_large_answers_are_compressed_and_small_ones_are_not(
    client: httpx.AsyncClient, migrated_settings: Settings
) -> None:
    await store(migrated_settings, CUSTOMERS, [customer(n) for n in range(1, 101)])
    page = await client.get("/api/customers?limit=100")
    assert page.headers["content-encoding"] == "gzip"
    assert len(json.loads(page.content)["data"]) == 100
    assert "content-encoding" not in (await client.get("/api/customers/CUST001")).headers


async def test_a_record_is_read_under_the_key_that_it_was_sent_with(
    client: httpx.AsyncClient, migrated_settings: Settings
) -> None:
    await store(migrated_settings, CUSTOMERS, [customer(1, customer_id="Jos\u00e9 1")])
    answers = [
        await client.get("/api/customers/Jose\u0301%20%201"),
        await client.get("/datasets/customers/Jos\u00e9 1"),
    ]
    assert [(answer.status_code, answer.headers["x-cache"]) for answer in answers] == [(200, "miss"), (200, "hit")]
    assert (await client.get("/api/customers/a%00b")).status_code == 404
