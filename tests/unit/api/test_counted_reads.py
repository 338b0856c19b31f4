"""Reads that go past a store are counted as such only where there is that store: alerts are built on it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from api import cached_records
from api.clients import Breaker
from api.search import service
from api.single_flight import SingleFlight
from runtime.metrics import CACHE_READS, SEARCHES
from schemas.registry import dataset_named

CUSTOMERS = dataset_named("customers")


def clients(**stores: Any) -> Any:
    return SimpleNamespace(
        engine=None,
        settings=None,
        **{"cache": None, "elasticsearch": None} | stores,
        redis_breaker=lost("redis"),
        elasticsearch_breaker=lost("elasticsearch"),
        record_loads=SingleFlight(),
    )


def lost(store: str) -> Breaker:
    breaker = Breaker(store)
    breaker.failed(OSError("away"))
    return breaker


@pytest.mark.parametrize(("cache", "counted"), [(None, "none"), (object(), "bypass")])
async def test_a_read_without_redis_is_a_bypass_only_where_redis_is_away(
    monkeypatch: pytest.MonkeyPatch, cache: object, counted: str
) -> None:
    async def read(*_: object) -> tuple[bytes, int]:
        return b"{}", 1

    seen: list[tuple[str, ...]] = []
    monkeypatch.setattr(cached_records, "_read", read)
    monkeypatch.setattr(CACHE_READS, "inc", lambda labels, *_: seen.append(labels))
    content, use = await cached_records.read_record(clients(cache=cache), CUSTOMERS, "C1")
    assert (content, use) == (b"{}", "bypass"), "the answer says the same of both"
    assert seen == [("customers", counted)]


@pytest.mark.parametrize(("elasticsearch", "counted"), [(None, "postgres_only"), (object(), "postgres")])
async def test_postgres_stands_in_only_where_elasticsearch_is_away(
    monkeypatch: pytest.MonkeyPatch, elasticsearch: object, counted: str
) -> None:
    @asynccontextmanager
    async def reading(_: object) -> AsyncIterator[None]:
        yield

    async def nothing(*_: object) -> Any:
        return [], 0

    async def all_fit(*_: object) -> Any:
        return []

    seen: list[tuple[str, ...]] = []
    monkeypatch.setattr(service, "reading", reading)
    monkeypatch.setattr(service, "search_text", nothing)
    monkeypatch.setattr(service, "unreadable", all_fit)
    monkeypatch.setattr(SEARCHES, "inc", lambda labels, *_: seen.append(labels))
    found = await service.search(clients(elasticsearch=elasticsearch), [CUSTOMERS], "words", 1, 10)
    assert (found.backend, found.degraded) == ("postgres", True), "the answer says the same of both"
    assert seen == [(counted,)]
