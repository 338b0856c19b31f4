import datetime
import json
import socket
import time
from collections.abc import Iterator
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from mock_server.app import create_app
from producers.delivery import Delivery, Progress
from producers.publish import publish
from producers.source import Source, SourceFailed
from producers.sources import build_source, load_sources
from runtime.errors import DeliveryFailed
from runtime.kafka.offset_ranges import OffsetRanges
from runtime.settings import Settings
from tests.integration.placeless import every_third_placeless
from tests.integration.publish_servers import Answer, Request, app_server, consume_all, http_server

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def mock_url() -> Iterator[str]:
    with app_server(create_app(Settings())) as url:
        yield url


def api(url: str, settings: Settings, path: str = "/items", **block: Any) -> Source:
    values = {"kind": "api", "url": f"{url}{path}", "dataset": "records", "map": {"source_id": "id"}, **block}
    return build_source("shop", values, settings, Path())


def pages(total: int, size: int = 10) -> list[bytes]:
    """Envelopes of `total` pages with `size` records each."""
    return [
        json.dumps({"data": [{"id": page * size + n} for n in range(size)], "total_pages": total}).encode()
        for page in range(total)
    ]


def ids(settings: Settings) -> list[int]:
    return sorted(json.loads(record.value)["id"] for record in consume_all(settings, "records.raw"))


async def test_all_customers_arrive_byte_for_byte_with_key_and_headers(
    pipeline_settings: Settings, mock_url: str
) -> None:
    settings = pipeline_settings.model_copy(update={"mock_url": mock_url})
    seen: list[Progress] = []
    source = load_sources(REPOSITORY / "sources.toml", settings)["customers_api"]
    report = await publish(source, settings, run_id="run-1", progress=seen.append)
    records = consume_all(settings, "customers.raw")

    customers = json.loads((REPOSITORY / "mock_server/data/customers.json").read_bytes())
    sent = {record.key: record.value for record in records}
    assert len(records) == len(sent) == report.published == len(customers) == 10_000
    assert {json.loads(value)["customer_id"]: json.loads(value) for value in sent.values()} == {
        customer["customer_id"]: customer for customer in customers
    }
    assert all(json.loads(record.value)["customer_id"] == record.key for record in records)
    covered = {place: OffsetRanges([(0, len(ranges))]) for place, ranges in report.offsets.items()}
    assert report.offsets == covered
    assert {(r.topic, r.partition) for r in records} == set(report.offsets)

    headers = records[0].headers
    assert headers["headrace-source"] == headers["ce_source"] == "customers_api"
    assert headers["headrace-kind"] == "api"
    assert headers["headrace-run"] == report.run_id == "run-1"
    assert headers["content-type"] == "application/json"
    assert (headers["ce_specversion"], headers["ce_type"]) == ("1.0", "customers.raw")
    assert datetime.datetime.fromisoformat(headers["ce_time"])
    assert len({record.headers["ce_id"] for record in records}) == 10_000
    assert (seen[-1].sent, seen[-1].confirmed, seen[-1].done) == (10_000, 10_000, 1.0)


async def test_posts_of_the_mock_server_carry_their_mapping(pipeline_settings: Settings, mock_url: str) -> None:
    settings = pipeline_settings.model_copy(update={"mock_url": mock_url})
    report = await publish(load_sources(REPOSITORY / "sources.toml", settings)["posts"], settings)
    records = consume_all(settings, "records.raw")
    assert report.published == len(records) == 100
    assert {record.key for record in records} == {f"posts:{n}" for n in range(1, 101)}
    assert json.loads(records[0].headers["headrace-mapping"]) == {
        "source_id": "id", "name": "title", "description": "body"
    }  # fmt: skip


async def test_the_titanic_csv_arrives_whole(pipeline_settings: Settings) -> None:
    source = load_sources(REPOSITORY / "sources.toml", pipeline_settings)["titanic"]
    report = await publish(source, pipeline_settings)
    records = consume_all(pipeline_settings, "records.raw")
    assert (report.published, report.rejected_rows, len(records)) == (1309, 0, 1309)
    first = next(record for record in records if record.key == "titanic:1")
    assert json.loads(first.value)["Name"] == "Allen, Miss. Elisabeth Walton"


