"""A CSV file behind an address: over real HTTP."""

import itertools
from pathlib import Path

import pytest

from producers.source import ResumableSource, SourceFailed, SourceRecord
from producers.sources import build_source
from runtime.settings import Settings
from tests.integration.publish_servers import Answer, Request, http_server

CSV = "n;name\n1;Käse\n2;Brot\n".encode("cp1252")
BLOCK = {"kind": "csv", "dataset": "records", "map": {"source_id": "n", "name": "name"}}


async def read(url: str, **changes: object) -> list[SourceRecord]:
    source = build_source("shop", {**BLOCK, "path": url, **changes}, Settings(), Path())
    return [record async for batch in source.batches() for record in batch.records]


async def test_a_file_at_an_address_is_read_after_redirects_and_passing_errors() -> None:
    tries = itertools.count()

    def answer(request: Request) -> Answer:
        if request.path == "/moved":
            return Answer(302, b"", {"Location": "/shop.csv"})
        return Answer(503, b"") if next(tries) == 0 else Answer(200, CSV)

    with http_server(answer) as url:
        records = await read(f"{url}/moved")
    assert [record.key for record in records] == ["shop:1", "shop:2"]
    assert records[0].value == '{"n":"1","name":"Käse"}'.encode()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (Answer(404, b"gone"), "answered 404 Not Found"),
        (Answer(206, CSV[:18], {"Content-Range": "bytes 0-17/23"}), "answered 206 Partial Content"),
        (Answer(202, b""), "answered 202 Accepted"),
        (Answer(200, b"a,b\n1,2\n"), "it has no column 'n'"),
    ],
)
async def test_errors_name_the_address(given: Answer, reason: str) -> None:
    with http_server(lambda _: given) as url:
        with pytest.raises(SourceFailed) as failure:
            await read(f"{url}/shop.csv")
        assert failure.value.reason.startswith(f"{url}/shop.csv")
        assert reason in failure.value.reason


async def test_the_charset_of_the_answer_is_that_of_the_file() -> None:
    rows = "n;name\n1;Żaba\n".encode("iso8859-2")
    with http_server(
        lambda _: Answer(200, rows, {"Content-Type": "text/csv; header=present; charset=ISO-8859-2"})
    ) as url:
        (record,) = await read(f"{url}/shop.csv")
        assert record.value == '{"n":"1","name":"Żaba"}'.encode()
        (record,) = await read(f"{url}/shop.csv", encoding="cp1252")
        assert record.value == '{"n":"1","name":"¯aba"}'.encode()


async def test_a_file_that_is_not_in_the_charset_of_its_answer_is_refused() -> None:
    served = Answer(200, CSV, {"Content-Type": "text/csv; charset=utf-8"})
    with (
        http_server(lambda _: served) as url,
        pytest.raises(SourceFailed, match="served as utf-8, and most of its lin"),
    ):
        await read(f"{url}/shop.csv")


async def test_a_file_that_was_appended_to_is_read_on_from_where_it_ended() -> None:
    content = [CSV]
    with http_server(lambda _: Answer(200, content[0])) as url:
        source = build_source("shop", {**BLOCK, "path": f"{url}/shop.csv", "encoding": "cp1252"}, Settings(), Path())
        assert isinstance(source, ResumableSource)
        position = None

        async def read_on() -> list[str | None]:
            nonlocal position
            keys = []
            async for batch in source.resume(position):
                keys += [record.key for record in batch.records]
                position = batch.position or position
            return keys

        assert await read_on() == ["shop:1", "shop:2"]
        assert await read_on() == []
        content[0] = CSV + b"3;Milch\n"
        assert await read_on() == ["shop:3"]


async def test_a_file_that_breaks_off_publishes_nothing() -> None:
    broken = Answer(200, CSV, {"Content-Length": "1000"})
    with http_server(lambda _: broken) as url, pytest.raises(SourceFailed, match="tried 2 times"):
        await read(f"{url}/shop.csv", retries=1, backoff_seconds=0.01)
