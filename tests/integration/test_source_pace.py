"""The pace and the patience of a source, measured at a real server."""

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from producers.http import fetch
from producers.source import Source, SourceFailed
from producers.sources import build_source
from runtime.settings import Settings
from tests.integration.publish_servers import Answer, Request, http_server

PER_SECOND = 50.0
REQUESTS = 150


class Clock:
    """Time that passes only while somebody waits for a turn: no busy machine adds to it."""

    def __init__(self) -> None:
        self.now = 0.0

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, until)


def api(url: str, **block: Any) -> Source:
    values = {"kind": "api", "url": f"{url}/items", "dataset": "records", "pagination": {"style": "array"}, **block}
    return build_source("shop", values, Settings(), Path())


async def read(source: Source) -> int:
    return sum([len(batch.records) async for batch in source.batches()])


@pytest.mark.parametrize("concurrency", [1, 8])
async def test_every_request_has_its_turn_and_the_rate_is_the_one_asked_for(
    concurrency: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, asked = Clock(), list[float]()
    limit = partial(fetch.RateLimit, now=lambda: clock.now, sleep=clock.sleep)
    monkeypatch.setattr(fetch, "RateLimit", limit)

    def script(request: Request) -> Answer:
        asked.append(clock.now)
        page = int(request.query["_page"])
        return Answer(200, b"[]" if page > REQUESTS else b'[{"id": %d}]' % page)

    with http_server(script) as url:
        assert await read(api(url, rate_limit=PER_SECOND, concurrency=concurrency)) == REQUESTS
    turns = round(clock.now * PER_SECOND) + 1
    assert clock.now == pytest.approx((turns - 1) / PER_SECOND)
    assert all(at >= number / PER_SECOND - 1e-9 for number, at in enumerate(sorted(asked))), "before its turn"
    # The last page ends those that are on their way, some before they are asked.
    assert 0 <= turns - len(asked) < concurrency


async def test_retries_count_as_requests() -> None:
    asked: list[float] = []

    def script(request: Request) -> Answer:
        asked.append(time.monotonic())
        return (
            Answer(503, b"")
            if len(asked) % 2
            else Answer(200, b"[]" if len(asked) > 10 else b'[{"id": 1%d}]' % len(asked))
        )

    started = time.monotonic()
    with http_server(script) as url:
        await read(api(url, rate_limit=10, concurrency=1, backoff_seconds=0.001, longest_backoff_seconds=0.001))
    assert len(asked) == 12
    assert max(asked) - started >= 11 / 10


@pytest.mark.parametrize(
    ("status", "retry_on", "tries"),
    [(503, [503], 4), (503, ["timeout"], 1), (404, [404], 4), (404, [503], 1)],
)
async def test_only_the_errors_that_the_block_names_are_retried(status: int, retry_on: list[Any], tries: int) -> None:
    asked: list[Request] = []

    def script(request: Request) -> Answer:
        asked.append(request)
        return Answer(status, b"no")

    with http_server(script) as url, pytest.raises(SourceFailed, match=f"answered {status}"):
        await read(api(url, retries=3, retry_on=retry_on, backoff_seconds=0.01, longest_backoff_seconds=0.02))
    assert len(asked) == tries


async def test_waits_stay_within_the_bounds_of_the_block() -> None:
    with (
        http_server(lambda _: Answer(500, b"")) as url,
        capture_logs() as told,
        pytest.raises(SourceFailed, match="tried 11 times"),
    ):
        await read(api(url, retries=10, backoff_seconds=0.01, longest_backoff_seconds=0.02))
    waits = [line["wait_seconds"] for line in told if line["event"] == "source_retry"]
    assert len(waits) == 10
    assert max(waits) <= 0.02


async def test_a_server_that_asks_for_a_longer_wait_than_allowed_fails_the_run() -> None:
    with (
        http_server(lambda _: Answer(429, b"", {"Retry-After": "3"})) as url,
        pytest.raises(SourceFailed, match="429 Too Many Requests and asks to wait 3 s: try again after that"),
    ):
        await read(api(url, longest_wait_seconds=2))
