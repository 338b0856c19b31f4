"""The pace and the patience of a source, measured at a real server."""

import time
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest

from producers.source import Source, SourceFailed
from producers.sources import build_source
from runtime.settings import Settings
from tests.integration.publish_servers import Answer, Request, http_server

PER_SECOND = 50.0
REQUESTS = 150
HALF_SECOND = 25
"""Requests."""


def api(url: str, **block: Any) -> Source:
    values = {"kind": "api", "url": f"{url}/items", "dataset": "records", "pagination": {"style": "array"}, **block}
    return build_source("shop", values, Settings(), Path())


async def read(source: Source) -> int:
    return sum([len(batch.records) async for batch in source.batches()])


@pytest.mark.parametrize("concurrency", [1, 8])
async def test_the_rate_limit_is_honoured_to_5_percent(concurrency: int) -> None:
    asked: list[float] = []

    def script(request: Request) -> Answer:
        asked.append(time.monotonic())
        page = int(request.query["_page"])
        return Answer(200, b"[]" if page > REQUESTS else b'[{"id": %d}]' % page)

    with http_server(script) as url:
        assert await read(api(url, rate_limit=PER_SECOND, concurrency=concurrency)) == REQUESTS
    asked.sort()
    half_seconds = [asked[number + HALF_SECOND] - asked[number] for number in range(REQUESTS - HALF_SECOND)]
    # The pace of the fastest fifth: what a busy machine holds up says nothing of the limiter ...
    assert HALF_SECOND / quantiles(half_seconds, n=5)[0] == pytest.approx(PER_SECOND, rel=0.05)
    # ... and over the whole never faster.
    assert (len(asked) - 1) / (asked[-1] - asked[0]) <= PER_SECOND * 1.05
    # Nor does it come in bursts: no two seconds have more than their share and what was on its way as they began.
    share = 2 * PER_SECOND * 1.05
    assert max(sum(start <= at < start + 2 for at in asked) for start in asked) <= share + concurrency


async def test_retries_count_as_requests() -> None:
    asked: list[float] = []

    def script(request: Request) -> Answer:
        asked.append(time.monotonic())
        return (
            Answer(503, b"")
            if len(asked) % 2
            else Answer(200, b"[]" if len(asked) > 10 else b'[{"id": 1%d}]' % len(asked))
        )

    with http_server(script) as url:
        await read(api(url, rate_limit=10, concurrency=1, backoff_seconds=0.001, longest_backoff_seconds=0.001))
    assert len(asked) == 12
    assert max(asked) - min(asked) >= 11 / 10 * 0.95


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
    with http_server(lambda _: Answer(500, b"")) as url:
        started = time.monotonic()
        with pytest.raises(SourceFailed, match="tried 11 times"):
            await read(api(url, retries=10, backoff_seconds=0.01, longest_backoff_seconds=0.02))
        assert time.monotonic() - started < 5


async def test_a_server_that_asks_for_a_longer_wait_than_allowed_fails_the_run() -> None:
    with (
        http_server(lambda _: Answer(429, b"", {"Retry-After": "3"})) as url,
        pytest.raises(SourceFailed, match="429 Too Many Requests and asks to wait 3 s: try again after that"),
    ):
        await read(api(url, longest_wait_seconds=2))
