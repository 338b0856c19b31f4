"""Single records: Redis first, then Postgres, which fills Redis. Bytes from Redis are served as they are."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Literal, get_args

from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api import access
from api.answers import JSON, encode, etag_of, names
from api.clients import Clients
from api.current_request import measured
from api.database import reading
from api.middleware import ROUTE
from api.problems import ProblemAnswer
from api.queries.records import read_one
from runtime.instruments import from_zero
from runtime.metrics import CACHE_FILLS, CACHE_READS
from schemas.dataset import Dataset
from stores.cache import ABSENT, Invalidation, VersionedCache
from stores.redis_client import RedisError

CacheUse = Literal["hit", "miss", "bypass"]
"""As the answers say it, in `X-Cache`."""

NO_CACHE = "none"
"""Counts reads where there is no Redis by configuration: nothing is passed by there, and nobody is to be told."""

MAX_KEY_LENGTH = 1000
"""Longer than the key of any record; not worth asking a store for."""

MOST_READS = 5
"""Reads of Postgres for one answer. Two are needed when a record changes in between, more only if it does so again."""


class CachedReads:
    """Middleware that answers reads of cached records with Redis' bytes, before they are routed.

    Answers what the endpoint would answer, byte for byte. Everything else goes on to the endpoint: what is not cached
    or not there, has parameters, or may have to be compressed.
    """

    def __init__(self, app: ASGIApp, datasets: Mapping[str, Dataset], below: int) -> None:
        """`datasets` by the templates of their routes; answers of `below` bytes and more are not for here."""
        self._app = app
        self._datasets = [(template.partition("{")[0], template, dataset) for template, dataset in datasets.items()]
        self._below = below

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = None
        plain = (
            scope["type"] == "http" and scope["method"] == "GET" and not (scope["query_string"] or scope["root_path"])
        )
        if plain and access.Scope.READ in access.caller_of(scope).scopes:  # others are refused by the route, as ever
            path = scope["path"]
            for begins, template, dataset in self._datasets:
                if path.startswith(begins) and "\n" not in path:  # no route takes a line feed
                    if answer := await self._answer(scope, dataset, path[len(begins) :]):
                        scope[ROUTE] = template
                    break
        await (answer or self._app)(scope, receive, send)

    async def _answer(self, scope: Scope, dataset: Dataset, key: str) -> Response | None:
        if (normal := normal_key(dataset, key)) is None:
            return None
        content, use = await _ask_cache(scope["app"].state.clients, dataset, normal)
        if not content or len(content) >= self._below:
            return None
        CACHE_READS.inc((dataset.name, use))
        given = next((value for name, value in scope["headers"] if name == b"if-none-match"), None)
        return _found(content, use, None if given is None else given.decode("latin-1"))


def count_from_zero(datasets: Iterable[Dataset]) -> None:
    """Show that no record has been read yet. To be called when the process starts."""
    cached = [dataset.name for dataset in datasets]
    from_zero(CACHE_READS, cached, (*get_args(CacheUse), NO_CACHE))
    from_zero(CACHE_FILLS, cached, ("taken", "refused"))


async def serve_record(request: Request, dataset: Dataset, key: str) -> Response:
    """One record; 304 if the caller has it. Raises ProblemAnswer where there is none, and what `read_record` raises."""
    content, use = await read_record(request.app.state.clients, dataset, key)
    if not content:
        detail = f"There is no record {key[:200]!r} in {dataset.name}"
        raise ProblemAnswer(HTTPStatus.NOT_FOUND, "not-found", detail, {"X-Cache": use})
    return _found(content, use, request.headers.get("if-none-match"))


def _found(content: bytes, use: CacheUse, if_none_match: str | None) -> Response:
    headers = {"X-Cache": use, "ETag": etag_of(content)}
    if names(if_none_match, headers["ETag"]):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(content, headers=headers, media_type=JSON)


def normal_key(dataset: Dataset, key: str) -> str | None:
    """The key under which a record is kept that was sent with this one; None for what no record can have as its key."""
    if len(key) > MAX_KEY_LENGTH:
        return None
    try:
        return dataset.normal_key(key)
    except ValueError:
        return None


async def _ask_cache(clients: Clients, dataset: Dataset, key: str) -> tuple[bytes | None, CacheUse]:
    """The cached JSON, None if nothing is cached or there is no Redis (`bypass`)."""
    cache = clients.cache
    if cache is None or not clients.redis_breaker.closed:
        return None, "bypass"
    try:
        with measured("redis"):
            cached = await cache.get(dataset.name, key)
    except (RedisError, OSError) as error:
        clients.redis_breaker.failed(error)
        return None, "bypass"
    clients.redis_breaker.succeeded()
    return cached, "miss" if cached is None else "hit"


async def read_record(clients: Clients, dataset: Dataset, key: str) -> tuple[bytes, CacheUse]:
    """The JSON of the record that was sent with this key, ABSENT (empty) if there is none; and the cache's part in it.

    Without Redis it comes from Postgres (`bypass`). Raises Unavailable if neither has an answer.
    """
    if (normal := normal_key(dataset, key)) is None:
        return ABSENT, "bypass"
    key, fields = normal, dataset.key_fields(normal)
    cached, use = await _ask_cache(clients, dataset, key)
    CACHE_READS.inc((dataset.name, NO_CACHE if clients.cache is None else use))
    if cached is not None:
        return cached, use

    async def load() -> bytes:
        if clients.cache and use == "miss":
            return await _read_and_fill(clients, clients.cache, dataset, key, fields)
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
            taken = await cache.fill(lease, version, content)
            CACHE_FILLS.inc((dataset.name, "taken" if taken else "refused"))
            if taken:
                return content
        except (RedisError, OSError) as error:
            clients.redis_breaker.failed(error)
            content, _ = await _read(clients, dataset, fields)
            return content
    return content
