"""Health of the API and its stores, and the shape of every error."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import structlog
from pydantic import SecretStr

import api.health
from api.clients import Clients
from runtime.settings import Settings
from tests.integration.api_client import api_client, closed_port


@pytest.fixture
async def client(pipeline_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with api_client(pipeline_settings) as client:
        yield client


def without(settings: Settings, store: str) -> Settings:
    """The settings with the address of one store leading nowhere."""
    port = closed_port()
    by_store: dict[str, dict[str, Any]] = {
        "postgres": {"database_url": f"postgresql://headrace:secret@127.0.0.1:{port}/headrace"},
        "redis": {"redis_url": SecretStr(f"redis://127.0.0.1:{port}/0")},
        "elasticsearch": {"elasticsearch_url": f"http://127.0.0.1:{port}"},
        "kafka": {"kafka_bootstrap_servers": f"127.0.0.1:{port}"},
    }
    changes = by_store[store]
    return Settings(**{**settings.model_dump(), **changes})


async def test_all_stores_answer(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/health")
    body = answer.json()
    assert (answer.status_code, body["status"]) == (200, "healthy")
    assert {name: component["status"] for name, component in body["components"].items()} == dict.fromkeys(
        ["postgres", "redis", "elasticsearch", "kafka"], "up"
    )
    assert all(component["ms"] > 0 for component in body["components"].values())


@pytest.mark.parametrize(
    ("store", "code", "status", "ready"),
    [
        ("postgres", 503, "unhealthy", 503),
        ("redis", 200, "degraded", 200),
        ("elasticsearch", 200, "degraded", 200),
        ("kafka", 200, "degraded", 200),
    ],
)
async def test_a_store_that_is_down_is_named_with_its_reason(
    pipeline_settings: Settings, store: str, code: int, status: str, ready: int
) -> None:
    async with api_client(without(pipeline_settings, store)) as client:
        answer = await client.get("/api/health")
        body = answer.json()
        assert (answer.status_code, body["status"]) == (code, status)
        assert [name for name, component in body["components"].items() if component["status"] == "down"] == [store]
        assert body["components"][store]["reason"]
        assert "secret" not in answer.text
        assert (await client.get("/readyz")).status_code == ready
        assert (await client.get("/livez")).status_code == 200


@pytest.mark.parametrize("away", [False, True], ids=["there", "away"])
async def test_however_many_ask_whether_it_is_ready_postgres_is_asked_once(
    pipeline_settings: Settings, away: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def ask(clients: Clients, store: api.health.Store) -> str | None:
        asked.append(store)
        return await really_ask(clients, store)

    really_ask = api.health._ask
    monkeypatch.setattr(api.health, "_ask", ask)
    monkeypatch.setattr(api.health, "SHARED_SECONDS", 3600.0)
    async with api_client(without(pipeline_settings, "postgres") if away else pipeline_settings) as client:
        asked.clear()
        answers = await asyncio.gather(*(client.get("/readyz") for _ in range(50)))
        assert {answer.status_code for answer in answers} == {503 if away else 200}
        assert (await client.get("/readyz")).status_code == answers[0].status_code
    assert asked == ["postgres"]


@pytest.mark.parametrize("store", ["elasticsearch", "redis"])
async def test_a_store_that_is_not_there_by_choice_is_healthy(store: str, pipeline_settings: Settings) -> None:
    async with api_client(pipeline_settings.model_copy(update={f"{store}_url": None})) as client:
        body = (await client.get("/api/health")).json()
        lag = (await client.get("/lag")).json()
    assert (body["status"], body["components"][store]) == ("healthy", {"status": "disabled"})
    assert pipeline_settings.named(f"sink-{store}") not in lag["groups"]


async def test_lag_lists_every_group_topic_and_partition(
    client: httpx.AsyncClient, pipeline_settings: Settings
) -> None:
    body = (await client.get("/lag")).json()
    rows = {(row["group"], row["topic"], row["partition"]) for row in body["data"]}
    named = pipeline_settings.named
    for partition in range(pipeline_settings.topic_partitions):
        assert (named("sink-postgres"), named("customers.clean"), partition) in rows
    fields = {"group", "topic", "partition", "committed", "end", "lag", "held", "held_seconds"}
    assert all(set(row) == fields for row in body["data"])
    assert body["total"] == sum(body["groups"].values()) == 0


async def test_lag_without_kafka_is_a_503(pipeline_settings: Settings) -> None:
    async with api_client(without(pipeline_settings, "kafka")) as client:
        answer = await client.get("/lag")
    assert (answer.status_code, answer.json()["store"]) == (503, "kafka")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/api/nothing/%00", 404),
        ("DELETE", "/api/customers", 405),
        ("GET", "/api/ingest", 405),
        ("POST", "/search", 405),
    ],
)
async def test_unknown_paths_and_methods_are_problems_too(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "instance", "request_id"}
    assert problem["status"] == status
    if status == 405:
        assert answer.headers["allow"]


async def test_a_request_keeps_its_callers_id_and_gets_one_log_line(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        answer = await client.get("/data", headers={"X-Request-ID": "trace-42"})
    assert answer.headers["x-request-id"] == "trace-42"
    requests = [line for line in lines if line["event"] == "request"]
    assert [(r["method"], r["path"], r["status"], r["request_id"]) for r in requests] == [
        ("GET", "/data", 200, "trace-42")
    ]
    assert requests[0]["ms"] > 0


async def test_entry_points_and_documents_are_served(client: httpx.AsyncClient) -> None:
    entries = (await client.get("/")).json()["entry_points"]
    for path, what in entries.items():
        if not what.startswith("POST") and path != "/api/customers/CUST001":
            assert (await client.get(path)).status_code == 200, path
    schema = (await client.get("/openapi.json")).json()
    balance = schema["components"]["schemas"]["ServedCustomer"]["properties"]["account_balance"]
    assert {"type": "number"} in balance["anyOf"]
    assert "/datasets/records/{key}" in schema["paths"]


async def test_browsers_of_named_origins_may_read(pipeline_settings: Settings, client: httpx.AsyncClient) -> None:
    origin = {"Origin": "https://shop.example"}
    assert "access-control-allow-origin" not in (await client.get("/livez", headers=origin)).headers
    named = pipeline_settings.model_copy(update={"cors_origins": "https://a.example, https://shop.example"})
    async with api_client(named) as client:
        answer = await client.get("/livez", headers=origin)
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        assert "X-Request-ID" in answer.headers["access-control-expose-headers"]
        other = await client.get("/livez", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
