"""Whatever a request holds, the API refuses it or answers it: never with a 500, never with more than is asked for."""

import asyncio
import datetime
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import httpx
import pytest
from sqlalchemy import insert

from api.middleware import LONGEST_ADDRESS, LONGEST_BODY
from api.queries.records import LISTED_CHARACTERS
from runtime.settings import Settings
from stores.postgres_engine import postgres_engine
from stores.tables import ingest_failures
from tests.integration.api_client import CUSTOMERS, api_client, customer, store

INTEGERS = ["0", "-1", "1.0", "1e9", "²", "", "9223372036854775807", "9223372036854775808", "9" * 5000, "null", "NaN"]
TIMES = [
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59", "0001-01-01T00:00:00",
    "10000-01-01", "1e400", "-1e400", "9" * 400, "-62135596801", "NaN", "2024-02-30", "2024-01-01T24:00:00Z",
    "2024-01-01T00:00:00+99:99",
]  # fmt: skip
TEXTS = [
    "\x00", "a\x00b", " ", "\u3000", "%", "_\\", "'\"`", "\u0300" * 180, "a" + "\u0300\u0316" * 90, "x" * 201,
    "x" * 5000, "\ufffe\uffff", "../..", "/", "a:b:c", ":", "[" * 190, "*" * 190, "a~ OR (", "\U0010ffff", "İ" * 190,
    "-1", "null", "9" * 190, "W10", "WyJhIl0", "WyJcdTAwMDAiXQ", "WyJcdWQ4MDAiXQ", "W1tdXQ", "true",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, 0, -1, 2**63, 10**400, 5e-324, 1e308, "", "\x00", "\ud800", "a\udfff", "x" * 5000, "\u0300" * 5000,
    "9999-12-31T23:59:59-23:59", [], [None], ["\ud800"], ["\x00"], ["x"] * 5000, [2**63], [0] * 2000,
    {}, {"\ud800": 1}, {"\x00": "\x00"}, {"a": "\ud800"}, {str(n): n for n in range(2000)}, [[[[[[[[]]]]]]]],
]  # fmt: skip
BODIES = [
    b"", b"null", b"[]", b"{", b"\xff\xfe", b"NaN", b"1e999999999", b"9" * 5000, b'"\\ud800"', b"[" * 60_000,
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b'{"\\ud800": 1}',
    b"{%b}" % b",".join(b'"k%d":1' % number for number in range(5000)),
]  # fmt: skip


class Request(NamedTuple):
    """A request."""

    method: str
    address: str
    body: bytes | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.address[:200]} {(self.body or b'')[:200]!r}"