async def test_pages_are_requested_several_at_a_time_and_published_in_order(pipeline_settings: Settings) -> None:
    bodies = pages(12)
    with http_server(lambda request: Answer(200, bodies[int(request.query["page"]) - 1])) as url:
        batches = [batch async for batch in api(url, pipeline_settings, concurrency=5).batches()]
    assert [json.loads(r.value or b"")["id"] for batch in batches for r in batch.records] == list(range(120))
    assert batches[-1].done == 1.0


async def test_429_with_retry_after_is_waited_for(pipeline_settings: Settings) -> None:
    bodies, asked = pages(3), list[float]()

    def script(request: Request) -> Answer:
        asked.append(time.monotonic())
        if len(asked) == 2:
            return Answer(429, b"slow down", {"Retry-After": "1"})
        return Answer(200, bodies[int(request.query["page"]) - 1])

    with http_server(script) as url, capture_logs() as logs:
        await publish(api(url, pipeline_settings, concurrency=1), pipeline_settings)
    assert ids(pipeline_settings) == list(range(30))
    assert asked[2] - asked[1] >= 1.0
    assert [line["wait_seconds"] for line in logs if line["event"] == "source_retry"] == [1.0]


async def test_a_retry_after_date_in_the_far_future_fails_the_run_at_once(pipeline_settings: Settings) -> None:
    later = format_datetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1), usegmt=True)
    with (
        http_server(lambda _: Answer(503, b"", {"Retry-After": later})) as url,
        pytest.raises(SourceFailed, match=r"/items answered 503 Service Unavailable and asks to wait 3\d\d\d s"),
    ):
        await publish(api(url, pipeline_settings), pipeline_settings)


async def test_server_errors_are_retried(pipeline_settings: Settings) -> None:
    bodies, left = pages(2), [500, 502]

    def script(request: Request) -> Answer:
        return Answer(left.pop(), b"") if left else Answer(200, bodies[int(request.query["page"]) - 1])

    with http_server(script) as url:
        report = await publish(api(url, pipeline_settings), pipeline_settings)
    assert report.published == 20
    assert left == []


async def test_retries_that_are_used_up_fail_the_run_with_address_status_and_body(pipeline_settings: Settings) -> None:
    with (
        http_server(lambda _: Answer(500, b"database is gone")) as url,
        pytest.raises(SourceFailed) as caught,
    ):
        await publish(api(url, pipeline_settings, retries=1), pipeline_settings)
    assert caught.value.reason == f"{url}/items answered 500 Internal Server Error: 'database is gone' (tried 2 times)"


async def test_what_came_before_a_failing_page_stays_published(pipeline_settings: Settings) -> None:
    bodies, seen = pages(3), list[Progress]()

    def script(request: Request) -> Answer:
        page = int(request.query["page"])
        return Answer(410, b"") if page == 3 else Answer(200, bodies[page - 1])

    with http_server(script) as url, pytest.raises(SourceFailed, match="answered 410 Gone"):
        await publish(api(url, pipeline_settings, retries=0), pipeline_settings, progress=seen.append)
    assert ids(pipeline_settings) == list(range(20))
    assert (seen[-1].sent, seen[-1].confirmed) == (20, 20)


