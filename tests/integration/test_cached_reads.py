"""Records answered from Redis before routing: as the endpoint answers them; and the round trips they share."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from asgi_lifespan import LifespanManager
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from api.app import create_app
from runtime.settings import Settings
from stores.batched_reads import BatchedReads
from tests.integration.api_client import CUSTOMERS, RECORDS, customer, record, store
from tests.servers.contract import Servers
from tests.waiting import eventually_async

VARYING = {"ratelimit", "x-request-id", "server-timing", "date"}


@pytest.fixture
async def both(migrated_settings: Settings) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """The application as it is, and one where every read is routed to its endpoint."""
    async with AsyncExitStack() as stack:
        clients = []
        for routed in (False, True):
            app = create_app(migrated_settings)
            if routed:
                layers = len(app.user_middleware)
                app.user_middleware = [layer for layer in app.user_middleware if "CachedReads" not in repr(layer)]
                assert len(app.user_middleware) == layers - 1
            await stack.enter_async_context(LifespanManager(app, startup_timeout=20, shutdown_timeout=20))
            transport = httpx.ASGITransport(app=app)
            client = httpx.AsyncClient(transport=transport, base_url="http://api", timeout=30)
            clients.append(await stack.enter_async_context(client))
        yield clients[0], clients[1]


async def test_a_read_from_redis_is_answered_as_its_endpoint_answers_it(
    migrated_settings: Settings, both: tuple[httpx.AsyncClient, httpx.AsyncClient]
) -> None:
    await store(migrated_settings, CUSTOMERS, [customer(1), customer(2, customer_id="a/b c?ü", address="x" * 2000)])
    await store(migrated_settings, RECORDS, [record("feed", "1:2", "Name")])
    quick, routed = both
    paths = ["/api/customers/CUST001", "/api/customers/a%2Fb%20c%3F%C3%BC", "/datasets/records/feed:1:2"]
    for path in [*paths, "/datasets/customers/CUST001", "/api/customers/%20CUST001%20"]:
        assert (await routed.get(path)).status_code == 200  # it is cached from now on
        etag = (await quick.get(path)).headers["etag"]
        given: list[dict[str, str]] = [{}, {"Accept-Encoding": "identity"}, {"If-None-Match": etag}]
        for headers in [*given, {"If-None-Match": '"other"'}]:
            one, other = await quick.get(path, headers=headers), await routed.get(path, headers=headers)
            assert one.status_code == other.status_code == (304 if headers.get("If-None-Match") == etag else 200)
            assert one.headers["x-cache"] == "hit"
            assert one.content == other.content
            assert told(one) == told(other)
    await routed.get("/api/customers/NONE")
    for method, path in [
        ("GET", "/api/customers/CUST001?x=1"),
        ("HEAD", "/api/customers/CUST001"),
        ("GET", "/api/customers/NONE"),
        ("GET", "/datasets/records/nocolon"),
        ("GET", "/api/customers/CUST001%0A"),
        ("GET", f"/api/customers/{'x' * 1001}"),
        ("GET", f"/users/{'x' * 1001}"),
        ("GET", "/users/"),
    ]:
        one, other = await quick.request(method, path), await routed.request(method, path)
        assert (one.status_code, told(one)) == (other.status_code, told(other)), path


def told(answer: httpx.Response) -> list[tuple[str, str]]:
    """The headers in their order, without those that differ from request to request."""
    lengths = {"content-length"} if answer.is_error else set()  # a problem document has its request's id
    return [(name, value) for name, value in answer.headers.multi_items() if name not in VARYING | lengths]


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    async with Redis.from_url(str(settings.plain_redis_url)) as client:
        yield client


async def test_reads_that_are_asked_for_together_share_a_round_trip(
    redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [settings.named(f"shared:{number}") for number in range(200)]
    for number, key in enumerate(keys[:100]):
        await redis.hset(key, mapping={"data": f"é{number}\r\n", **({"more": "x"} if number % 2 else {})})
    reads = BatchedReads(redis, ("data", "more"), 5.0)
    trips: list[None] = []
    get_connection: Any = redis.connection_pool.get_connection

    async def counted() -> Any:
        trips.append(None)
        return await get_connection()

    monkeypatch.setattr(redis.connection_pool, "get_connection", counted)
    found = await asyncio.gather(*(reads.get(key) for key in keys))
    assert len(trips) == 1
    there = [[f"é{number}\r\n".encode(), b"x" if number % 2 else None] for number in range(100)]
    assert found == there + [[None, None]] * 100


async def test_a_read_never_sees_what_was_there_before_it_was_asked_for(redis: Redis, settings: Settings) -> None:
    key = settings.named("changing")
    reads = BatchedReads(redis, ("data", "more"), 5.0)

    async def write_and_read(number: int) -> None:
        await redis.hset(key, "data", str(number))
        found, _ = await reads.get(key)
        assert found is not None
        assert int(found) >= number

    async def read() -> None:
        for _ in range(200):
            await reads.get(key)

    async def write() -> None:
        for number in range(200):
            await write_and_read(number)

    await asyncio.gather(write(), *(read() for _ in range(5)))


async def test_a_caller_that_gives_up_and_a_key_of_another_kind_harm_no_other(redis: Redis, settings: Settings) -> None:
    good, wrong = settings.named("good"), settings.named("wrong")
    await redis.hset(good, "data", "x")
    await redis.set(wrong, "text")
    reads = BatchedReads(redis, ("data", "more"), 5.0)
    asked = [asyncio.create_task(reads.get(key)) for key in (good, wrong, good, good)]
    await asyncio.sleep(0)
    asked[2].cancel()
    done = await asyncio.gather(*asked, return_exceptions=True)
    assert done[0] == done[3] == [b"x", None]
    assert isinstance(done[1], ResponseError)
    assert isinstance(done[2], asyncio.CancelledError)
    assert await reads.get(good) == [b"x", None]


async def test_a_redis_that_is_frozen_is_an_error_in_time_and_one_that_is_back_answers(
    redis: Redis, settings: Settings, servers: Servers
) -> None:
    key = settings.named("back")
    await redis.hset(key, "data", "x")
    reads = BatchedReads(redis, ("data", "more"), 0.3)
    assert await reads.get(key) == [b"x", None]
    servers.pause("redis")
    try:
        with pytest.raises((RedisError, OSError)):
            await reads.get(key)
    finally:
        servers.resume("redis")

    async def answers() -> bool:
        try:
            return await reads.get(key) == [b"x", None]
        except (RedisError, OSError):
            return False

    await eventually_async(answers, what="Redis answers again")
    servers.stop("redis")
    servers.start("redis")
    assert await reads.get(key) in ([b"x", None], [None, None])  # over a new connection, with the first try
