"""Single records: Redis first, then Postgres, which fills Redis."""

from dataclasses import dataclass
from typing import Literal

from redis.exceptions import RedisError

from api.clients import Clients
from api.database import reading
from api.queries.records import read_one
from api.served_json import encode
from api.timing import measured
from runtime.cache import ABSENT
from schemas.dataset import Dataset

CacheUse = Literal["hit", "miss", "bypass"]

MAX_KEY_LENGTH = 1000
"""Longer than the key of any record; not worth asking a store for."""


@dataclass(frozen=True)
class CachedRead:
    """The record as JSON, or None if there is none; and what the cache had to do with it."""

    content: bytes | None
    cache: CacheUse


async def read_record(clients: Clients, dataset: Dataset, key: str) -> CachedRead:
    """The record with this key text. Without Redis it comes from Postgres (`bypass`).

    Raises Unavailable if it is not cached and Postgres does not answer.
    """
    try:
        fields = dataset.key_fields(key)
    except ValueError:
        return CachedRead(None, "bypass")
    if len(key) > MAX_KEY_LENGTH or "\x00" in key:
        return CachedRead(None, "bypass")
    use: CacheUse = "bypass"
    if clients.redis_breaker.closed:
        try:
            with measured("redis"):
                cached = await clients.cache.get(dataset.name, key)
        except (RedisError, OSError) as error:
            clients.redis_breaker.failed(error)
        else:
            clients.redis_breaker.succeeded()
            if cached is not None:
                return CachedRead(cached or None, "hit")
            use = "miss"

    async def load() -> bytes:
        async with reading(clients.engine) as connection:
            found = await read_one(connection, dataset, fields)
        content, version = (encode(found.row), found.version) if found else (ABSENT, 0)
        if use == "miss":
            await _fill(clients, dataset, key, version, content)
        return content

    content = await clients.record_loads.load(f"{dataset.name}:{key}", load)
    return CachedRead(content or None, use)


async def _fill(clients: Clients, dataset: Dataset, key: str, version: int, content: bytes) -> None:
    """Best effort: a fill that is refused or fails costs the next reader a read, nothing else."""
    try:
        await clients.cache.fill(dataset.name, key, version, content)
    except (RedisError, OSError) as error:
        clients.redis_breaker.failed(error)
