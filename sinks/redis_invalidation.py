"""`headrace sink redis`: *.changed → version floors in the read cache, so that no reader keeps an older row."""

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Self

import msgspec

from runtime.errors import Backpressure
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.sinks import sink_named
from sinks.changes import ChangeReader
from sinks.sink import PAGE, Held, Holdings, Message
from stores.cache import Invalidation, VersionedCache
from stores.redis_client import AuthenticationError, DataError, NoBackoff, Redis, RedisError, Retry, redis_words

STORE = "Redis"

# Scripts and keys are ours and fixed, so another answer than a lost connection means: not now (loading, out of memory,
# a read-only replica, a user without the right).
_OUTAGES = (RedisError, OSError, TimeoutError)

_BUGS = (DataError, AuthenticationError)

TIMEOUT_SECONDS = 10.0


class ChangedVersion(msgspec.Struct, frozen=True, gc=False):
    """The part of a ChangeEvent that the cache has to know."""

    key: str
    version: int


class RedisInvalidationSink:
    """Implements Sink. The change events of a key may come in any order: the highest version stays the floor."""

    name = "redis"

    def __init__(self, settings: Settings) -> None:
        if settings.plain_redis_url is None:
            raise ValueError("REDIS_URL is none: there is no cache to keep fresh")
        self._client = Redis.from_url(
            settings.plain_redis_url,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),  # the loop retries, and says so
        )
        self._cache = VersionedCache(self._client, settings)
        self._reader = ChangeReader(settings, ChangedVersion)
        self.paused: dict[str, str] = {}

    async def setup(self) -> None:
        """Nothing to make ready: the script travels with the first batch."""

    def prepare(self, messages: Sequence[Message]) -> list[Invalidation]:
        return [
            Invalidation(dataset.name, change.key, change.version) for dataset, change in self._reader.newest(messages)
        ]

    async def write(self, batch: list[Invalidation]) -> Awaitable[None] | None:
        try:
            await self._cache.invalidate(batch)
        except _BUGS:
            raise
        except _OUTAGES as error:
            raise Backpressure(STORE, f"{type(error).__name__}: {redis_words(error)}") from error
        return None

    async def close(self) -> None:
        await self._client.aclose()


class CacheEntries:
    """The entries in the Redis cache, and its floors: one above the row keeps the row out of the cache."""

    name = "redis"
    group = sink_named("redis").group
    complete = False

    def __init__(self, client: Redis, settings: Settings) -> None:
        self._client = client
        self._cache = VersionedCache(client, settings)

    @classmethod
    @asynccontextmanager
    async def opened(cls, settings: Settings) -> AsyncIterator[Self]:
        if settings.plain_redis_url is None:
            raise ValueError("REDIS_URL is none: there is no cache")
        async with Redis.from_url(settings.plain_redis_url) as client:
            yield cls(client, settings)

    async def versions(self, dataset: Dataset, keys: Sequence[str]) -> Holdings:
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.hmget(self._cache.entry(dataset.name, key), ["version", "floor", "data"])
        held: Holdings = {}
        for key, (version, floor, data) in zip(keys, await pipeline.execute(), strict=True):
            if data is not None:
                held[key] = Held(int(version), record=bool(data))
            elif floor is not None:
                held[key] = Held(int(floor), record=False, serves=False)
        return held

    async def pages(self, dataset: Dataset) -> AsyncIterator[Sequence[str]]:
        prefix = self._cache.entry(dataset.name, "")
        pattern = "".join(f"\\{char}" if char in "\\*?[]" else char for char in prefix) + "*"
        cursor = 0
        while True:
            cursor, entries = await self._client.scan(cursor, match=pattern, count=PAGE)
            names = [entry.decode() if isinstance(entry, bytes) else entry for entry in entries]
            pipeline = self._client.pipeline(transaction=False)
            for name in names:
                pipeline.hget(name, "data")
            answers = await pipeline.execute() if names else []
            # What says "there is no such record", and a floor alone, are right where there is no row.
            yield [name.removeprefix(prefix) for name, data in zip(names, answers, strict=True) if data]
            if not cursor:
                return
