"""The versions of keys in Postgres, Elasticsearch and the Redis cache, page by page. Changes nothing."""

# ruff: noqa: S608 (only names of ours are put into SQL)

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple, Protocol

from elasticsearch import AsyncElasticsearch
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.settings import Settings
from schemas.dataset import Dataset
from stores.cache import VersionedCache
from stores.search_index import alias_name
from stores.tables import same_key

PAGE = 2_000
"""Keys per question: what bounds the memory."""

NO_INDEX = "index_not_found_exception"

Versions = dict[str, int]
"""Key text → version."""


class Held(NamedTuple):
    """An entry of a store."""

    version: int
    record: bool = True
    """False for an entry that says there is no such record."""
    serves: bool = True
    """False for a cache's floor alone: readers get no answer from it."""


Holdings = dict[str, Held]


class Follower(Protocol):
    """A store that follows Postgres."""

    name: str
    group: str
    """The consumer group that fills it."""
    complete: bool
    """True if it must hold every row; a cache holds what was asked for."""

    async def versions(self, dataset: Dataset, keys: Sequence[str]) -> Holdings:
        """Its entries, of those of the keys that it knows."""

    def pages(self, dataset: Dataset) -> AsyncIterator[Sequence[str]]:
        """The keys of all records that it holds; one may come twice."""


class Rows:
    """The truth: the rows in Postgres."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def pages(self, dataset: Dataset) -> AsyncIterator[Versions]:
        """All rows by key. Each page is a query of its own, so that no snapshot is held for the whole walk."""
        names = ", ".join(f't."{name}"' for name in dataset.key)
        last: list[str] | None = None
        while True:
            after = ", ".join(f"CAST(:k{number} AS text)" for number in range(len(dataset.key)))
            where = f"WHERE ({names}) > ({after})" if last else ""
            statement = text(
                f"SELECT t.version, {', '.join(map(_as_text, dataset.key))} "
                f'FROM "{dataset.table}" t {where} ORDER BY {names} LIMIT {PAGE}'
            )
            values = {f"k{number}": value for number, value in enumerate(last or ())}
            async with self._engine.connect() as connection:
                rows = (await connection.execute(statement, values)).all()
            if rows:
                yield {dataset.key_text(dict(zip(dataset.key, row[1:], strict=True))): row[0] for row in rows}
            if len(rows) < PAGE:
                return
            last = list(rows[-1][1:])

    async def versions(self, dataset: Dataset, keys: Sequence[str]) -> Versions:
        """The versions of those of the keys that have a row."""
        fields = []
        for key in keys:
            try:
                fields.append(dataset.key_fields(key))
            except ValueError:
                continue  # no row can have it
        arrays = ", ".join(f"CAST(:k{number} AS text[])" for number in range(len(dataset.key)))
        names = ", ".join(f'"{name}"' for name in dataset.key)
        statement = text(
            f"SELECT t.version, {', '.join(map(_as_text, dataset.key))} "
            f'FROM unnest({arrays}) AS w ({names}) JOIN "{dataset.table}" t ON {same_key(dataset, "w")}'
        )
        values = {f"k{number}": [one[name] for one in fields] for number, name in enumerate(dataset.key)}
        async with self._engine.connect() as connection:
            rows = (await connection.execute(statement, values)).all()
        return {dataset.key_text(dict(zip(dataset.key, row[1:], strict=True))): row[0] for row in rows}

    async def tombstones(self, dataset: Dataset, keys: Sequence[str]) -> Versions:
        """The versions of those of the keys that have been deleted and are remembered as such."""
        statement = text("SELECT key, version FROM tombstones WHERE dataset = :dataset AND key = ANY(:keys)")
        async with self._engine.connect() as connection:
            rows = (await connection.execute(statement, {"dataset": dataset.name, "keys": list(keys)})).all()
        return {row.key: row.version for row in rows}


class StoreTrouble(Exception):
    """A store answers, but not with what was asked for."""


class Documents:
    """The documents in Elasticsearch: their external versions are those of the rows."""

    name = "elasticsearch"
    group = "sink-elasticsearch"
    complete = True

    def __init__(self, client: AsyncElasticsearch, settings: Settings) -> None:
        self._client = client
        self._settings = settings

    async def versions(self, dataset: Dataset, keys: Sequence[str]) -> Holdings:
        if not keys:
            return {}
        index = alias_name(dataset, self._settings)
        answer = await self._client.mget(index=index, ids=list(keys), source=False)
        held: Holdings = {}
        for document in answer["docs"]:
            error = document.get("error")
            if error and error["type"] != NO_INDEX:
                raise StoreTrouble(f"can't read {index}/{document['_id']}: {error['type']}: {error['reason']}")
            if document.get("found"):
                held[document["_id"]] = Held(document["_version"])
        return held

    async def pages(self, dataset: Dataset) -> AsyncIterator[Sequence[str]]:
        index = alias_name(dataset, self._settings)
        if not await self._client.indices.exists(index=index):
            return  # the sink makes it with its next batch, and so does its restart
        await self._client.indices.refresh(index=index)
        pit = (await self._client.open_point_in_time(index=index, keep_alive="2m"))["id"]
        after: list[Any] | None = None
        try:
            while True:
                answer = await self._client.search(
                    pit={"id": pit, "keep_alive": "2m"}, size=PAGE, sort=["_shard_doc"], search_after=after,
                    source=False, track_total_hits=False, allow_partial_search_results=False,
                )  # fmt: skip
                pit, hits = answer["pit_id"], answer["hits"]["hits"]
                if not hits:
                    return
                yield [hit["_id"] for hit in hits]
                after = hits[-1]["sort"]
        finally:
            await self._client.close_point_in_time(id=pit)


class CacheEntries:
    """The entries in the Redis cache, and its floors: one above the row keeps the row out of the cache."""

    name = "redis"
    group = "sink-redis"
    complete = False

    def __init__(self, client: Redis, settings: Settings) -> None:
        self._client = client
        self._cache = VersionedCache(client, settings)

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


def _as_text(name: str) -> str:
    return f'CAST(t."{name}" AS text)'
