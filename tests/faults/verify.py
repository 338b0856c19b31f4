"""Compares Postgres, Elasticsearch and the cache, key by key, with what the oracle makes of the raw topic."""

import asyncio
import datetime
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import redis
from confluent_kafka import Consumer, KafkaError, TopicPartition

from monitoring.lag import read_lag
from runtime.kafka.clients import consumer_config
from runtime.settings import Settings
from schemas.registry import dataset_named
from services.audits.audit import PartitionAudit, audit
from stores.postgres_engine import postgres_engine
from tests.e2e.stores import rows
from tests.faults.oracle import Content, Oracle, Place
from tests.waiting import eventually

CUSTOMERS = dataset_named("customers")
FIELDS = [field.name for field in CUSTOMERS.fields]


@dataclass(frozen=True)
class Verdict:
    """Lost and doubled records among so many raw records."""

    records: int
    lost: int
    double: int
    oracle: Oracle


def wait_until_settled(settings: Settings, within: float = 180.0) -> float:
    """Block until no group has anything left to do and every raw record has its outcome; the seconds it took."""
    began = time.monotonic()
    eventually(lambda: _settled(settings), what="every record has reached every store", within=within, every=0.5)
    return time.monotonic() - began


def verify(settings: Settings) -> Verdict:
    """Fail the test unless every store holds what the oracle says, and the audit is clean. Call it when settled."""
    records = list(_raw_records(settings))
    oracle = Oracle()
    for place, key, value in records:
        oracle.feed(place, key, value)
    audited = [row for row in asyncio.run(_audit(settings)) if row.topic == settings.named(CUSTOMERS.raw_topic)]
    lost = sum(stop - start for row in audited for start, stop in row.holes)
    double = sum(sum(row.outcomes.values()) - row.covered for row in audited)

    wanted = oracle.rows()
    stored = {row.pop("customer_id"): row for row in rows(settings, "SELECT * FROM customers")}
    assert_rows("Postgres", wanted, {key: {"customer_id": key, **row} for key, row in stored.items()})
    found = {
        (row["partition"], row["offset"])
        for row in rows(settings, """SELECT "partition", "offset" FROM ingest_failures WHERE state <> 'resolved'""")
    }
    assert found == oracle.rejected, f"failures: {_difference(oracle.rejected, found)}"
    versions = {key: row["version"] for key, row in stored.items()}
    if settings.elasticsearch_url:
        documents = dict(_documents(settings))
        assert_rows("Elasticsearch", wanted, {key: source for key, (_, source) in documents.items()})
        assert {key: version for key, (version, _) in documents.items()} == versions, "versions in Elasticsearch"
    for cached, version, data in _cached(settings):
        if data:
            held = versions.get(cached)
            assert version == held, f"the cache has version {version} of {cached}, Postgres {held}"
            assert_rows("the cache", {cached: wanted[cached]}, {cached: data})
        else:
            assert cached not in wanted, f"the cache says that {cached} does not exist"

    assert all(row.clean and not row.in_flight for row in audited), audited
    assert sum(row.covered for row in audited) == len(records)
    assert sum(row.outcomes["failed"] for row in audited) == len(oracle.rejected)
    return Verdict(len(records), lost, double, oracle)


def read_oracle(settings: Settings) -> Oracle:
    """The oracle, fed with what is in the raw topic now."""
    oracle = Oracle()
    for place, key, value in _raw_records(settings):
        oracle.feed(place, key, value)
    return oracle


def _settled(settings: Settings) -> bool:
    """True, or an error that says who is behind and what is on its way."""
    behind = [row for row in asyncio.run(read_lag(settings)) if row.lag]
    on_its_way = [row for row in asyncio.run(_audit(settings)) if row.on_its_way]
    assert not behind, behind
    assert not on_its_way, on_its_way
    return True


async def _audit(settings: Settings) -> list[PartitionAudit]:
    engine = postgres_engine(settings)
    try:
        return await audit(settings, engine)
    finally:
        await engine.dispose()


def _raw_records(settings: Settings) -> Iterator[tuple[Place, bytes | None, bytes | None]]:
    """Every committed record of the raw topic, by a consumer without a group."""
    consumer = Consumer(consumer_config(settings, "oracle", **{"enable.partition.eof": True}))
    topic = settings.named(CUSTOMERS.raw_topic)
    try:
        unread = set(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, number, 0) for number in unread])
        while unread:
            first = consumer.poll(30.0)
            assert first is not None, f"{topic} has no more records although partitions {unread} have not ended"
            # `consume` with a timeout would wait for a full batch.
            for message in [first, *consumer.consume(10_000, 0)]:
                partition, offset, error = message.partition(), message.offset(), message.error()
                assert partition is not None
                if error is not None:
                    # The end of what is committed: markers behind the last record are passed over.
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    unread.discard(partition)
                    continue
                assert offset is not None
                yield Place(message.timestamp()[1], partition, offset), message.key(), message.value()
    finally:
        consumer.close()


def _documents(settings: Settings) -> Iterator[tuple[str, tuple[int, Content]]]:
    """Every document: id, version, source."""
    url = settings.elasticsearch_url
    alias = settings.named(CUSTOMERS.name)
    with httpx.Client(base_url=str(url), timeout=60, trust_env=False) as client:
        client.post(f"/{alias}/_refresh").raise_for_status()
        after: list[Any] | None = None
        while True:
            body = {"size": 5000, "version": True, "sort": [{"customer_id": "asc"}], "query": {"match_all": {}}}
            answer = client.post(f"/{alias}/_search", json=body | ({"search_after": after} if after else {}))
            hits = answer.raise_for_status().json()["hits"]["hits"]
            for hit in hits:
                yield hit["_id"], (hit["_version"], hit["_source"])
            if not hits:
                return
            after = hits[-1]["sort"]


def _cached(settings: Settings) -> Iterator[tuple[str, int, Content]]:
    """Every entry of the cache that answers reads: key, version, content; no content for a record that is missing."""
    prefix = f"{settings.named('cache')}:{CUSTOMERS.name}:"
    with redis.Redis.from_url(str(settings.plain_redis_url)) as client:
        for name in client.scan_iter(f"{prefix}*", count=1000):
            entry = client.hgetall(name)
            if b"data" in entry:
                data = json.loads(entry[b"data"], parse_float=Decimal) if entry[b"data"] else {}
                yield name.decode().removeprefix(prefix), int(entry[b"version"]), data


def assert_rows(store: str, wanted: dict[str, Content], found: dict[str, Content]) -> None:
    """Fail the test unless both have the same keys and, of every field, the same values."""
    assert wanted.keys() == found.keys(), f"{store}: {_difference(set(wanted), set(found))}"
    for key, content in wanted.items():
        expected = [_as_text(content[name]) for name in FIELDS]
        actual = [_as_text(found[key][name]) for name in FIELDS]
        assert expected == actual, f"{store} has of {key} {actual}, expected {expected}"


def _as_text(value: Any) -> str | None:
    """Dates and decimals are typed in some stores and text in others."""
    if isinstance(value, Decimal | int):
        return f"{Decimal(value):.2f}"
    return value.isoformat() if isinstance(value, datetime.date) else value


def _difference(wanted: set[Any], found: set[Any]) -> str:
    missing, extra = sorted(wanted - found), sorted(found - wanted)
    return f"{len(missing)} missing, such as {missing[:3]}; {len(extra)} too many, such as {extra[:3]}"