@pytest.fixture
async def client(
    pipeline_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    # Nothing to ingest, and no pipeline that a delete could wait for.
    (tmp_path / "none.jsonl").touch()
    block = '[sources.customers_api]\nkind = "jsonl"\npath = "none.jsonl"\ndataset = "customers"\n'
    (tmp_path / "sources.toml").write_text(block)
    monkeypatch.setattr("api.endpoints.datasets.DELETE_SECONDS", 0.1)
    about = {"dataset": "customers", "stage": "normalizer", "reason": "email_form", "message": "x", "problems": []}
    place = {"topic": pipeline_settings.named("customers.raw"), "partition": 0, "offset": 0}
    when = datetime.datetime.now(datetime.UTC)
    engine = postgres_engine(pipeline_settings)
    async with engine.begin() as connection:
        row = {**about, **place, "key": "C1", "payload": b'{"customer_id": "C1"}', "failed_at": when}
        await connection.execute(insert(ingest_failures), [row])
    await engine.dispose()
    await store(pipeline_settings, CUSTOMERS, [customer(1)])
    async with api_client(pipeline_settings.model_copy(update={"sources_file": tmp_path / "sources.toml"})) as client:
        yield client


def requests(document: dict[str, Any]) -> Iterator[Request]:
    """Every operation of the document with a wrong or odd value for each of its parameters, and with odd bodies.

    Not of a stream without parameters: it has no end that could be waited for, and takes no value.
    """
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parameters = operation.get("parameters", [])
            if not parameters and "text/event-stream" in operation["responses"].get("200", {}).get("content", {}):
                continue
            usual = {parameter["name"]: "1" for parameter in parameters if parameter["required"]}
            for parameter in parameters:
                for value in values_for(json.dumps(parameter["schema"])):
                    yield Request(method.upper(), address(path, parameters, usual | {parameter["name"]: value}))
            if not parameters:
                yield Request(method.upper(), path)
            if body := operation.get("requestBody"):
                at = address(path, parameters, usual)
                for sent in bodies(document, body["content"]["application/json"]["schema"]):
                    yield Request(method.upper(), at, sent)


def values_for(schema: str) -> list[str]:
    if '"date' in schema:
        return TIMES
    return TEXTS if '"string"' in schema else INTEGERS


def address(path: str, parameters: list[dict[str, Any]], values: dict[str, str]) -> str:
    places = {parameter["name"]: parameter["in"] for parameter in parameters}
    for name, value in values.items():
        if places[name] == "path":
            path = path.replace(f"{{{name}}}", quote(value, safe=""))
    query = {name: value for name, value in values.items() if places[name] == "query"}
    return f"{path}?{urlencode(query)}" if query else path


def bodies(document: dict[str, Any], schema: dict[str, Any]) -> Iterator[bytes]:
    yield from BODIES
    for option in schema.get("anyOf", [schema]):
        name = option.get("$ref", "").rpartition("/")[2]
        members = document["components"]["schemas"].get(name, {}).get("properties", {})
        usual = {"name": "A", "email": "a@b.example", "role": "r"}
        usual = {member: usual[member] for member in members if member in usual}
        for member in members:
            for value in VALUES:
                yield json.dumps(usual | {member: value, "ids": [1]} if member != "ids" else {member: value}).encode()


async def test_no_operation_answers_any_value_with_a_500(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    places = asyncio.Semaphore(8)

    async def ask(request: Request) -> tuple[Request, httpx.Response]:
        async with places:
            headers = {"Content-Type": "application/json"} if request.body is not None else {}
            answer = await client.request(request.method, request.address, content=request.body, headers=headers)
            return request, answer

    asked = await asyncio.gather(*map(ask, requests(document)))
    assert len(asked) > 1000
    assert [
        f"{request} {answer.status_code} {answer.text[:200]}" for request, answer in asked if answer.is_server_error
    ] == []
    # The metrics have lines for every route, method and status that was answered: as many as there are of them.
    bounded = [(request, answer) for request, answer in asked if request.address != "/metrics"]
    assert [str(request) for request, answer in bounded if len(answer.content) > 50_000] == []


async def test_what_is_too_long_is_refused_whether_or_not_it_says_its_length(client: httpx.AsyncClient) -> None:
    body = b'{"name": "%b"}' % (b"x" * LONGEST_BODY)

    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    for content in (body, in_pieces()):
        answer = await client.post("/users/", content=content, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["type"]) == (413, "urn:headrace:problem:body-too-large")
    answer = await client.get("/search", params={"q": "a", "dataset": "x" * LONGEST_ADDRESS})
    assert (answer.status_code, answer.json()["type"]) == (414, "urn:headrace:problem:address-too-long")


async def test_of_many_problems_the_first_are_named_and_the_others_counted(client: httpx.AsyncClient) -> None:
    answer = await client.post("/users/", json={f"stranger{number}": 1 for number in range(3000)})
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 10
    assert "and 2,993 more" in answer.json()["detail"]


async def test_a_list_cuts_long_texts_and_the_record_has_all(
    client: httpx.AsyncClient, pipeline_settings: Settings
) -> None:
    await store(pipeline_settings, CUSTOMERS, [customer(2, address="x" * 1_000_000), customer(3, address="y" * 10_000)])
    listed = {row["customer_id"]: row["address"] for row in (await client.get("/api/customers")).json()["data"]}
    assert listed == {"CUST001": None, "CUST002": "x" * LISTED_CHARACTERS + "…", "CUST003": "y" * 10_000}
    assert (await client.get("/api/customers/CUST002")).json()["address"] == "x" * 1_000_000
