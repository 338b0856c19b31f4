"""Single records: Redis first, then Postgres, which fills Redis. Bytes from Redis are served as they are."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Literal

from fastapi import Request, Response
from redis.exceptions import RedisError

from api.answers import JSON, encode, etag_of, names
from api.clients import Clients
from api.current_request import measured
from api.database import reading
from api.problems import ProblemAnswer
from api.queries.records import read_one
from schemas.dataset import Dataset
from stores.cache import ABSENT, Invalidation, VersionedCache

CacheUse = Literal["hit", "miss", "bypass"]

MAX_KEY_LENGTH = 1000
"""Longer than the key of any record; not worth asking a store for."""

MOST_READS = 5
"""Reads of Postgres for one answer. Two are needed when a record changes in between, more only if it does so again."""


async def serve_record(request: Request, dataset: Dataset, key: str) -> Response:
    """One record; 304 if the caller has it. Raises ProblemAnswer where there is none, and what `read_record` raises.

    Takes its clients from the application: the most frequent read does without a dependency.
    """
    content, use = await read_record(request.app.state.clients, dataset, key)
    headers: dict[str, str] = {"X-Cache": use}
    if not content:
        detail = f"There is no record {key[:200]!r} in {dataset.name}"
        raise ProblemAnswer(HTTPStatus.NOT_FOUND, "not-found", detail, headers)
    headers["ETag"] = etag_of(content)
    if names(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(content, headers=headers, media_type=JSON)


async def read_record(clients: Clients, dataset: Dataset, key: str) -> tuple[bytes, CacheUse]:
    """The JSON of the record that was sent with this key, ABSENT (empty) if there is none; and the cache's part in it.

    Without Redis it comes from Postgres (`bypass`). Raises Unavailable if neither has an answer.
    """
    if len(key) > MAX_KEY_LENGTH:
        return ABSENT, "bypass"
    try:
        key = dataset.normal_key(key)
    except ValueError:
        return ABSENT, "bypass"
    fields = dataset.key_fields(key)
    use: CacheUse = "bypass"
    if (cache := clients.cache) and clients.redis_breaker.closed:
        try:
            with measured("redis"):
                cached = await cache.get(dataset.name, key)
        except (RedisError, OSError) as error:
            clients.redis_breaker.failed(error)
        else:
            clients.redis_breaker.succeeded()
            if cached is not None:
                return cached, "hit"
            use = "miss"

    async def load() -> bytes:
        if cache and use == "miss":
            return await _read_and_fill(clients, cache, dataset, key, fields)
        content, _ = await _read(clients, dataset, fields)
        return content

    return await clients.record_loads.load(f"{dataset.name}:{key}:{use}", load), use


async def forget(clients: Clients, dataset: Dataset, versions: Mapping[str, int]) -> None:
    """Have the cache forget these keys' older versions now, so that the writer reads the new record.

    Best effort: the Redis sink does the same when the event comes, and without Redis reads come from Postgres anyway.
    """
    if not versions or clients.cache is None or not clients.redis_breaker.closed:
        return
    try:
        with measured("redis"):
            await clients.cache.invalidate(Invalidation(dataset.name, *item) for item in versions.items())
    except (RedisError, OSError) as error:
        clients.redis_breaker.failed(error)
    else:
        clients.redis_breaker.succeeded()


async def _read(clients: Clients, dataset: Dataset, fields: Mapping[str, str]) -> tuple[bytes, int]:
    async with reading(clients.engine) as connection:
        found = await read_one(connection, dataset, fields)
    return (encode(found.row), found.version) if found else (ABSENT, 0)


async def _read_and_fill(
    clients: Clients, cache: VersionedCache, dataset: Dataset, key: str, fields: Mapping[str, str]
) -> bytes:
    """Read until what was read is taken by the cache: what it refuses may be older than what others have seen.

    Without Redis the first read counts. So does the last, where a record changes faster than it can be read.
    """
    content = ABSENT
    for _ in range(MOST_READS):
        try:
            lease = await cache.get_or_lease(dataset.name, key)
            if isinstance(lease, bytes):
                return lease
            content, version = await _read(clients, dataset, fields)
            if await cache.fill(lease, version, content):
                return content
        except (RedisError, OSError) as error:
            clients.redis_breaker.failed(error)
            content, _ = await _read(clients, dataset, fields)
            return content
    return content
