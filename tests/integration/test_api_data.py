"""`GET /data`: records by source and by text."""

from collections.abc import AsyncIterator
from decimal import Decimal

import httpx
import pytest

from runtime.settings import Settings
from tests.integration.api_client import RECORDS, api_client, record, store

ROWS = [
    record("titanic", "1", "Braund, Mr. Owen", value=Decimal("7.2500")),
    record("titanic", "2", "Müller's 100% Café", description='O\'Brien said "so_what"'),
    record("posts", "1", "sunt aut facere", source="api", description="back\\slash"),
    record(
        "posts",
        "2",
        "qui est esse",
        source="api",
        description="1000 sowhat",
        value=Decimal("12345678901234567890.1234567"),
    ),
]


@pytest.fixture
async def client(migrated_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    await store(migrated_settings, RECORDS, ROWS)
    async with api_client(migrated_settings) as client:
        yield client


async def names(client: httpx.AsyncClient, **parameters: str | int) -> list[str]:
    answer = await client.get("/data", params=parameters)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["total"] == len(body["data"])
    return [f"{row['source_name']}:{row['source_id']}" for row in body["data"]]


async def test_rows_have_the_documented_fields(client: httpx.AsyncClient) -> None:
    answer = await client.get("/data?source=titanic&search=braund")
    row = answer.json()["data"][0]
    documented = {"id", "source", "source_id", "name", "value", "description", "created_at", "updated_at"}
    assert set(row) == documented | {"source_name"}
    assert '"value":7.2500' in answer.text
    assert row["updated_at"] is None


async def test_a_value_is_a_number_with_all_its_digits(client: httpx.AsyncClient) -> None:
    assert '"value":12345678901234567890.1234567,' in (await client.get("/data?source=posts&search=esse")).text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("titanic", ["titanic:1", "titanic:2"]),
        ("api", ["posts:1", "posts:2"]),
        ("csv", ["titanic:1", "titanic:2"]),
        ("posts", ["posts:1", "posts:2"]),
        ("nothing", []),
        ("", ["posts:1", "posts:2", "titanic:1", "titanic:2"]),
    ],
)
async def test_a_source_is_a_kind_or_a_name(client: httpx.AsyncClient, source: str, expected: list[str]) -> None:
    assert sorted(await names(client, source=source)) == expected


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("muller", ["titanic:2"]),
        ("MÜLLER", ["titanic:2"]),
        ("mu\u0308ller's", ["titanic:2"]),
        ("cafe", ["titanic:2"]),
        ("100%", ["titanic:2"]),
        ("%", ["titanic:2"]),
        ("so_what", ["titanic:2"]),
        ("_", ["titanic:2"]),
        ("o'brien", ["titanic:2"]),
        ('"so', ["titanic:2"]),
        ("back\\slash", ["posts:1"]),
        ("/", []),
        ("'; DROP TABLE normalized_data; --", []),
        ("  braund,   mr.  ", ["titanic:1"]),
        ("   ", ["posts:1", "posts:2", "titanic:1", "titanic:2"]),
    ],
)
async def test_a_search_takes_its_text_literally_but_for_case_and_accents(
    client: httpx.AsyncClient, search: str, expected: list[str]
) -> None:
    assert sorted(await names(client, search=search)) == expected


async def test_source_and_search_together_find_records_that_satisfy_both(client: httpx.AsyncClient) -> None:
    assert await names(client, source="posts", search="est") == ["posts:2"]
    assert await names(client, source="titanic", search="est") == []


async def test_pages_say_whether_there_is_more(client: httpx.AsyncClient) -> None:
    pages = [(await client.get(f"/data?page={page}&page_size=3")).json() for page in (1, 2, 3)]
    assert [len(page["data"]) for page in pages] == [3, 1, 0]
    assert [page["has_more"] for page in pages] == [True, False, False]
    assert {page["total"] for page in pages} == {4}
    assert [page["page"] for page in pages] == [1, 2, 3]
    ids = [row["id"] for page in pages for row in page["data"]]
    assert len(set(ids)) == 4


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("page=0", "page"),
        ("page_size=101", "page_size"),
        ("page_size=0", "page_size"),
        ("page_size=a", "page_size"),
        ("search=a%00b", "search"),
        ("source=%00", "source"),
        (f"search={'x' * 201}", "search"),
    ],
)
async def test_a_wrong_parameter_is_named(client: httpx.AsyncClient, query: str, parameter: str) -> None:
    answer = await client.get(f"/data?{query}")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["parameter"] == parameter
