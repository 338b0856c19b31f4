"""`GET /search`: Elasticsearch where it answers, Postgres where it does not."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from runtime.settings import Settings
from schemas.dataset import Dataset
from tests.integration.api_client import (
    CUSTOMERS,
    RECORDS,
    api_client,
    closed_port,
    customer,
    record,
    search_text,
    store,
)
from tests.search_index import make_index, search_server

PEOPLE = [
    customer(1, first_name="Jürgen", last_name="Müller", address="Hauptstraße 1 <b>", account_balance="12.50"),
    customer(2, first_name="Katherine", last_name="Johnson"),
    customer(3, first_name="Kathryn", last_name="Johnston"),
]
PASSENGERS = [record("titanic", "1", "Johnson, Miss. Eleanor"), record("titanic", "2", "Braund, Mr. Owen Harris")]


async def index(settings: Settings, dataset: Dataset, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put rows into the dataset's index, with the mapping that its fields declare."""
    properties = {field.name: field.type.mapping() for field in dataset.fields}
    properties["search_text"] = {"type": "text", "index_prefixes": {}}
    alias = settings.named(dataset.name)
    async with search_server(settings) as server:
        one = {"number_of_shards": 1, "number_of_replicas": 0}
        await make_index(server, f"{alias}-1", properties, aliases={alias: {}}, settings=one)
        for row in rows:
            document = {**row, "search_text": search_text(dataset, row)}
            key = quote(dataset.key_text(row), safe="")
            await server.ask("PUT", f"/{alias}/_doc/{key}?refresh=true", document)


@pytest.fixture
async def indexed(migrated_settings: Settings) -> AsyncIterator[Settings]:
    await index(migrated_settings, CUSTOMERS, PEOPLE)
    await index(migrated_settings, RECORDS, PASSENGERS)
    yield migrated_settings
    async with search_server(migrated_settings) as server:
        for dataset in (CUSTOMERS, RECORDS):
            await server.ask("DELETE", f"/{migrated_settings.named(dataset.name)}-1")


@pytest.fixture
async def client(indexed: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with api_client(indexed) as client:
        yield client


async def found(client: httpx.AsyncClient, backend: str, **parameters: str | int) -> list[str]:
    answer = await client.get("/search", params=parameters)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["backend"], body["degraded"]) == (backend, backend == "postgres")
    assert body["total"] >= len(body["data"])
    return [hit["key"] for hit in body["data"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Müller", ["CUST001"]),
        ("muller", ["CUST001"]),
        ("jurgen müller", ["CUST001"]),
        ("mul", ["CUST001"]),
        ("mueler", ["CUST001"]),
        ("mullre", ["CUST001"]),
        ("cust002", ["CUST002"]),
        ("ada2@example.com", ["CUST002"]),
        ("braund har", ["titanic:2"]),
        ("nothing of the kind", []),
        ('"(*:?', []),
    ],
)
async def test_a_search_finds_words_beginnings_misspellings_and_keys(
    client: httpx.AsyncClient, query: str, expected: list[str]
) -> None:
    keys = await found(client, "elasticsearch", q=query)
    assert keys[:1] == expected


async def test_exact_words_come_before_similar_ones(client: httpx.AsyncClient) -> None:
    keys = await found(client, "elasticsearch", q="johnson", dataset="customers")
    assert keys == ["CUST002", "CUST003"]


async def test_a_search_without_dataset_looks_into_all(client: httpx.AsyncClient) -> None:
    assert set(await found(client, "elasticsearch", q="johnson")) >= {"CUST002", "titanic:1"}
    assert await found(client, "elasticsearch", q="johnson", dataset="records") == ["titanic:1"]


async def test_hits_carry_the_record_and_what_matched(client: httpx.AsyncClient) -> None:
    answer = await client.get("/search?q=muller hauptstrasse")
    assert '"account_balance":12.50' in answer.text
    hit = answer.json()["data"][0]
    assert (hit["dataset"], hit["key"], hit["record"]["last_name"]) == ("customers", "CUST001", "Müller")
    assert "search_text" not in hit["record"]
    assert hit["highlights"] == {
        "last_name": "<em>Müller</em>",
        "address": "<em>Hauptstraße</em> 1 &lt;b&gt;",
    }


