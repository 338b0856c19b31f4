"""Each store is damaged by hand in every way; the deep audit names the key and the way."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis

from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.registry import dataset_named
from services.audits.deep_audit import caught_up
from services.audits.store_comparison import Rows, StoreAudit, audit_store
from sinks.elasticsearch import Documents
from sinks.redis_invalidation import CacheEntries
from sinks.sink import Holdings
from stores.cache import ABSENT, Invalidation, Lease, VersionedCache
from stores.postgres_engine import postgres_engine
from stores.search_index import alias_name, ensure_indices, index_name
from stores.search_server import SearchServer
from tests.integration.postgres_sink_driver import Driver, customer, driver
from tests.integration.sink_events import publish
from tests.integration.test_lag import commit
from tests.search_index import drop_indices, search_server
from tests.waiting import eventually_async

CUSTOMERS = dataset_named("customers")


@pytest.fixture
async def sink(pipeline_settings: Settings) -> AsyncIterator[Driver]:
    async with driver(pipeline_settings) as sink:
        await sink.write(*(customer(f"C{number}", number) for number in range(5)))
        yield sink


@pytest.fixture
async def server(pipeline_settings: Settings) -> AsyncIterator[SearchServer]:
    async with search_server(pipeline_settings) as server:
        await ensure_indices(server, pipeline_settings)
        yield server
        await drop_indices(server, pipeline_settings)


async def compared(settings: Settings, store: Documents | CacheEntries, wait: float = 0) -> StoreAudit:
    engine = postgres_engine(settings)
    try:
        arrived = partial(caught_up, settings, engine, CUSTOMERS, store.group)
        return await audit_store(Rows(engine), store, CUSTOMERS, arrived, wait, lambda _: None)
    finally:
        await engine.dispose()


async def fill(cache: VersionedCache, key: str, version: int, data: bytes) -> None:
    lease = await cache.get_or_lease("customers", key)
    assert isinstance(lease, Lease)
    assert await cache.fill(lease, version, data)


async def test_an_index_whose_shards_are_still_to_be_allocated_is_waited_for(
    server: SearchServer, pipeline_settings: Settings
) -> None:
    store, index = Documents(server, pipeline_settings), index_name(CUSTOMERS, pipeline_settings)
    await server.ask("DELETE", f"/{index}")
    nowhere = {"index.routing.allocation.require._name": "nobody"}
    alias: dict[str, dict[str, str]] = {alias_name(CUSTOMERS, pipeline_settings): {}}
    await server.ask("PUT", f"/{index}?wait_for_active_shards=0", {"settings": nowhere, "aliases": alias})
    reading = asyncio.gather(store.versions(CUSTOMERS, ["C1"]), anext(aiter(store.pages(CUSTOMERS)), None))
    # Both are waiting once Elasticsearch has their questions, one after the other.
    await eventually_async(lambda: waiting_for_allocation(server), what="both wait for the shards")
    await server.ask("PUT", f"/{index}/_settings", dict.fromkeys(nowhere))
    assert tuple(await reading) == ({}, None)


async def waiting_for_allocation(server: SearchServer) -> bool:
    tasks: Any = await server.ask("GET", "/_tasks?actions=cluster:monitor/health&group_by=none")
    return len(tasks["tasks"]) == 2


async def test_documents_that_do_not_follow_their_rows_are_named(
    pipeline_settings: Settings, sink: Driver, server: SearchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.audits.store_comparison.PAGE", 2)
    monkeypatch.setattr("sinks.elasticsearch.PAGE", 2)
    index = alias_name(CUSTOMERS, pipeline_settings)
    versions = {key: (await sink.row(key))["version"] for key in ("C0", "C1", "C2", "C3", "C4")}

    async def put(key: str, version: int) -> None:
        await server.ask("PUT", f"/{index}/_doc/{key}?version={version}&version_type=external", {})

    for key, version in versions.items():
        await put(key, version + {"C1": -1, "C2": 1}.get(key, 0))
    store = Documents(server, pipeline_settings)
    await server.ask("DELETE", f"/{index}/_doc/C3")
    await put("GONE", 1)
    result = await compared(pipeline_settings, store)
    assert result.differences == {"C1": "stale", "C2": "newer", "C3": "missing", "GONE": "orphaned"}
    assert (result.compared, result.clean) == (5, False)


async def test_cache_entries_that_do_not_follow_their_rows_are_named_and_right_ones_are_not(
    pipeline_settings: Settings, sink: Driver
) -> None:
    versions = {key: (await sink.row(key))["version"] for key in ("C0", "C1", "C2", "C3", "C4")}
    async with Redis.from_url(str(pipeline_settings.plain_redis_url)) as redis:
        cache = VersionedCache(redis, pipeline_settings)
        await fill(cache, "C0", versions["C0"], b"{}")
        await fill(cache, "C1", versions["C1"] - 1, b"{}")
        await fill(cache, "C2", 0, ABSENT)
        for key in ("C3", "C4", "DELETED"):
            await cache.get_or_lease("customers", key)  # somebody reads: only then a floor is kept
        await cache.invalidate([Invalidation("customers", "C3", versions["C3"] + 1)])
        await cache.invalidate([Invalidation("customers", "C4", versions["C4"] - 1)])
        await fill(cache, "GONE", 1, b"{}")
        await fill(cache, "NEVER", 0, ABSENT)
        await cache.invalidate([Invalidation("customers", "DELETED", 9)])
        result = await compared(pipeline_settings, CacheEntries(redis, pipeline_settings))
    assert result.differences == {"C1": "stale", "C2": "stale", "C3": "newer", "GONE": "orphaned"}


async def test_a_document_that_catches_up_during_the_second_look_is_no_difference(
    pipeline_settings: Settings, sink: Driver
) -> None:
    version = (await sink.row("C0"))["version"]
    async with Redis.from_url(str(pipeline_settings.plain_redis_url)) as redis:
        cache = VersionedCache(redis, pipeline_settings)
        await fill(cache, "C0", version - 1, b"{}")

        class CatchesUp(CacheEntries):
            asked = 0

            async def versions(self, dataset: Dataset, keys: Sequence[str]) -> Holdings:
                self.asked += 1
                if self.asked == 2:
                    await cache.invalidate([Invalidation("customers", "C0", version)])
                return await super().versions(dataset, keys)

        result = await compared(pipeline_settings, CatchesUp(redis, pipeline_settings), wait=30)
    assert result.clean


async def test_an_index_that_does_not_exist_holds_none_of_the_rows(pipeline_settings: Settings, sink: Driver) -> None:
    async with search_server(pipeline_settings) as server:
        result = await compared(pipeline_settings, Documents(server, pipeline_settings))
    assert result.differences == dict.fromkeys(("C0", "C1", "C2", "C3", "C4"), "missing")


async def test_a_comparison_that_was_cut_short_is_not_clean_although_its_differences_are_gone(
    pipeline_settings: Settings, sink: Driver, server: SearchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.audits.store_comparison.PAGE", 2)
    monkeypatch.setattr("sinks.elasticsearch.PAGE", 2)
    monkeypatch.setattr("services.audits.store_comparison.MAX_SUSPECTS", 2)
    index = alias_name(CUSTOMERS, pipeline_settings)
    versions = {key: (await sink.row(key))["version"] for key in ("C0", "C1")}

    class CatchesUp(Documents):
        asked = 0

        async def versions(self, dataset: Dataset, keys: Sequence[str]) -> Holdings:
            self.asked += 1
            if self.asked == 2:
                for key, version in versions.items():
                    await server.ask("PUT", f"/{index}/_doc/{key}?version={version}&version_type=external", {})
            return await super().versions(dataset, keys)

    result = await compared(pipeline_settings, CatchesUp(server, pipeline_settings))
    assert (result.compared, result.differences, result.cut_short, result.clean) == (2, {}, True, False)


async def test_an_event_that_a_store_has_not_taken_is_in_flight_and_one_that_it_passed_over_is_missing(
    pipeline_settings: Settings, sink: Driver, server: SearchServer
) -> None:
    store = Documents(server, pipeline_settings)
    publish(pipeline_settings, "customers.changed", ("C0", b"an event that waits for the sink"))
    behind = await compared(pipeline_settings, store, wait=0.1)
    assert (behind.differences, behind.in_flight, behind.clean) == ({}, 5, True)
    group, topic = pipeline_settings.named(store.group), pipeline_settings.named("customers.changed")
    commit(pipeline_settings, group, topic, 0, 1)
    assert set((await compared(pipeline_settings, store)).differences.values()) == {"missing"}
    # Whose events the Postgres sink has not confirmed may be anywhere.
    publish(pipeline_settings, "customers.clean", ("C0", b"a record that waits for the sink"))
    assert (await compared(pipeline_settings, store)).in_flight == 5
