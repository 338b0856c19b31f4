"""A run after another one sends what is new or changed, and nothing is lost when one of them ends early."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from mock_server.app import create_app
from producers.publish import publish
from producers.source import Source, SourceFailed
from producers.sources import build_source, load_sources
from runtime.settings import Settings
from stores.checkpoints import CheckpointTaken, CheckpointUnavailable
from tests.e2e.stores import value
from tests.integration.publish_servers import Answer, Request, app_server, consume_all, http_server
from tests.integration.test_publish_api import api, ids, pages
from tests.servers.contract import Servers
from tests.waiting import eventually

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def mock_url() -> Iterator[str]:
    with app_server(create_app(Settings())) as url:
        yield url


async def sent(source: Source, settings: Settings) -> tuple[int, int]:
    """One run from the checkpoint: how many records were published, and how many were not because nothing changed."""
    report = await publish(source, settings, checkpoint="resume")
    return report.published, report.unchanged


async def change(url: str, method: str, path: str, body: object = None) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        (await client.request(method, f"{url}{path}", json=body)).raise_for_status()


async def test_of_ten_thousand_customers_the_one_that_changed_is_sent(
    pipeline_settings: Settings, mock_url: str
) -> None:
    settings = pipeline_settings.model_copy(update={"mock_url": mock_url})
    source = load_sources(REPOSITORY / "sources.toml", settings)["customers_api"]
    assert await sent(source, settings) == (10_000, 0)
    assert await sent(source, settings) == (0, 10_000)
    await change(mock_url, "PATCH", "/api/customers/CUST001", {"phone": "+1 555"})
    assert await sent(source, settings) == (1, 9_999)
    await change(mock_url, "POST", "/api/reset")
    assert await sent(source, settings) == (1, 9_999)
    report = await publish(source, settings, checkpoint="restart")
    assert (report.published, report.unchanged) == (10_000, 0)
    assert await sent(source, settings) == (0, 10_000)
    size = "SELECT sum(length(records)) FROM etl_checkpoint_pages"
    assert value(settings, size) == 160_000
    assert len(consume_all(settings, "customers.raw")) == 20_002


async def test_pages_are_asked_for_on_condition_that_they_changed(pipeline_settings: Settings) -> None:
    bodies, asked = pages(3), list[str | None]()

    def script(request: Request) -> Answer:
        asked.append(request.headers.get("if-none-match"))
        page = int(request.query["page"])
        etag = f'"v{page}"'
        if asked[-1] == etag:
            return Answer(304, b"", {"ETag": etag})
        return Answer(200, bodies[page - 1], {"ETag": etag})

    with http_server(script) as url:
        source = api(url, pipeline_settings, concurrency=1)
        assert await sent(source, pipeline_settings) == (30, 0)
        assert await sent(source, pipeline_settings) == (0, 30)
    assert asked == [None, None, None, '"v1"', '"v2"', '"v3"']
    assert ids(pipeline_settings) == list(range(30))


async def test_last_modified_is_used_where_there_is_no_entity_tag(pipeline_settings: Settings) -> None:
    modified = "Thu, 01 Jan 2026 12:00:00 GMT"

    def script(request: Request) -> Answer:
        if request.headers.get("if-modified-since") == modified:
            return Answer(304, b"")
        return Answer(200, b'[{"id": 1}]', {"Last-Modified": modified, "Date": "Thu, 01 Jan 2026 12:01:00 GMT"})

    with http_server(script) as url:
        source = api(url, pipeline_settings, pagination={"style": "none"})
        assert [await sent(source, pipeline_settings) for _ in range(2)] == [(1, 0), (0, 1)]


async def test_an_unsolicited_304_fails_the_run(pipeline_settings: Settings) -> None:
    with (
        http_server(lambda _: Answer(304, b"")) as url,
        pytest.raises(SourceFailed, match="answered 304 Not Modified"),
    ):
        await sent(api(url, pipeline_settings), pipeline_settings)


async def test_after_a_run_that_failed_by_an_answer_the_next_one_begins_at_page_one_and_sends_what_is_new(
    pipeline_settings: Settings,
) -> None:
    bodies, asked, broken = pages(5), list[int](), [4]

    def script(request: Request) -> Answer:
        asked.append(int(request.query["page"]))
        return Answer(410, b"") if asked[-1] in broken else Answer(200, bodies[asked[-1] - 1])

    with http_server(script) as url:
        source = api(url, pipeline_settings, concurrency=1)
        with pytest.raises(SourceFailed, match="410 Gone"):
            await sent(source, pipeline_settings)
        assert asked == [1, 2, 3, 4]
        broken.clear()
        assert await sent(source, pipeline_settings) == (20, 30)
        assert asked == [1, 2, 3, 4, 1, 2, 3, 4, 5]
        assert await sent(source, pipeline_settings) == (0, 50)
    assert ids(pipeline_settings) == list(range(50))


async def test_a_changed_mapping_voids_the_checkpoint(pipeline_settings: Settings) -> None:
    with http_server(lambda _: Answer(200, b'[{"id": 1}]')) as url:
        for mapping in ({"source_id": "id"}, {"source_id": "id", "name": "id"}):
            source = api(url, pipeline_settings, pagination={"style": "none"}, map=mapping)
            assert await sent(source, pipeline_settings) == (1, 0)


def csv(path: Path, settings: Settings) -> Source:
    values: dict[str, Any] = {"kind": "csv", "path": str(path), "dataset": "records", "map": {"source_id": "id"}}
    return build_source("sales", values, settings, Path())


async def test_appended_rows_are_sent_and_a_replaced_file_is_sent_whole(
    pipeline_settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "sales.csv"
    file.write_text("id,name\n1,a\n2,b\n")
    source = csv(file, pipeline_settings)
    assert await sent(source, pipeline_settings) == (2, 0)
    assert await sent(source, pipeline_settings) == (0, 0)
    with file.open("a") as out:
        out.write("3,c\n")
    assert await sent(source, pipeline_settings) == (1, 0)
    file.write_text("id,name\n1,a\n2,B\n3,c\n")
    assert await sent(source, pipeline_settings) == (3, 0)
    names = [msgspec.json.decode(record.value)["name"] for record in consume_all(pipeline_settings, "records.raw")]
    assert sorted(names) == ["B", "a", "a", "b", "c", "c"]


async def test_a_checkpoint_that_cannot_be_read_is_an_error_and_to_a_full_run_a_warning(
    pipeline_settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "sales.csv"
    file.write_text("id,name\n1,a\n")
    gone = pipeline_settings.model_copy(update={"database_url": SecretStr("postgresql://x:y@127.0.0.1:9/none")})
    with pytest.raises(CheckpointUnavailable, match=r"cannot be read: .* --full reads all and needs no checkpoint"):
        await sent(csv(file, gone), gone)
    with capture_logs() as logs:
        report = await publish(csv(file, gone), gone, checkpoint="restart")
    assert report.published == 1
    assert [line["log_level"] for line in logs if line["event"] == "checkpoint_not_kept"] == ["warning"]


async def test_a_second_run_of_a_source_at_the_same_time_is_refused(pipeline_settings: Settings) -> None:
    bodies, first_asked, second_refused = pages(2), threading.Event(), threading.Event()

    def script(request: Request) -> Answer:
        first_asked.set()
        assert second_refused.wait(30)
        return Answer(200, bodies[int(request.query["page"]) - 1])

    with http_server(script) as url:
        source = api(url, pipeline_settings)

        def second() -> None:
            assert first_asked.wait(30)
            try:
                with pytest.raises(CheckpointTaken):
                    asyncio.run(sent(source, pipeline_settings))
            finally:
                second_refused.set()

        thread = threading.Thread(target=second)
        thread.start()
        assert await sent(source, pipeline_settings) == (20, 0)
        thread.join()


async def test_a_run_goes_on_without_postgres_says_so_once_and_the_next_one_repeats_a_little(
    pipeline_settings: Settings, servers: Servers
) -> None:
    bodies, stopped = pages(40), threading.Event()

    def script(request: Request) -> Answer:
        page = int(request.query["page"])
        if page == 10 and not stopped.is_set():
            servers.stop("postgres")
            stopped.set()
        return Answer(200, bodies[page - 1])

    try:
        with http_server(script) as url, capture_logs() as logs:
            source = api(url, pipeline_settings, concurrency=1)
            assert await sent(source, pipeline_settings) == (400, 0)
    finally:
        servers.start("postgres")
    assert len([line for line in logs if line["event"] == "checkpoint_not_saved"]) == 1
    with http_server(script) as url:
        again, _ = await sent(api(url, pipeline_settings, concurrency=1), pipeline_settings)
    assert 0 < again <= 400
    assert set(ids(pipeline_settings)) == set(range(400))


async def test_changed_records_wait_until_postgres_has_revoked_their_old_content(
    pipeline_settings: Settings, servers: Servers
) -> None:
    settings = pipeline_settings.model_copy(update={"publish_timeout_seconds": 2})
    bodies = [b'{"data": [{"id": 1, "x": 0}], "total_pages": 2}', b'{"data": [{"id": 2, "x": 0}], "total_pages": 2}']
    with http_server(lambda request: Answer(200, bodies[int(request.query["page"]) - 1])) as url:
        source = api(url, settings, concurrency=1)
        assert await sent(source, settings) == (2, 0)

    def stopping(request: Request) -> Answer:
        if request.query["page"] == "2":
            servers.stop("postgres")
        return Answer(200, bodies[int(request.query["page"]) - 1].replace(b'"x": 0', b'"x": 1'))

    port = int(url.rpartition(":")[2])
    try:
        with http_server(stopping, port) as url, pytest.raises(CheckpointUnavailable, match="cannot be saved"):
            await sent(api(url, settings, concurrency=1), settings)
    finally:
        servers.start("postgres")
    values = [msgspec.json.decode(record.value) for record in consume_all(settings, "records.raw")]
    assert {"id": 2, "x": 1} not in values
    with http_server(lambda request: Answer(200, bodies[int(request.query["page"]) - 1]), port) as url:
        eventually(lambda: value(settings, "SELECT 1"), what="Postgres is back")
        source = api(url, settings, concurrency=1)
        await sent(source, settings)
        await sent(source, settings)
    last = {}
    for record in consume_all(settings, "records.raw"):
        last[record.key] = msgspec.json.decode(record.value)
    assert last == {"shop:1": {"id": 1, "x": 0}, "shop:2": {"id": 2, "x": 0}}