async def test_a_server_that_does_not_answer_in_time_fails_the_run(pipeline_settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = api(f"http://127.0.0.1:{silent.getsockname()[1]}", pipeline_settings, timeout_seconds=0.2, retries=1)
        with pytest.raises(SourceFailed, match=r"did not answer within 0.2 s \(ReadTimeout\) \(tried 2 times\)"):
            await publish(source, pipeline_settings)


async def test_a_server_that_is_not_there_fails_the_run(pipeline_settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(SourceFailed, match=f"http://127.0.0.1:{port}/items cannot be reached: .* is it running"):
        await publish(api(f"http://127.0.0.1:{port}", pipeline_settings, retries=0), pipeline_settings)


async def test_a_list_that_grows_and_shrinks_while_it_is_read_is_read_to_its_new_end(
    pipeline_settings: Settings,
) -> None:
    totals = {1: 2, 2: 4, 3: 6, 4: 5, 5: 5}

    def script(request: Request) -> Answer:
        page = int(request.query["page"])
        data = [{"id": page}] if page in totals else []
        return Answer(200, json.dumps({"data": data, "total_pages": totals.get(page, 5)}).encode())

    with http_server(script) as url:
        await publish(api(url, pipeline_settings), pipeline_settings)
    assert ids(pipeline_settings) == [1, 2, 3, 4, 5]


async def test_plain_arrays_are_read_until_an_empty_page(pipeline_settings: Settings) -> None:
    def script(request: Request) -> Answer:
        start = (int(request.query["_page"]) - 1) * int(request.query["_limit"])
        data = [{"id": n} for n in range(25)][start : start + int(request.query["_limit"])]
        return Answer(200, json.dumps(data).encode())

    with http_server(script) as url:
        source = api(url, pipeline_settings, page_size=10, pagination={"style": "array"})
        await publish(source, pipeline_settings)
    assert ids(pipeline_settings) == list(range(25))


async def test_a_server_that_ignores_the_page_number_is_not_read_for_ever(pipeline_settings: Settings) -> None:
    with (
        http_server(lambda _: Answer(200, b'[{"id": 1}]')) as url,
        pytest.raises(SourceFailed, match="answers with the same page again and again"),
    ):
        await publish(api(url, pipeline_settings, pagination={"style": "array"}), pipeline_settings)


async def test_records_without_a_key_or_that_are_no_objects_are_published_too(pipeline_settings: Settings) -> None:
    with http_server(lambda _: Answer(200, b'[{"title": "x"}, {"id": NaN}, 7, null, {"id": 1}]')) as url:
        source = api(url, pipeline_settings, pagination={"style": "none"})
        report = await publish(source, pipeline_settings)
    records = consume_all(pipeline_settings, "records.raw")
    assert report.published == 5
    assert {record.value: record.key for record in records} == {
        b'{"title": "x"}': None, b'{"id": NaN}': None, b"7": None, b"null": None, b'{"id": 1}': "shop:1"
    }  # fmt: skip


async def test_the_api_key_is_sent_where_the_block_asks_for_it_and_never_along_a_redirect(
    pipeline_settings: Settings,
) -> None:
    settings = pipeline_settings.model_copy(update={"api_key": SecretStr("s3cret")})
    keys: list[str | None] = []

    def script(request: Request) -> Answer:
        keys.append(request.headers.get("x-api-key"))
        if request.path == "/moved":
            return Answer(302, b"", {"Location": "/items"})
        return Answer(200, b"[]")

    with http_server(script) as url:
        await publish(api(url, settings, api_key=True, pagination={"style": "none"}), settings)
        await publish(api(url, settings, pagination={"style": "none"}), settings)
        with pytest.raises(SourceFailed, match="302 Found to /items: put that address into `url`"):
            await publish(api(url, settings, "/moved", api_key=True), settings)
        with pytest.raises(SourceFailed, match="API_KEY is not set"):
            await publish(api(url, pipeline_settings, api_key=True), pipeline_settings)
    assert keys == ["s3cret", None, "s3cret"]


async def test_a_mock_server_with_a_key_refuses_with_advice(pipeline_settings: Settings) -> None:
    guarded = Settings(mock_require_api_key=True, api_key=SecretStr("right"))
    with app_server(create_app(guarded)) as url:
        settings = pipeline_settings.model_copy(update={"mock_url": url})
        source = load_sources(REPOSITORY / "sources.toml", settings)["customers_api"]
        with pytest.raises(SourceFailed, match=r"401 .* set API_KEY and `api_key"):
            await publish(source, settings)


async def test_a_topic_that_does_not_exist_is_named_with_the_way_out(settings: Settings) -> None:
    source = load_sources(REPOSITORY / "sources.toml", settings)["titanic"]
    with pytest.raises(DeliveryFailed, match=r"records\.raw does not exist yet; `headrace setup` creates it"):
        await publish(source, settings)


async def test_a_report_without_an_offset_is_no_confirmation(
    pipeline_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Delivery._delivered
    report = every_third_placeless(lambda self, *arguments: usual(self, *arguments))
    monkeypatch.setattr(Delivery, "_delivered", lambda self, *arguments: report(self, *arguments))
    with (
        http_server(lambda request: Answer(200, pages(3)[int(request.query["page"]) - 1])) as url,
        pytest.raises(
            DeliveryFailed, match=r"records were not confirmed .*\(reported as written, but without an offset"
        ),
    ):
        await publish(api(url, pipeline_settings), pipeline_settings)
