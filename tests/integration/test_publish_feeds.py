"""Feeds from a real HTTP server onto the raw topic."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from producers.publish import publish
from producers.rss import source as rss_source
from producers.source import Source, SourceFailed
from producers.sources import build_source
from runtime.settings import Settings
from tests.integration.publish_servers import Answer, Request, consume_all, http_server

MAP = {"source_id": "id", "name": "title", "description": "text"}


def rss(*titles: str) -> bytes:
    items = "".join(f"<item><guid>{title}</guid><title>About {title}</title></item>" for title in titles)
    return f'<rss version="2.0"><channel><title>News</title>{items}</channel></rss>'.encode()


def feed(url: str, settings: Settings, path: str = "/feed", **block: Any) -> Source:
    values = {"kind": "rss", "url": f"{url}{path}", "dataset": "records", "map": MAP, "retries": 0, **block}
    return build_source("news", values, settings, Path())


async def test_every_entry_arrives_with_its_key_the_newest_last(pipeline_settings: Settings) -> None:
    with http_server(lambda _: Answer(200, rss("c", "b", "a"), {"Content-Type": "application/rss+xml"})) as url:
        report = await publish(feed(url, pipeline_settings), pipeline_settings)
    records = consume_all(pipeline_settings, "records.raw")
    assert report.published == len(records) == 3
    assert {record.key for record in records} == {"news:a", "news:b", "news:c"}
    assert records[0].headers["headrace-kind"] == "rss"
    assert records[0].headers["content-type"] == "application/json"
    assert json.loads(records[0].headers["headrace-mapping"]) == MAP
    assert {json.loads(record.value)["feed"]["title"] for record in records} == {"News"}


async def test_links_are_absolute_by_where_the_feed_was_found_and_a_long_id_has_a_hash_as_its_key(
    pipeline_settings: Settings,
) -> None:
    long = "urn:" + "x" * 300

    def script(request: Request) -> Answer:
        if request.path.startswith("/old"):
            return Answer(302, b"", {"Location": "/blog/feed?token=secret"})
        items = f"<item><link>1#top</link></item><item><link>#2</link></item><item><guid>{long}</guid></item>"
        body = f'<rss version="2.0"><channel><title>Salt &amp;amp; Pepper</title>{items}</channel></rss>'
        return Answer(200, body.encode(), {"Content-Type": "text/html"})

    with http_server(script) as url:
        await publish(feed(url, pipeline_settings, "/old?token=secret"), pipeline_settings)
    records = consume_all(pipeline_settings, "records.raw")
    digest = hashlib.sha256(long.encode()).hexdigest()
    assert {record.key for record in records} == {
        f"news:{url}/blog/1#top", f"news:{url}/blog/feed#2", f"news:{digest}"
    }  # fmt: skip
    assert {json.loads(record.value)["id"] for record in records} >= {long}
    assert not [record for record in records if b"secret" in record.value]


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({"ETag": '"v1"'}, {"if-none-match": '"v1"'}),
        ({"Last-Modified": "Mon, 06 Sep 2021 12:00:00 GMT"}, {"if-modified-since": "Mon, 06 Sep 2021 12:00:00 GMT"}),
    ],
)
async def test_a_feed_that_has_not_changed_is_not_sent_again(
    pipeline_settings: Settings, given: dict[str, str], asked: dict[str, str]
) -> None:
    requests: list[Request] = []

    def script(request: Request) -> Answer:
        requests.append(request)
        conditional = asked.items() <= request.headers.items()
        return Answer(304, b"") if conditional else Answer(200, rss("a"), given)

    with http_server(script) as url:
        source = feed(url, pipeline_settings)
        counts = [(await publish(source, pipeline_settings)).published for _ in range(3)]
    assert counts == [1, 0, 0]
    assert [asked.items() <= request.headers.items() for request in requests] == [False, True, True]


async def test_a_feed_that_was_not_published_or_long_ago_is_fetched_whole_again(
    pipeline_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(request: Request) -> Answer:
        return Answer(304, b"") if "if-none-match" in request.headers else Answer(200, rss("a"), {"ETag": "x"})

    with http_server(script) as url:
        source = feed(url, pipeline_settings)
        unpublished = [batch async for batch in source.batches()]
        assert len(unpublished) == 1
        monkeypatch.setattr(rss_source, "WHOLE_AGAIN_SECONDS", -1.0)
        assert [(await publish(source, pipeline_settings)).published for _ in range(2)] == [1, 1]


async def test_a_malformed_feed_gives_what_could_be_read_and_a_warning(pipeline_settings: Settings) -> None:
    broken = rss("b", "a").replace(b"About a", b"This & that")
    with http_server(lambda _: Answer(200, broken)) as url, capture_logs() as logs:
        report = await publish(feed(url, pipeline_settings), pipeline_settings)
    assert report.published == 2
    [warning] = [line for line in logs if line["event"] == "feed_malformed"]
    assert (warning["source"], warning["entries"]) == ("news", 2)
    assert "not well-formed" in warning["reason"]


async def test_a_page_that_is_no_feed_fails_the_run_and_says_why(pipeline_settings: Settings) -> None:
    with (
        http_server(lambda _: Answer(200, b"<html><body>Moved</body></html>")) as url,
        pytest.raises(SourceFailed, match=r"it is no RSS or Atom feed; it begins with '<html>.*check `url`"),
    ):
        await publish(feed(url, pipeline_settings), pipeline_settings)


async def test_a_redirect_is_followed_but_never_with_a_key(pipeline_settings: Settings) -> None:
    settings = pipeline_settings.model_copy(update={"api_key": SecretStr("s3cret")})
    keys: list[str | None] = []

    def script(request: Request) -> Answer:
        keys.append(request.headers.get("x-api-key"))
        if request.path == "/loop":
            return Answer(302, b"", {"Location": "/loop"})
        return Answer(302, b"", {"Location": "/new"}) if request.path == "/feed" else Answer(200, rss("a"))

    with http_server(script) as url:
        assert (await publish(feed(url, settings), settings)).published == 1
        with pytest.raises(SourceFailed, match="302 Found to /new: put that address into `url`"):
            await publish(feed(url, settings, api_key=True), settings)
        with pytest.raises(SourceFailed, match="redirects"):
            await publish(feed(url, settings, "/loop"), settings)
    assert keys[:3] == [None, None, "s3cret"]
