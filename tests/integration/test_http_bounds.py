"""Whatever a server answers, every source over HTTP reads a bounded part of it, and a whole body or an error."""

import gzip
import itertools
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from producers.source import SourceFailed, SourceRecord
from producers.sources import build_source
from runtime.settings import Settings
from tests.integration.publish_servers import Answer, Request, http_server

MILLION = 1_000_000
CSV = b"n;name\n" + b"1;Bread\n" * 20_000
JSON = b'[{"id": 1, "name": "Bread"}]'
RSS = b"<rss version='2.0'><channel><title>News</title><item><guid>1</guid></item></channel></rss>"
KINDS: Mapping[str, tuple[Mapping[str, Any], bytes]] = {
    "csv": ({"map": {"source_id": "n"}}, CSV),
    "api": ({"map": {"source_id": "id"}, "pagination": {"style": "none"}}, JSON),
    "rss": ({"map": {"source_id": "id", "name": "title"}}, RSS),
}


async def read(kind: str, url: str, **changes: Any) -> list[SourceRecord]:
    address = {"path" if kind == "csv" else "url": url}
    block = {"kind": kind, "dataset": "records", "retries": 0, **KINDS[kind][0], **address, **changes}
    source = build_source("shop", block, Settings(), Path())
    return [record async for batch in source.batches() for record in batch.records]