async def test_a_search_comes_in_pages(client: httpx.AsyncClient) -> None:
    pages = [(await client.get(f"/search?q=example&page={page}&page_size=2")).json() for page in (1, 2)]
    assert [page["has_more"] for page in pages] == [True, False]
    assert {page["total"] for page in pages} == {3}
    assert len({hit["key"] for page in pages for hit in page["data"]}) == 3


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("", "q"),
        ("q=", "q"),
        ("q=%20", "q"),
        ("q=a%00", "q"),
        ("q=" + "x" * 201, "q"),
        ("q=a&dataset=nothing", "dataset"),
        ("q=a&page=0", "page"),
        ("q=a&page=101&page_size=100", "page"),
        ("q=a&page_size=101", "page_size"),
    ],
)
async def test_a_wrong_parameter_is_named(client: httpx.AsyncClient, query: str, parameter: str) -> None:
    answer = await client.get(f"/search?{query}")
    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["parameter"] == parameter


async def test_the_last_page_that_elasticsearch_shows_is_within_its_window(client: httpx.AsyncClient) -> None:
    assert await found(client, "elasticsearch", q="johnson", page=100, page_size=100) == []


async def test_indices_that_do_not_exist_yet_hold_nothing(migrated_settings: Settings) -> None:
    async with api_client(migrated_settings) as client:
        assert await found(client, "elasticsearch", q="johnson") == []


@pytest.fixture(params=["down", "none"])
async def degraded(request: pytest.FixtureRequest, migrated_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    await store(migrated_settings, CUSTOMERS, [{**row, "account_balance": None} for row in PEOPLE])
    await store(migrated_settings, RECORDS, PASSENGERS)
    url = f"http://127.0.0.1:{closed_port()}" if request.param == "down" else None
    async with api_client(migrated_settings.model_copy(update={"elasticsearch_url": url})) as client:
        yield client


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Müller", ["CUST001"]),
        ("jurgen mul", ["CUST001"]),
        ("cust002", ["CUST002"]),
        ("johns", ["CUST002", "CUST003", "titanic:1"]),
        ("100%", []),
        ("_", []),
        ('"Johnson"', ["CUST002", "titanic:1"]),
        ("-johnson, (miss)!", ["titanic:1"]),
        ("harris,owen\u200b", ["titanic:2"]),
        ("ada2@example.com", ["CUST002"]),
        (". ...", []),
        ("\u0301", []),
    ],
)
async def test_without_elasticsearch_postgres_answers_and_says_so(
    degraded: httpx.AsyncClient, query: str, expected: list[str]
) -> None:
    assert await found(degraded, "postgres", q=query) == expected


async def test_the_fallback_pages_across_datasets(degraded: httpx.AsyncClient) -> None:
    pages = [(await degraded.get(f"/search?q=johns&page={page}&page_size=2")).json() for page in (1, 2)]
    assert [[hit["key"] for hit in page["data"]] for page in pages] == [["CUST002", "CUST003"], ["titanic:1"]]
    assert [page["has_more"] for page in pages] == [True, False]
    assert pages[0]["data"][0]["highlights"] == {"last_name": "<em>Johnson</em>"}


STRANGE: dict[str, tuple[str, Any]] = {
    "a document without a key": ("PUT /{0}/_doc/x?refresh=true", {"search_text": "johnson"}),
    "a number as a name": (
        "PUT /{0}/_doc/x?refresh=true",
        {"search_text": "johnson", "customer_id": "x", "first_name": 5, "address": True},
    ),
    "a window that is smaller": ("PUT /{0}-1/_settings", {"index.max_result_window": 5}),
    "an index of another name behind the alias": ("PUT /{1}/_alias/{0}", None),
}


@pytest.mark.parametrize(("request_", "body"), STRANGE.values(), ids=STRANGE)
async def test_what_somebody_else_has_done_to_an_index_is_not_answered_postgres_is(
    indexed: Settings, request_: str, body: Any
) -> None:
    people = [{**row, "account_balance": None} for row in PEOPLE]
    await store(indexed, CUSTOMERS, people)
    other, alias = indexed.named("strange"), indexed.named("customers")
    method, _, target = request_.format(alias, other).partition(" ")
    async with search_server(indexed) as server:
        await make_index(server, other, {"search_text": {"type": "text"}, "customer_id": {"type": "keyword"}})
        await server.ask("PUT", f"/{other}/_doc/x?refresh=true", {"search_text": "johnson", "customer_id": "x"})
        await server.ask(method, target, body)
        try:
            async with api_client(indexed) as client:
                assert await found(client, "postgres", q="johns", dataset="customers") == ["CUST002", "CUST003"]
        finally:
            await server.ask("DELETE", f"/{other}")
