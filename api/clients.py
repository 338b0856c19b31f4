"""The clients of the stores, made when the application starts and closed when it stops; endpoints depend on them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import structlog
from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncEngine

from api.database import close_pool, read_engine, reading
from api.single_flight import SingleFlight
from runtime.kafka.topic_admin import LastingAdmin
from runtime.settings import Settings
from stores.cache import READ_SECONDS, VersionedCache
from stores.outages import Unavailable
from stores.redis_client import NoBackoff, Redis, Retry, redis_words
from stores.search_server import SearchServer

REDIS_CONNECTIONS = 100

ELASTICSEARCH_SECONDS = 3.0

PAUSE_SECONDS = 1.0
"""Between two tries of a store that has failed."""

log = structlog.get_logger()


class Breaker:
    """Leaves a store alone for a moment after it failed, so that not every request waits for its timeout.

    Logs once per change. `clock` counts seconds.
    """

    def __init__(self, store: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._retry_at: float | None = None

    @property
    def closed(self) -> bool:
        """True if the store may be asked now."""
        return self._retry_at is None or self._clock() >= self._retry_at

    def failed(self, error: BaseException) -> None:
        """Ask it again after PAUSE_SECONDS at the earliest."""
        if self._retry_at is None:
            log.warning("store_lost", store=self._store, reason=redis_words(error))
        self._retry_at = self._clock() + PAUSE_SECONDS

    def succeeded(self) -> None:
        if self._retry_at is not None:
            log.info("store_back", store=self._store)
            self._retry_at = None


@dataclass(frozen=True)
class Clients:
    """Everything that endpoints ask. Redis and its cache, and Elasticsearch, are None where there is none."""

    settings: Settings
    engine: AsyncEngine
    redis: Redis | None
    cache: VersionedCache | None
    elasticsearch: SearchServer | None
    kafka: LastingAdmin
    redis_breaker: Breaker = field(default_factory=lambda: Breaker("redis"))
    elasticsearch_breaker: Breaker = field(default_factory=lambda: Breaker("elasticsearch"))
    record_loads: SingleFlight[bytes] = field(default_factory=SingleFlight)


def from_state(name: str) -> Any:
    """A dependency: the object of that name that lives as long as the application.

    `async` although nothing is awaited: FastAPI sends plain functions to a thread, which costs more than most reads.
    """

    async def of_application(request: Request) -> Any:
        return getattr(request.app.state, name)

    return Depends(of_application)


OurClients = Annotated[Clients, from_state("clients")]


@asynccontextmanager
async def open_clients(settings: Settings) -> AsyncIterator[Clients]:
    """The clients, with the pool filled to its minimum if Postgres answers. A store that is down is no error."""
    redis = None
    if settings.plain_redis_url:
        redis = Redis.from_url(
            settings.plain_redis_url,
            max_connections=REDIS_CONNECTIONS,
            socket_timeout=READ_SECONDS,
            socket_connect_timeout=READ_SECONDS,
            # Once more at once: a pooled connection may be the one that a restart of Redis has closed.
            retry=Retry(NoBackoff(), 1),
        )
    cache = VersionedCache(redis, settings) if redis else None
    elasticsearch = SearchServer(settings, ELASTICSEARCH_SECONDS) if settings.elasticsearch_url else None
    engine = read_engine(settings)
    try:
        await _fill_pool(engine, min(settings.database_pool_min, settings.database_pool_max))
        yield Clients(settings, engine, redis, cache, elasticsearch, LastingAdmin(settings))
    finally:
        await close_pool(engine)
        if redis:
            await redis.aclose()
        if elasticsearch:
            await elasticsearch.close()


async def _fill_pool(engine: AsyncEngine, connections: int) -> None:
    """Open this many connections, so that the first requests don't wait for them."""
    all_open = asyncio.Barrier(connections)

    async def hold_one() -> None:
        async with reading(engine):
            await all_open.wait()

    try:
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(hold_one())
    except (ExceptionGroup, Unavailable, TimeoutError):
        return  # Postgres is down: /api/health says so, and requests open connections when it is back.
