"""The read cache in Redis: filled by readers, invalidated by the sink, and never stale.

One hash per record, `{data, version, floor}`. An invalidation leaves the version it announced as a *floor*; a fill with
an older version is refused, so a reader who read Postgres before a commit cannot fill the cache after it. Both are one
Lua script, atomic in Redis. Absence is cached too, as version 0 with empty data.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass

from redis.asyncio import Redis

from runtime.settings import Settings

ABSENT = b""

# KEYS[1] entry; ARGV: version, floor's time to live in ms.
INVALIDATE = """
local floor = tonumber(redis.call('HGET', KEYS[1], 'floor') or '0')
local held = tonumber(redis.call('HGET', KEYS[1], 'version') or '-1')
local version = tonumber(ARGV[1])
if version > floor then redis.call('HSET', KEYS[1], 'floor', ARGV[1]) end
if held < version then redis.call('HDEL', KEYS[1], 'version', 'data') end
redis.call('PEXPIRE', KEYS[1], math.max(tonumber(ARGV[2]), redis.call('PTTL', KEYS[1])))
return 1
"""

# KEYS[1] entry; ARGV: version, data, time to live in ms. Returns 1 if taken, 0 if a newer version is known.
FILL = """
local version = tonumber(ARGV[1])
if version < tonumber(redis.call('HGET', KEYS[1], 'floor') or '0') then return 0 end
if version < tonumber(redis.call('HGET', KEYS[1], 'version') or '-1') then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'data', ARGV[2])
redis.call('PEXPIRE', KEYS[1], math.max(tonumber(ARGV[3]), redis.call('PTTL', KEYS[1])))
return 1
"""


@dataclass(frozen=True)
class Invalidation:
    """A record of `dataset` with that key is now at `version`."""

    dataset: str
    key: str
    version: int


class VersionedCache:
    """Reads, fills and invalidates. Raises redis.exceptions.RedisError when Redis is gone; callers decide."""

    def __init__(self, client: Redis, settings: Settings) -> None:
        self._client = client
        self._prefix = settings.named("cache")
        self._ttl_ms = settings.cache_ttl_seconds * 1000
        self._missing_ttl_ms = settings.cache_missing_ttl_seconds * 1000
        self._floor_ttl_ms = settings.cache_floor_ttl_seconds * 1000
        self._fill = client.register_script(FILL)
        self._invalidate = client.register_script(INVALIDATE)

    def entry(self, dataset: str, key: str) -> str:
        """The Redis key of a record's entry."""
        return f"{self._prefix}:{dataset}:{key}"

    async def get(self, dataset: str, key: str) -> bytes | None:
        """The cached JSON, ABSENT (empty) if the record is known not to exist, None if nothing is cached."""
        data = await self._client.hget(self.entry(dataset, key), "data")
        return data.encode() if isinstance(data, str) else data

    async def fill(self, dataset: str, key: str, version: int, data: bytes) -> bool:
        """Cache what was read from Postgres; ABSENT with version 0 for a missing record. False if refused as stale.

        The time to live is spread by a tenth, so entries filled together do not expire together.
        """
        ttl = self._ttl_ms if data else self._missing_ttl_ms
        spread = round(ttl * random.uniform(0.9, 1.1))  # noqa: S311 (spreads load, guards no secret)
        return bool(await self._fill(keys=[self.entry(dataset, key)], args=[version, data, spread]))

    async def invalidate(self, invalidations: Iterable[Invalidation]) -> None:
        """Forget older versions and refuse them for the floor's time. Idempotent, in any order."""
        pipeline = self._client.pipeline(transaction=False)
        for item in invalidations:
            await self._invalidate(
                keys=[self.entry(item.dataset, item.key)], args=[item.version, self._floor_ttl_ms], client=pipeline
            )
        await pipeline.execute()
