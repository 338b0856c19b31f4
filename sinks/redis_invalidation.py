"""`headrace sink redis`: *.changed → version floors in the read cache, so that no reader keeps an older row."""

from collections.abc import Awaitable, Sequence

import redis.exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from runtime.errors import Backpressure
from runtime.settings import Settings
from schemas.registry import all_datasets
from sinks.changes import ChangeReader
from sinks.sink import Message
from stores.cache import Invalidation, VersionedCache

STORE = "Redis"

# Scripts and keys are ours and fixed, so another answer than a lost connection means: not now (loading, out of memory,
# a read-only replica).
_OUTAGES = (redis.exceptions.RedisError, OSError, TimeoutError)

_BUGS = (redis.exceptions.DataError, redis.exceptions.NoPermissionError, redis.exceptions.AuthenticationError)

TIMEOUT_SECONDS = 10.0


class RedisInvalidationSink:
    """Implements Sink. The change events of a key may come in any order: the highest version stays the floor."""

    name = "redis"
    group = "sink-redis"

    def __init__(self, settings: Settings) -> None:
        if settings.redis_url is None:
            raise ValueError("REDIS_URL is none: there is no cache to keep fresh")
        self._client = Redis.from_url(
            settings.redis_url,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),  # the loop retries, and says so
        )
        self._cache = VersionedCache(self._client, settings)
        self._reader = ChangeReader(settings)
        self.paused: dict[str, str] = {}

    @property
    def topics(self) -> tuple[str, ...]:
        return tuple(dataset.changed_topic for dataset in all_datasets())

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
            raise Backpressure(STORE, f"{type(error).__name__}: {error}") from error
        return None

    async def close(self) -> None:
        await self._client.aclose()
