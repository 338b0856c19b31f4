"""Each store is damaged by hand in every way; the deep audit names the key and the way."""

from collections.abc import AsyncIterator, Sequence

import pytest
from elasticsearch import AsyncElasticsearch
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import create_async_engine

from monitoring.deep_audit import StoreAudit, audit_store
from monitoring.store_versions import CacheEntries, Documents, Holdings, Rows
from runtime.cache import ABSENT, Invalidation, VersionedCache
from runtime.search_index import alias_name, ensure_indices, index_name
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.registry import all_datasets, dataset_named
from tests.integration.postgres_sink_driver import Driver, customer, driver

CUSTOMERS = dataset_named("customers")


@pytest.fixture
async def sink(migrated_settings: Settings) -> AsyncIterator[Driver]:
    async with driver(migrated_settings) as sink:
        await sink.write(*(customer(f"C{number}", number) for number in range(5)))
        yield sink


@pytest.fixture
async def client(migrated_settings: Settings) -> AsyncIterator[AsyncElasticsearch]:
    assert migrated_settings.elasticsearch_url
    async with AsyncElasticsearch(migrated_settings.elasticsearch_url) as client:
        await ensure_indices(client, migrated_settings)
        yield client
        for dataset in all_datasets():
            await client.indices.delete(index=index_name(dataset, migrated_settings), ignore_unavailable=True)


async def compared(settings: Settings, store: Documents | CacheEntries, wait: float = 0) -> StoreAudit:
    engine = create_async_engine(settings.async_database_url)
    try:
        return await audit_store(Rows(engine), store, CUSTOMERS, wait, lambda _: None)
    finally:
        await engine.dispose()


async def test_documents_that_do_not_follow_their_rows_are_named(
    migrated_settings: Settings, sink: Driver, client: AsyncElasticsearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitoring.store_versions.PAGE", 2)
    index = alias_name(CUSTOMERS, migrated_settings)
    versions = {key: (await sink.row(key))["version"] for key in ("C0", "C1", "C2", "C3", "C4")}

    async def put(key: str, version: int) -> None:
        await client.index(index=index, id=key, document={}, version=version, version_type="external")

    for key, version in versions.items():
        await put(key, version + {"C1": -1, "C2": 1}.get(key, 0))
    store = Documents(client, migrated_settings)
    await client.delete(index=index, id="C3")
    await put("GONE", 1)
    result = await compared(migrated_settings, store)
    assert result.differences == {"C1": "stale", "C2": "newer", "C3": "missing", "GONE": "orphaned"}
    assert (result.compared, result.clean) == (5, False)


async def test_cache_entries_that_do_not_follow_their_rows_are_named_and_right_ones_are_not(
    migrated_settings: Settings, sink: Driver
) -> None:
    versions = {key: (await sink.row(key))["version"] for key in ("C0", "C1", "C2", "C3", "C4")}
    async with Redis.from_url(migrated_settings.redis_url) as redis:
        cache = VersionedCache(redis, migrated_settings)
        await cache.fill("customers", "C0", versions["C0"], b"{}")
        await cache.fill("customers", "C1", versions["C1"] - 1, b"{}")
        await cache.fill("customers", "C2", 0, ABSENT)
        await cache.invalidate([Invalidation("customers", "C3", versions["C3"] + 1)])
        await cache.invalidate([Invalidation("customers", "C4", versions["C4"] - 1)])
        await cache.fill("customers", "GONE", 1, b"{}")
        await cache.fill("customers", "NEVER", 0, ABSENT)
        await cache.invalidate([Invalidation("customers", "DELETED", 9)])
        result = await compared(migrated_settings, CacheEntries(redis, migrated_settings))
    assert result.differences == {"C1": "stale", "C2": "stale", "C3": "newer", "GONE": "orphaned"}


async def test_what_catches_up_while_it_is_looked_at_again_is_no_difference(
    migrated_settings: Settings, sink: Driver
) -> None:
    version = (await sink.row("C0"))["version"]
    async with Redis.from_url(migrated_settings.redis_url) as redis:
        cache = VersionedCache(redis, migrated_settings)
        await cache.fill("customers", "C0", version - 1, b"{}")

        class CatchesUp(CacheEntries):
            asked = 0

            async def versions(self, dataset: Dataset, keys: Sequence[str]) -> Holdings:
                self.asked += 1
                if self.asked == 3:
                    await cache.invalidate([Invalidation("customers", "C0", version)])
                return await super().versions(dataset, keys)

        result = await compared(migrated_settings, CatchesUp(redis, migrated_settings), wait=30)
    assert result.clean
