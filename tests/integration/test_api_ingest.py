"""`POST /api/ingest`: real records from a real mock server onto a real topic; the sink's notes, made by hand."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from asgi_lifespan import LifespanManager
from sqlalchemy import text

from api.app import create_app
from mock_server.app import create_app as create_mock
from runtime.kafka.offset_ranges import OffsetRanges
from runtime.kafka.topic_admin import end_offsets
from runtime.settings import Settings
from services.runs.history import read_run
from services.runs.ingest import IngestRuns
from stores.postgres_engine import postgres_engine
from tests.integration.api_client import api_client, closed_port
from tests.integration.etl_runs import cover, recorded
from tests.integration.publish_servers import consume_all
from tests.waiting import eventually_async

SOURCES = """
[sources.customers_api]
kind = "api"
url = "${MOCK_URL}/api/customers"
dataset = "customers"
retries = 0
"""


@asynccontextmanager
async def mock_server() -> AsyncIterator[str]:
    """The shipped customers, served over HTTP."""
    app = create_mock(Settings())
    server = uvicorn.Server(uvicorn.Config(app, port=closed_port(), log_config=None, access_log=False))
    serving = asyncio.create_task(server.serve())

    async def started() -> bool:
        return server.started

    try:
        await eventually_async(started, what="the mock server serves")
        yield f"http://127.0.0.1:{server.config.port}"
    finally:
        server.should_exit = True
        await serving


async def customers_at(url: str) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        return int((await client.get(f"{url}/api/customers")).json()["total"])


@asynccontextmanager
async def assembled(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    async with LifespanManager(app, startup_timeout=20, shutdown_timeout=20):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api", timeout=60) as client:
            yield client


def with_source(settings: Settings, folder: Path, mock_url: str, **changes: Any) -> Settings:
    file = folder / "sources.toml"
    file.write_text(SOURCES)
    return settings.model_copy(update={"sources_file": file, "mock_url": mock_url, **changes})


async def note_outcomes(settings: Settings, failed: int = 0) -> None:
    """Note in Postgres, as its sink does, that every raw record has been taken, and that some were refused."""
    topic = settings.named("customers.raw")
    ends = await asyncio.to_thread(end_offsets, settings, [topic])
    engine = postgres_engine(settings)
    async with engine.begin() as connection:
        for place, end in ends.items():
            if end:
                await connection.execute(
                    text(
                        'INSERT INTO coverage (topic, "partition", ranges) '
                        "VALUES (:t, :p, CAST(CAST(:r AS text) AS int8multirange))"
                    ),
                    {"t": topic, "p": place.partition, "r": OffsetRanges([(0, end)]).multirange()},
                )
        busiest = max(ends, key=lambda place: ends[place])
        for offset in range(failed):
            await connection.execute(
                text(
                    "INSERT INTO ingest_failures"
                    ' (dataset, stage, reason, message, problems, topic, "partition", "offset", failed_at)'
                    " VALUES ('customers', 'normalize', 'x', 'x', '[]', :t, :p, :o, now())"
                ),
                {"t": topic, "p": busiest.partition, "o": offset},
            )
    await engine.dispose()


async def test_it_publishes_all_customers_and_answers_when_postgres_has_them(
    pipeline_settings: Settings, tmp_path: Path
) -> None:
    async with mock_server() as url:
        settings = with_source(pipeline_settings, tmp_path, url)
        async with assembled(settings) as client:
            n = await customers_at(url)
            answer = asyncio.create_task(client.post("/api/ingest"))

            async def published() -> bool:
                ends = await asyncio.to_thread(end_offsets, settings, [settings.named("customers.raw")])
                return sum(ends.values()) == n

            await eventually_async(published, what="all customers are on the topic")
            assert not answer.done()
            await note_outcomes(settings, failed=3)
            body = (await answer).json()
    assert body.pop("run_id")
    assert body == {"status": "success", "records_processed": n, "stored": n - 3, "failed": 3}


async def test_past_the_timeout_it_names_the_run_that_goes_on(pipeline_settings: Settings, tmp_path: Path) -> None:
    async with mock_server() as url:
        settings = with_source(pipeline_settings, tmp_path, url, ingest_timeout_seconds=0.2)
        async with assembled(settings) as client:
            answer = await client.post("/api/ingest")
            assert answer.status_code == 202
            assert answer.json()["status"] == "running"
            location = answer.headers["location"]
            assert location == f"/api/ingest/{answer.json()['run_id']}"
            second = await client.post("/api/ingest")
            assert second.status_code == 409
            assert second.headers["content-type"] == "application/problem+json"
            assert second.json()["run_id"] == answer.json()["run_id"]

            async def all_published() -> bool:
                return (await client.get(location)).json()["records_processed"] is not None

            await eventually_async(all_published, what="the run has published")
            await note_outcomes(settings)

            async def ended() -> Any:
                body = (await client.get(location)).json()
                return body if body["status"] != "running" else None

            body = await eventually_async(ended, what="the run ends")
            assert (body["status"], body["failed"]) == ("success", 0)
            assert body["stored"] == body["records_processed"] > 0


async def test_a_source_that_is_down_is_named(pipeline_settings: Settings, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    async with assembled(with_source(pipeline_settings, tmp_path, url)) as client:
        for _ in range(2):
            answer = await client.post("/api/ingest")
            assert answer.status_code == 502
            assert answer.headers["content-type"] == "application/problem+json"
            problem = answer.json()
            assert problem["source_url"] == f"{url}/api/customers"
            assert f"{url}/api/customers" in problem["detail"]
            run = (await client.get(f"/runs/{problem['run_id']}")).json()
            assert (run["status"], run["published"], run["stored"], run["failed"]) == ("failed", 0, None, None)
            assert f"{url}/api/customers" in run["failure_reason"]
        assert (await client.get("/stats")).json()["run_count"] == 2


@pytest.mark.parametrize("content", [None, "", "[sources.customers_api]\nkind = 'nothing'\n"])
async def test_a_sources_file_that_says_nothing_of_customers_is_named(
    pipeline_settings: Settings, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "mine.toml"
    if content is not None:
        file.write_text(content)
    async with assembled(pipeline_settings.model_copy(update={"sources_file": file})) as client:
        answer = await client.post("/api/ingest")
        assert answer.status_code == 502
        assert "mine.toml" in answer.json()["detail"]
        assert "mine.toml" in (await client.get("/runs")).json()["data"][0]["failure_reason"]


async def test_without_kafka_nothing_is_begun(migrated_settings: Settings) -> None:
    down = migrated_settings.model_copy(update={"kafka_bootstrap_servers": f"127.0.0.1:{closed_port()}"})
    async with api_client(down) as client:
        answer = await client.post("/api/ingest")
    assert (answer.status_code, answer.json()["store"]) == (503, "kafka")
    assert await asyncio.to_thread(recorded, migrated_settings, "customers_api") == []


async def test_a_run_that_nobody_remembers_is_a_404(migrated_settings: Settings) -> None:
    async with api_client(migrated_settings) as client:
        assert (await client.get(f"/api/ingest/{uuid.uuid4()}")).status_code == 404


async def test_a_run_that_failed_by_our_own_fault_is_a_500_and_does_not_block_the_next(
    migrated_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def publish(*_: object, run_id: str, **__: object) -> None:
        raise RuntimeError(f"a secret of {run_id}")

    monkeypatch.setattr("services.runs.run.publish", publish)
    async with api_client(migrated_settings) as client:
        for _ in range(2):
            answer = await client.post("/api/ingest")
            assert answer.status_code == 500
            assert "secret" not in answer.text
            assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_a_run_that_is_stopped_as_soon_as_it_is_started_is_recorded_as_failed(
    migrated_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def publish(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("services.runs.run.publish", publish)
    engine = postgres_engine(migrated_settings)
    try:
        runs = IngestRuns(migrated_settings)
        run, _ = await runs.start()
        await runs.close()
        async with engine.connect() as connection:
            row = await read_run(connection, run.run_id)
        assert row is not None
        assert row.status == "failed"
        assert str(row.failure_reason).startswith("stopped before it had ended")
    finally:
        await engine.dispose()


async def test_a_delete_is_published_and_answered_once_postgres_has_taken_it(
    pipeline_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api_client(pipeline_settings) as client:
        with monkeypatch.context() as patched:
            patched.setattr("api.endpoints.datasets.DELETE_SECONDS", 0.2)
            assert (await client.delete("/api/customers/CUST001")).status_code == 202, "published, and not taken yet"
        await asyncio.to_thread(cover, pipeline_settings, "customers")
        assert (await client.delete("/api/customers/CUST001")).status_code == 204
        assert (await client.get("/audit")).json()["moved"] == {}
    published = await asyncio.to_thread(consume_all, pipeline_settings, "customers.raw")
    assert [record.key for record in published] == ["CUST001"] * 2
    assert await asyncio.to_thread(recorded, pipeline_settings, "push") == [], "a delete is no recorded run"
