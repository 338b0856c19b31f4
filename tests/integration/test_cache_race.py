"""No reader who read before a commit can leave the old row in Redis once the invalidation has come."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
from redis.asyncio import Redis

from runtime.settings import Settings
from stores.cache import ABSENT, Invalidation, Lease, VersionedCache


@pytest.fixture
async def cache(settings: Settings) -> AsyncIterator[VersionedCache]:
    async with Redis.from_url(str(settings.plain_redis_url)) as client:
        yield VersionedCache(client, settings)


async def miss(cache: VersionedCache, key: str = "C1") -> Lease:
    """A reader finds nothing and will ask Postgres."""
    lease = await cache.get_or_lease("customers", key)
    assert isinstance(lease, Lease)
    return lease


async def test_a_reader_of_the_old_row_cannot_fill_after_the_invalidation(cache: VersionedCache) -> None:
    # The reader has read version 1; then version 2 is committed, announced and invalidated; then the reader fills.
    lease = await miss(cache)
    await cache.invalidate([Invalidation("customers", "C1", 2)])
    assert not await cache.fill(lease, 1, b"old")
    assert await cache.get("customers", "C1") is None


async def test_a_reader_who_found_no_row_cannot_hide_the_one_inserted_meanwhile(cache: VersionedCache) -> None:
    lease = await miss(cache)
    await cache.invalidate([Invalidation("customers", "C1", 1)])
    assert not await cache.fill(lease, 0, ABSENT)
    assert await cache.get("customers", "C1") is None


async def test_a_cached_absence_ends_when_the_row_is_inserted(cache: VersionedCache) -> None:
    assert await cache.fill(await miss(cache), 0, ABSENT)
    assert await cache.get("customers", "C1") == ABSENT
    await cache.invalidate([Invalidation("customers", "C1", 1)])
    assert await cache.get("customers", "C1") is None


async def test_in_every_order_of_fills_and_invalidations_nothing_old_stays(cache: VersionedCache) -> None:
    steps = [("fill", 1), ("fill", 2), ("fill", 3), ("invalidate", 2), ("invalidate", 3)]
    for number, order in enumerate(itertools.permutations(steps)):
        key = f"C{number}"
        lease = await miss(cache, key)
        for step, version in order:
            if step == "fill":
                await cache.fill(lease, version, b"%d" % version)
            else:
                await cache.invalidate([Invalidation("customers", key, version)])
        # Version 3 was filled at some time, and nothing is newer: it is what remains.
        assert await cache.get("customers", key) == b"3", order


async def test_under_concurrent_fills_and_invalidations_the_newest_remains(cache: VersionedCache) -> None:
    versions = list(range(1, 200))
    random.Random(7).shuffle(versions)
    lease = await miss(cache)
    fills = [cache.fill(lease, version, b"%d" % version) for version in versions]
    floors = [cache.invalidate([Invalidation("customers", "C1", version)]) for version in versions]
    work: list[Coroutine[Any, Any, object]] = [*fills, *floors]
    random.Random(8).shuffle(work)
    busy = asyncio.Semaphore(32)  # connections at once

    async def do(step: Coroutine[Any, Any, object]) -> None:
        async with busy:
            await step

    await asyncio.gather(*(do(step) for step in work))
    assert await cache.get("customers", "C1") in {None, b"199"}
    assert await cache.fill(lease, 199, b"199")
    assert not await cache.fill(lease, 198, b"198")
    assert await cache.get("customers", "C1") == b"199"


async def test_of_a_thousand_keys_at_once_each_is_invalidated_by_its_own_version(cache: VersionedCache) -> None:
    keys = [f'C{number} "é\n' for number in range(1_000)]  # several calls of the script
    leases = {key: await miss(cache, key) for key in keys[::3]}
    for key, lease in leases.items():
        if key in keys[::2]:
            assert await cache.fill(lease, 500, b"filled")
    await cache.invalidate(Invalidation("customers", key, version) for version, key in enumerate(keys, start=1))
    for version, key in enumerate(keys, start=1):
        if key not in leases:
            continue
        filled = key in keys[::2]
        assert await cache.get("customers", key) == (b"filled" if filled and version <= 500 else None)
        assert not await cache.fill(leases[key], version - 1, b"old")
        assert await cache.fill(leases[key], max(version, 500), b"new")


async def test_a_change_of_what_nobody_reads_leaves_nothing_in_redis(cache: VersionedCache, settings: Settings) -> None:
    await cache.invalidate(Invalidation("customers", f"C{number}", number) for number in range(1, 1_000))
    async with Redis.from_url(str(settings.plain_redis_url)) as client:
        assert not [entry async for entry in client.scan_iter(f"{cache.entry('customers', '')}*")]
    # Who asks now has read what was committed before the invalidation.
    assert await cache.fill(await miss(cache, "C7"), 7, b"seven")


async def test_a_version_above_any_of_32_bits_is_kept_to_the_last_digit(cache: VersionedCache) -> None:
    lease, version = await miss(cache), 2**53 - 1
    await cache.invalidate([Invalidation("customers", "C1", version)])
    assert not await cache.fill(lease, version - 1, b"old")
    assert await cache.fill(lease, version, b"new")


async def test_readers_who_miss_at_the_same_time_have_the_same_lease_and_later_ones_the_data(
    cache: VersionedCache,
) -> None:
    first, second = await miss(cache), await miss(cache)
    assert first == second
    assert await cache.fill(first, 1, b"one")
    assert await cache.get_or_lease("customers", "C1") == b"one"
    assert await cache.fill(second, 2, b"two")


async def test_a_row_read_before_redis_lost_its_memory_does_not_fill_the_cache_afterwards(
    cache: VersionedCache, settings: Settings
) -> None:
    lease = await miss(cache)
    await cache.invalidate([Invalidation("customers", "C1", 2)])
    async with Redis.from_url(str(settings.plain_redis_url)) as client:
        await client.delete(lease.entry)  # as by a restart without a disk, or by the floor's time to live
    assert not await cache.fill(lease, 1, b"old")
    # Nor when another reader has made the entry anew meanwhile.
    assert await miss(cache) != lease
    assert not await cache.fill(lease, 1, b"old")


async def test_what_another_declaration_has_left_is_not_served_and_is_replaced(
    cache: VersionedCache, settings: Settings
) -> None:
    entry = cache.entry("customers", "C1")
    async with Redis.from_url(str(settings.plain_redis_url)) as client:
        for form in ([], ["form", "another"]):
            await client.delete(entry)
            await client.hset(entry, items=["version", 1, "data", "of before", *form])
            assert await cache.get("customers", "C1") is None
            lease = await miss(cache)
            assert await cache.fill(lease, 1, b"of now")
            assert await cache.get("customers", "C1") == b"of now"
        # The other way about, a newer version beside this one: its entry is invalidated as ours is.
        await client.hset(entry, mapping={"form": "another", "data": "of another"})
        await cache.invalidate([Invalidation("customers", "C1", 2)])
        assert await client.hget(entry, "data") is None
        assert not await cache.fill(lease, 1, b"of now")


ODD = {
    "text": ("SET", "{0}", "text"),
    "list": ("RPUSH", "{0}", "text"),
    "a version that is no number": ("HSET", "{0}", "version", "abc", "data", "[]"),
    "a floor that is no number": ("HSET", "{0}", "floor", "abc", "lease", "x"),
    "no version": ("HSET", "{0}", "data", "[]"),
}


@pytest.mark.parametrize("command", ODD.values(), ids=ODD)
async def test_what_is_no_entry_stops_no_invalidation_and_is_replaced(
    cache: VersionedCache, settings: Settings, command: tuple[str, ...]
) -> None:
    assert await cache.fill(await miss(cache, "C2"), 1, b"old")
    entry = cache.entry("customers", "C1")
    async with Redis.from_url(str(settings.plain_redis_url)) as client:
        for first_of_all in ("invalidated", "read"):
            await client.delete(entry)
            await client.eval("redis.call(unpack(ARGV))", 0, *(part.format(entry) for part in command))
            if first_of_all == "invalidated":
                await cache.invalidate([Invalidation("customers", key, 2) for key in ("C1", "C2")])
                assert await cache.get("customers", "C2") is None
            assert await cache.get("customers", "C1") is None
            assert await cache.fill(await miss(cache), 3, b"new")
            assert await cache.get("customers", "C1") == b"new"
