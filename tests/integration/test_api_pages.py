"""Where the pages of an API end, and what is left of a page that is damaged: over real HTTP, without stores."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from producers.api.source import ApiSource
from producers.checkpointing import ConfirmedPositions
from producers.source import SourceFailed, SourceRecord
from producers.sources import build_source
from runtime.settings import Settings
from tests.integration.publish_servers import Answer, Request, http_server
from tests.unit.producers.durable_checkpoint import Durable

GONE = Answer(404, b"Invalid page.")


class Api:
    """Pages of two records; `answers` come instead of some, and `end` behind the last."""

    def __init__(self, pages: int, style: str = "envelope", total: int | None = None, end: Answer = GONE) -> None:
        self.pages = pages
        self.style = style
        self.total = total
        self.end = end
        self.answers: dict[int, Answer] = {}
        self.asked: list[int] = []

    def __call__(self, request: Request) -> Answer:
        page = int(request.query.get("page") or request.query["_page"])
        self.asked.append(page)
        if page in self.answers:
            return self.answers[page]
        return Answer(200, self.body(page)) if page <= self.pages else self.end

    def body(self, page: int) -> bytes:
        records = [{"id": 2 * page - 1}, {"id": 2 * page}]
        total = {} if self.total is None else {"total_pages": self.total}
        return json.dumps(records if self.style == "array" else {"data": records, **total}).encode()

    def source(self, url: str, **block: Any) -> ApiSource:
        values = {"kind": "api", "url": f"{url}/items", "dataset": "records", "map": {"source_id": "id"}, "retries": 0}
        pagination = {"pagination": {"style": self.style}, "concurrency": 1}
        source = build_source("shop", {**values, **pagination, **block}, Settings(), Path())
        assert isinstance(source, ApiSource)
        return source


async def run(source: ApiSource, durable: Durable) -> tuple[list[SourceRecord], str | None]:
    """One run from the checkpoint, all of it confirmed: what it sent, and why it failed."""
    positions, sent, failure = ConfirmedPositions(), list[SourceRecord](), None
    try:
        async for batch in source.resume(durable.position()):
            if batch.before is not None:
                positions.revoke(batch.before.pages)
                durable.save(batch.before)
            positions.sending(batch._replace(records=[]))
            sent += batch.records
    except SourceFailed as error:
        failure = error.reason
    if position := positions.take():
        durable.save(position)
    return sent, failure


def ids(records: Sequence[SourceRecord]) -> list[int]:
    return [json.loads(record.value or b"")["id"] for record in records]


@pytest.mark.parametrize(
    ("style", "end", "concurrency"),
    [
        ("envelope", GONE, 4),
        ("envelope", Answer(400, b"rest_post_invalid_page_number"), 1),
        ("envelope", Answer(200, b'{"data": null}'), 4),
        ("array", GONE, 1),
        ("array", Answer(200, b" null\n"), 1),
        ("array", Answer(204, [], {"Content-Encoding": "gzip"}), 4),
    ],
)
async def test_without_a_total_pages_end_where_the_server_says_so(style: str, end: Answer, concurrency: int) -> None:
    api = Api(3, style, end=end)
    with http_server(api) as url:
        source, durable = api.source(url, concurrency=concurrency), Durable()
        sent, failure = await run(source, durable)
        assert (sorted(ids(sent)), failure) == ([1, 2, 3, 4, 5, 6], None)
        api.pages, api.asked = 4, []
        sent, failure = await run(source, durable)
        assert (ids(sent), failure) == ([7, 8], None)
        assert set(api.asked) >= {1, 2, 3, 4, 5}


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_no_status_of_the_first_page_is_an_end(status: int) -> None:
    api = Api(3)
    api.answers[1] = Answer(status, b"")
    with http_server(api) as url:
        sent, failure = await run(api.source(url), Durable())
    assert sent == []
    assert f"answered {status}" in (failure or "")


@pytest.mark.parametrize("status", [401, 403, 429, 503])
async def test_other_statuses_are_no_end_and_the_next_run_begins_at_page_one(status: int) -> None:
    api = Api(3)
    api.answers[3] = Answer(status, b"", {"Retry-After": "1000"})
    with http_server(api) as url:
        source, durable = api.source(url), Durable()
        sent, failure = await run(source, durable)
        assert ids(sent) == [1, 2, 3, 4]
        assert f"answered {status}" in (failure or "")
        api.answers[1], api.asked = Answer(200, b'{"data": [{"id": 1, "new": true}, {"id": 2}, {"id": 9}]}'), []
        sent, failure = await run(source, durable)
        assert (ids(sent), api.asked) == ([1, 9], [1, 2, 3])
        assert failure is not None
        del api.answers[3]
        sent, failure = await run(source, durable)
        assert (ids(sent), failure) == ([5, 6], None)
        assert await run(source, durable) == ([], None)


async def test_a_page_that_should_be_there_is_missed() -> None:
    api = Api(5, total=5)
    api.answers[3] = GONE
    with http_server(api) as url:
        sent, failure = await run(api.source(url, concurrency=4), Durable())
    assert ids(sent) == [1, 2, 3, 4]
    assert "answered 404 Not Found" in (failure or "")
    assert "page 3 of 5" in (failure or "")


async def test_an_interrupted_run_goes_on_where_it_was_though_no_page_is_left() -> None:
    api = Api(3)
    with http_server(api) as url:
        source, durable = api.source(url), Durable()
        await run(source, durable)
        durable.at = {"page": 3, "total_pages": None, "complete": False}
        api.asked = []
        assert await run(source, durable) == ([], None)
        assert api.asked == [4]
        assert await run(source, durable) == ([], None)
        assert api.asked == [4, 1, 2, 3, 4]


async def test_a_lost_connection_is_an_interruption_unless_it_stays_lost() -> None:
    api = Api(4, total=4)
    with http_server(api) as url:
        source, durable = api.source(url, timeout_seconds=5), Durable()
        api.answers[3] = Answer(200, api.body(3), {"Content-Length": "1000"})
        sent, failure = await run(source, durable)
        assert ids(sent) == [1, 2, 3, 4]
        assert "is cut off" in (failure or "")
        api.asked = []
        assert (await run(source, durable))[0] == []
        assert (await run(source, durable))[0] == []
        assert api.asked == [3, 1, 2, 3]
        del api.answers[3]
        assert (ids((await run(source, durable))[0]), api.asked[4:]) == ([5, 6, 7, 8], [3, 4])


DAMAGED = b'{"data": [{"id": 3, "x": "no end}, {"id": 4}], "total_pages": 3}'


@pytest.mark.parametrize("body", [DAMAGED, b"<html>try later</html>", b'{"error": "try later"}', b""])
async def test_a_page_that_cannot_be_taken_apart_is_one_failure_and_the_others_are_read(body: bytes) -> None:
    api = Api(3, total=3)
    api.answers[2] = Answer(200, body, {"ETag": '"2"'})
    with http_server(api) as url:
        source, durable = api.source(url), Durable()
        sent, failure = await run(source, durable)
        assert ids(sent[:2] + sent[3:]) == [1, 2, 5, 6]
        assert (sent[2].value, sent[2].key) == (body, None)
        assert (sent[2].problem or "").startswith(f"unreadable_page;{url}/items?page=2&limit=100: ")
        assert (failure or "").startswith("1 of its pages cannot be taken apart into records")
        assert [len(batch.records) async for batch in _published(source)] == [2, 1, 2]
        sent, failure = await run(source, durable)  # the same bytes are the same failure
        assert (sent, failure is None) == ([], False)
        del api.answers[2]
        sent, failure = await run(source, durable)
        assert (ids(sent), failure) == ([3, 4], None)


async def _published(source: ApiSource) -> Any:
    try:
        async for batch in source.batches():
            yield batch
    except SourceFailed as error:
        assert "cannot be taken apart" in error.reason  # noqa: PT017 (what came before counts too)


async def test_a_first_page_that_is_damaged_is_a_failure_and_one_of_another_form_a_wrong_block() -> None:
    api = Api(1)
    with http_server(api) as url:
        api.answers[1] = Answer(200, DAMAGED)
        sent, failure = await run(api.source(url), Durable())
        assert [record.value for record in sent] == [DAMAGED]
        assert "cannot be taken apart" in (failure or "")
        for body in (b"<html>log in</html>", b'{"items": []}', b"[]"):
            api.answers[1] = Answer(200, body)
            sent, failure = await run(api.source(url), Durable())
            assert (sent, failure is None) == ([], False)


async def test_pages_without_an_end_that_cannot_be_read_are_not_read_for_ever() -> None:
    api = Api(2)
    api.answers = {page: Answer(200, b'{"data": [%d' % page) for page in range(3, 100)}
    with http_server(api) as url:
        sent, failure = await run(api.source(url), Durable())
    assert [record.problem is None for record in sent] == [True] * 4 + [False] * 2
    assert (api.asked, failure is None) == ([1, 2, 3, 4], False)


async def test_an_api_without_a_key_is_followed_wherever_it_moves() -> None:
    api = Api(2, total=2)

    def moved(request: Request) -> Answer:
        if request.path == "/items":
            query = f"page={request.query['page']}&limit=100"
            return Answer(307, b"", {"Location": f"/v2/items?{query}"})
        return api(request)

    with http_server(moved) as url:
        sent, failure = await run(api.source(url), Durable())
        assert (ids(sent), failure) == ([1, 2, 3, 4], None)
        with_key = api.source(url, api_key=True)
        object.__setattr__(with_key, "api_key", SecretStr("s3cret"))
        assert "put that address into `url`" in ((await run(with_key, Durable()))[1] or "")