def packed_zeros(size: int, bits: int = 31) -> bytes:
    """A bomb: a thousand times as much as it is."""
    stream = zlib.compressobj(6, zlib.DEFLATED, bits)
    return b"".join(stream.compress(bytes(MILLION)) for _ in range(size // MILLION)) + stream.flush()


BOMBS: Mapping[str, Callable[[], Answer]] = {
    "gzip": lambda: Answer(200, packed_zeros(40 * MILLION), {"Content-Encoding": "gzip"}),
    "deflate": lambda: Answer(200, packed_zeros(40 * MILLION, 15), {"Content-Encoding": "deflate"}),
    "deflate without a frame": lambda: Answer(200, packed_zeros(40 * MILLION, -15), {"Content-Encoding": "deflate"}),
    "member after member": lambda: Answer(200, packed_zeros(MILLION) * 40, {"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_decompression_bomb_is_refused_before_it_fills_memory_or_disk(kind: str, bomb: str) -> None:
    answer = BOMBS[bomb]()
    with http_server(lambda _: answer) as url:
        tracemalloc.start()
        try:
            with pytest.raises(SourceFailed, match=r"longer than 1,000,000 bytes; raise `max_bytes`"):
                await read(kind, url, max_bytes=MILLION)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 6 * MILLION


class Endless:
    """A body without an end; counts what it has sent, and knows when the reader has gone."""

    def __init__(self, piece: bytes) -> None:
        self.sent = 0
        self.left = threading.Event()
        self._piece = piece

    def __iter__(self) -> Iterator[bytes]:
        try:
            while True:
                yield self._piece
                self.sent += len(self._piece)
        finally:
            self.left.set()


EMPTY_MEMBER = gzip.compress(b"", mtime=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("piece", "coding"), [(b" " * 65_536, "identity"), (EMPTY_MEMBER * 3000, "gzip")], ids=["plain", "empty members"]
)
async def test_an_endless_body_is_read_within_bounds(kind: str, piece: bytes, coding: str) -> None:
    body = Endless(piece)
    with http_server(lambda _: Answer(200, body, {"Content-Encoding": coding})) as url:
        with pytest.raises(SourceFailed, match="longer than 1,000,000 bytes"):
            await read(kind, url, max_bytes=MILLION)
        assert body.left.wait(30)
    assert body.sent < 20 * MILLION  # what the sockets hold, beside what was read


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_answers_too_slowly_is_given_up(kind: str) -> None:
    gone = threading.Event()

    def drip() -> Iterator[bytes]:
        for _ in range(3000):
            if gone.wait(0.02):
                return
            yield b" "

    with http_server(lambda _: Answer(200, drip())) as url:
        try:
            with pytest.raises(SourceFailed, match=r"was not done answering after 0\.3 s; raise `max_seconds`"):
                await read(kind, url, max_seconds=0.3, timeout_seconds=20, retries=5)
        finally:
            gone.set()


@pytest.mark.parametrize("kind", KINDS)
async def test_the_bodies_of_redirects_are_not_read(kind: str) -> None:
    """httpx reads them whole before it follows."""
    bodies = [Endless(bytes(65_536)) for _ in range(2)]

    def answer(request: Request) -> Answer:
        step = int(request.path.removeprefix("/"))
        return Answer(302, bodies[step], {"Location": f"/{step + 1}"}) if step < 2 else Answer(200, KINDS[kind][1])

    with http_server(answer) as url:
        assert await read(kind, f"{url}/0")
        assert all(body.left.wait(30) for body in bodies)
    assert all(body.sent < 20 * MILLION for body in bodies)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_chain_of_redirects_has_an_end(kind: str) -> None:
    steps = itertools.count()

    def moved(_: Request) -> Answer:
        return Answer(302, b"", {"Location": f"/{next(steps)}"})

    with http_server(moved) as url, pytest.raises(SourceFailed, match="redirects more than 10 times"):
        await read(kind, url)
    assert next(steps) == 11


@pytest.mark.parametrize("kind", KINDS)
async def test_only_the_beginning_of_an_error_body_is_read(kind: str) -> None:
    body = Endless(b"no such page" + bytes(65_536))
    answer = Answer(404, body, {"Content-Type": "text/plain; charset=punycode"})
    with http_server(lambda _: answer) as url:
        with pytest.raises(SourceFailed, match="answered 404 Not Found: 'no such page"):
            await read(kind, url)
        assert body.left.wait(30)
    assert body.sent < 20 * MILLION


def cut(content: bytes) -> bytes:
    return gzip.compress(content)[:-9]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("body", "coding", "reason"),
    [
        (cut, "gzip", "cut off"),
        (lambda content: zlib.compress(content)[:-3], "deflate", "cut off"),
        (lambda _: [], "gzip", "cut off after 0 bytes"),
        (lambda content: content, "gzip", "damaged"),
        (lambda content: gzip.compress(content) + b"more", "gzip", "damaged"),
        (lambda content: zlib.compress(content) + b"more", "deflate", "damaged"),
        (lambda content: content, "br", "content-encoding 'br'"),
        (lambda content: content, "zstd", "content-encoding 'zstd'"),
        (lambda content: gzip.compress(gzip.compress(content)), "gzip, gzip", "content-encoding 'gzip, gzip'"),
    ],
)
async def test_a_body_that_is_not_whole_is_an_error(
    kind: str, body: Callable[[bytes], bytes | list[bytes]], coding: str, reason: str
) -> None:
    answer = Answer(200, body(KINDS[kind][1]), {"Content-Encoding": coding})
    with http_server(lambda _: answer) as url, pytest.raises(SourceFailed, match=reason):
        await read(kind, url)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_body_that_ends_before_it_says_so_is_tried_again_and_then_an_error(kind: str) -> None:
    content = KINDS[kind][1]
    whole = b"%x\r\n%b\r\n" % (len(content), content)
    answers = [
        Answer(200, content, {"Content-Length": str(len(content) + 1)}),
        Answer(200, [whole], {"Transfer-Encoding": "chunked"}),
        Answer(200, [whole[:-40]], {"Transfer-Encoding": "chunked"}),
        Answer(200, [gzip.compress(whole)[:20]], {"Transfer-Encoding": "chunked", "Content-Encoding": "gzip"}),
    ]
    with http_server(lambda request: answers[int(request.path[1:])]) as url:
        for number in range(len(answers)):
            with pytest.raises(SourceFailed, match=r"is cut off.*tried 2 times"):
                await read(kind, f"{url}/{number}", retries=1, backoff_seconds=0.01)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_source_waits_as_long_as_it_is_asked_to(kind: str) -> None:
    answers = [Answer(200, KINDS[kind][1]), Answer(429, b"", {"Retry-After": "1"})]
    with http_server(lambda _: answers.pop() if answers else Answer(503, b"", {"Retry-After": "3600"})) as url:
        with capture_logs() as logs:
            assert await read(kind, url, retries=1, backoff_seconds=0.001)
        assert [line["wait_seconds"] for line in logs if line["event"] == "source_retry"] == [1.0]
        with pytest.raises(SourceFailed, match="asks to wait 3600 s"):
            await read(kind, url, retries=1)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_packing_that_is_asked_for_is_unpacked(kind: str) -> None:
    content = KINDS[kind][1]
    middle = len(content) // 2
    raw = zlib.compressobj(wbits=-15)
    forms = [
        ("identity", content),
        ("gzip", gzip.compress(content)),
        ("X-GZIP", gzip.compress(content[:middle]) + gzip.compress(content[middle:]) + bytes(7)),
        ("deflate", zlib.compress(content)),
        ("deflate", raw.compress(content) + raw.flush()),
    ]
    asked: set[str] = set()

    def answer(request: Request) -> Answer:
        asked.add(request.headers["accept-encoding"])
        coding, body = forms[int(request.path.removeprefix("/"))]
        return Answer(200, body, {"Content-Encoding": coding})

    with http_server(answer) as url:
        read_ones = [await read(kind, f"{url}/{number}") for number in range(len(forms))]
    assert all(records == read_ones[0] for records in read_ones)
    assert read_ones[0]
    assert asked == {"gzip, deflate"}
