"""The pool of connections: filled at the start, bounded, kept; and a Postgres that is frozen holds nobody for long."""

import asyncio
import time
from contextlib import AsyncExitStack, suppress
from typing import Any

import asyncpg
from sqlalchemy import text

from api.database import close_pool, read_engine, reading
from api.single_flight import Shared
from runtime.settings import Settings
from stores.postgres_engine import postgres_engine
from tests.integration.api_client import CUSTOMERS, api_client, customer, store
from tests.servers.contract import Servers
from tests.waiting import eventually_async

OURS = text("SELECT pid FROM pg_stat_activity WHERE application_name = 'headrace-api' AND datname = current_database()")


async def connections(settings: Settings) -> set[int]:
    engine = postgres_engine(settings)
    async with engine.connect() as connection:
        pids = set((await connection.execute(OURS)).scalars())
    await engine.dispose()
    return pids


async def test_the_pool_opens_its_minimum_grows_to_its_maximum_and_keeps_what_it_opened(
    migrated_settings: Settings,
) -> None:
    async with api_client(migrated_settings) as client:
        first = await connections(migrated_settings)
        assert len(first) == migrated_settings.database_pool_min
        engine = postgres_engine(migrated_settings)
        async with engine.begin() as connection:
            # All readers wait for the table, so that the pool must give all that it may.
            await connection.execute(text("LOCK TABLE customers IN ACCESS EXCLUSIVE MODE"))
            readers = [asyncio.create_task(client.get("/api/customers")) for _ in range(40)]
            await asyncio.wait(readers, timeout=1.0)
        await engine.dispose()
        answers = await asyncio.gather(*readers)
        assert {answer.status_code for answer in answers} == {200}
        grown = await connections(migrated_settings)
        assert first < grown
        assert len(grown) == migrated_settings.database_pool_max
        await asyncio.gather(*(client.get("/api/customers") for _ in range(40)))
        assert await connections(migrated_settings) == grown


async def test_a_load_that_has_outlived_its_callers_keeps_no_connection_open_after_the_end(
    migrated_settings: Settings,
) -> None:
    engine = read_engine(migrated_settings)
    drivers: list[Any] = []

    async def load() -> None:
        async with reading(engine) as connection:
            drivers.append((await connection.get_raw_connection()).driver_connection)
            await connection.execute(text("SELECT pg_sleep(0.3)"))

    async def under_way() -> bool:
        return bool(drivers)

    caller = asyncio.create_task(Shared(load, 1.0).get())
    await eventually_async(under_way, what="the load has a connection")
    caller.cancel()
    await close_pool(engine)
    assert drivers[0].is_closed()


async def test_health_is_degraded_while_postgres_has_no_connection_left_and_reads_go_on(
    migrated_settings: Settings,
) -> None:
    connect: Any = asyncpg.connect
    async with api_client(migrated_settings) as client, AsyncExitStack() as taken:
        with suppress(asyncpg.TooManyConnectionsError):
            while True:
                taken.push_async_callback((await connect(migrated_settings.plain_database_url)).close)
        answer = await client.get("/api/health")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert "connections that the server allows are taken" in answer.json()["components"]["postgres"]["reason"]
        assert (await client.get("/api/customers")).status_code == 200


async def test_a_frozen_postgres_is_a_503_within_seconds_and_cached_records_still_answer(
    migrated_settings: Settings, servers: Servers
) -> None:
    await store(migrated_settings, CUSTOMERS, [customer(1), customer(2)])
    async with api_client(migrated_settings) as client:
        await client.get("/api/customers/CUST001")
        servers.pause("postgres")
        try:
            started = time.monotonic()
            cached, refused, health = await asyncio.gather(
                client.get("/api/customers/CUST001"), client.get("/api/customers/CUST002"), client.get("/api/health")
            )
            assert time.monotonic() - started < 9
        finally:
            servers.resume("postgres")
        assert (cached.status_code, cached.headers["x-cache"]) == (200, "hit")
        assert (refused.status_code, refused.json()["store"]) == (503, "postgres")
        assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
        assert (await client.get("/api/customers/CUST002")).status_code == 200
