"""The Redis sink: what changed is forgotten, and older fills are refused, also after an outage of Redis."""

from redis.asyncio import Redis

from runtime.settings import Settings
from sinks.redis_invalidation import RedisInvalidationSink
from stores.cache import Lease, VersionedCache
from tests.integration.sink_events import change, publish, running
from tests.servers.contract import Servers
from tests.waiting import eventually_async


async def test_a_change_invalidates_what_is_cached_and_refuses_an_older_fill(pipeline_settings: Settings) -> None:
    async with Redis.from_url(str(pipeline_settings.plain_redis_url)) as client:
        cache = VersionedCache(client, pipeline_settings)
        lease = await cache.get_or_lease("customers", "C1")
        assert isinstance(lease, Lease)
        await cache.fill(lease, 1, b"old")

        async def forgotten() -> bool:
            return await cache.get("customers", "C1") is None

        publish(pipeline_settings, "customers.changed", change("C1", 2))
        async with running(RedisInvalidationSink(pipeline_settings), pipeline_settings):
            await eventually_async(forgotten, what="the old entry is gone")
        assert not await cache.fill(lease, 1, b"old")
        assert await cache.fill(lease, 2, b"new")


async def test_while_redis_is_down_the_sink_waits_and_then_catches_up(
    pipeline_settings: Settings, servers: Servers
) -> None:
    async with running(RedisInvalidationSink(pipeline_settings), pipeline_settings) as runner:
        servers.stop("redis")
        try:
            publish(pipeline_settings, "customers.changed", change("C1", 7))

            async def waiting() -> bool:
                return str(runner.health()["state"]) == "waiting_for_store"

            await eventually_async(waiting, what="the sink waits for Redis")
        finally:
            servers.start("redis")

        async with Redis.from_url(str(pipeline_settings.plain_redis_url)) as client:
            cache = VersionedCache(client, pipeline_settings)

            async def caught_up() -> bool:
                return bool(runner.health()["records"] == 1)

            await eventually_async(caught_up, what="the invalidation arrives")
            # Redis has forgotten who was reading, and keeps a floor only where somebody is.
            await cache.get_or_lease("customers", "C1")
            publish(pipeline_settings, "customers.changed", change("C1", 8))

            async def floor() -> bool:
                return bool(await client.hget(cache.entry("customers", "C1"), "floor") == b"8")

            await eventually_async(floor, what="and so does the next")
        assert runner.health()["state"] == "running"
