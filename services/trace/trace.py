"""Follows one key through all stores. A store that is away is told in the trace; nothing is written anywhere."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

import httpx
from confluent_kafka import KafkaException
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.kafka.clients import reason
from runtime.kafka.lookup import Coordinates
from runtime.kafka.topic_admin import LastingAdmin
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.events import Origin
from services.trace import reads
from services.trace.assemble import assemble
from services.trace.findings import (
    Away,
    CacheFinding,
    DocumentFinding,
    Findings,
    KafkaFindings,
    PostgresFindings,
    without_personal_data,
)
from services.trace.model import Trace
from stores.outages import in_words, postgres_trouble
from stores.postgres_connection import SOON_SECONDS
from stores.postgres_engine import postgres_engine
from stores.redis_client import Redis
from stores.search_server import SearchServer

T = TypeVar("T")

POSTGRES_SECONDS = 10.0

LONGEST_KEY = 1000

WITHOUT = Away("")


class NoSuchKey(ValueError):
    """No record of the dataset can have this key; the message says why."""


@dataclass(frozen=True)
class TracedStores:
    """The clients that a trace asks; None for a store that the pipeline does without."""

    settings: Settings
    engine: AsyncEngine
    kafka: LastingAdmin
    redis: Redis | None
    elasticsearch: SearchServer | None
    api: httpx.AsyncClient


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[TracedStores]:
    """Clients for one trace. Nothing is connected before it is asked."""
    engine = postgres_engine(
        settings,
        isolation_level="AUTOCOMMIT",
        connect_args={"timeout": SOON_SECONDS, "command_timeout": POSTGRES_SECONDS},
    )
    redis = (
        Redis.from_url(settings.plain_redis_url, socket_timeout=SOON_SECONDS, socket_connect_timeout=SOON_SECONDS)
        if settings.plain_redis_url
        else None
    )
    elasticsearch = SearchServer(settings, reads.STORE_SECONDS) if settings.elasticsearch_url else None
    async with httpx.AsyncClient(base_url=settings.api_url, trust_env=False, headers=settings.own_api_headers) as api:
        try:
            yield TracedStores(settings, engine, LastingAdmin(settings), redis, elasticsearch, api)
        finally:
            await engine.dispose()
            if redis is not None:
                await redis.aclose()
            if elasticsearch is not None:
                await elasticsearch.close()


async def trace(stores: TracedStores, dataset: Dataset, asked: str, *, masked: bool = False) -> Trace:
    """All that is known of a key, which may be given in any form that the dataset normalizes. Raises NoSuchKey.

    Personal data may be masked, but for the key, which the caller knows. Reads Redis before the API is asked, since an
    answer of the API's may be cached.
    """
    if len(asked) > LONGEST_KEY or "\x00" in asked:
        raise NoSuchKey(f"a key has at most {LONGEST_KEY} characters, and no NUL among them")
    try:
        key = dataset.normal_key(asked)
    except ValueError as error:
        raise NoSuchKey(str(error)) from None
    kafka, document, cache = await asyncio.gather(
        _topics(stores, dataset, key), _document(stores, dataset, key), _cache(stores, dataset, key)
    )
    partition = kafka.partition if isinstance(kafka, KafkaFindings) else None
    postgres = await _rows(stores, dataset, key, partition)
    covered: dict[Coordinates, bool] = {}
    if isinstance(kafka, KafkaFindings):
        if isinstance(postgres, PostgresFindings):
            kafka = await _with_raw_records(stores.settings, kafka, _places(postgres))
        covered = await _covered(stores, set(kafka.raw) | {_raw(one.origin) for _, one in kafka.clean})
    api = await _asked(reads.read_api(stores.api, dataset, key))
    found = Findings(dataset, key, asked, postgres, kafka, document, cache, api, covered)
    return assemble(without_personal_data(found) if masked else found)


async def _topics(stores: TracedStores, dataset: Dataset, key: str) -> KafkaFindings | Away:
    def read() -> KafkaFindings:
        return stores.kafka.ask(lambda admin: reads.read_topics(stores.settings, admin, dataset, key))

    try:
        return await asyncio.to_thread(read)
    except KafkaException as error:
        return Away(reason(error))


async def _with_raw_records(settings: Settings, kafka: KafkaFindings, places: set[Coordinates]) -> KafkaFindings:
    with suppress(KafkaException):  # it went away meanwhile: what was seen before is no less true
        await asyncio.to_thread(reads.read_raw_at, settings, sorted(places), kafka)
    return kafka


def _places(postgres: PostgresFindings) -> set[Coordinates]:
    """The raw records that Postgres knows of."""
    known = {one.place for one in postgres.landed} | {one.place for one in postgres.dead_letters}
    return known | {one.origin for one in (postgres.row, postgres.tombstone) if one is not None and one.origin}


def _raw(origin: Origin) -> Coordinates:
    return origin.topic, origin.partition, origin.offset


async def _rows(stores: TracedStores, dataset: Dataset, key: str, partition: int | None) -> PostgresFindings | Away:
    try:
        async with asyncio.timeout(POSTGRES_SECONDS), stores.engine.connect() as connection:
            return await reads.read_postgres(connection, stores.settings, dataset, key, partition)
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        return Away(postgres_trouble(error) or in_words(error))


async def _covered(stores: TracedStores, places: set[Coordinates]) -> dict[Coordinates, bool]:
    try:
        async with asyncio.timeout(POSTGRES_SECONDS), stores.engine.connect() as connection:
            return await reads.read_covered(connection, places)
    except (SQLAlchemyError, OSError, TimeoutError):
        return {}  # told already by what was asked before


async def _document(stores: TracedStores, dataset: Dataset, key: str) -> DocumentFinding | Away:
    if stores.elasticsearch is None:
        return WITHOUT
    return await _asked(reads.read_document(stores.elasticsearch, stores.settings, dataset, key))


async def _cache(stores: TracedStores, dataset: Dataset, key: str) -> CacheFinding | Away:
    if stores.redis is None:
        return WITHOUT
    return await _asked(reads.read_cache(stores.redis, stores.settings, dataset, key))


async def _asked(answer: Awaitable[T]) -> T | Away:
    try:
        async with asyncio.timeout(reads.STORE_SECONDS + 1):
            return await answer
    except reads.STORE_ERRORS as error:
        return Away(in_words(error))
