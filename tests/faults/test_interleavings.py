"""hypothesis drives the normalizer and the Postgres sink with any interleaving, and compares Postgres with the oracle.

Real Postgres; batches are cut, repeated and reordered at will, as crashes, rebalances and zombies would.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.settings import Settings
from schemas.events import CleanRecord, FailedRecord
from schemas.registry import dataset_named
from stream_processors.normalize import Normalized, RecordNormalizer
from tests.faults.oracle import Oracle, Place
from tests.faults.verify import assert_rows
from tests.faults.workload import GARBAGE, customer, encoded
from tests.integration.postgres_sink_driver import Driver, driver

KEYS = ("A", "B", "C")
PARTITIONS = 2
TOPIC = "customers.raw"

CLEAN = msgspec.json.Decoder(CleanRecord).decode
FAILED = msgspec.json.Decoder(FailedRecord).decode


@dataclass(frozen=True)
class Raw:
    """A raw record as the normalizer sees it."""

    place: Place
    key: bytes | None
    value: bytes | None
    topic: str = TOPIC
    headers: Sequence[Any] = ()

    @property
    def partition(self) -> int:
        return self.place.partition

    @property
    def offset(self) -> int:
        return self.place.offset

    @property
    def timestamp(self) -> int:
        return self.place.timestamp


keys = st.sampled_from(KEYS)
contents = st.one_of(
    st.tuples(keys, st.integers(0, 2)).map(lambda drawn: (drawn[0], encoded(customer(*drawn)))),
    keys.map(lambda key: (key, None)),
    st.tuples(keys, st.sampled_from(GARBAGE)).map(lambda drawn: (drawn[0], drawn[1](drawn[0]))),
)
partitions = st.integers(0, PARTITIONS - 1)
logs = st.lists(st.tuples(partitions, st.integers(0, 2), contents), min_size=1, max_size=20)
"""Published records in the order of the broker's clock: partition, ms since the record before it, content."""


def raw_records(log: Sequence[tuple[int, int, tuple[str, bytes | None]]]) -> list[Raw]:
    ends = [0] * PARTITIONS
    now = 1_000
    records = []
    for partition, later, (key, value) in log:
        now += later
        records.append(Raw(Place(now, partition, ends[partition]), key.encode(), value))
        ends[partition] += 1
    return records


def normalized(record: Raw) -> CleanRecord | FailedRecord:
    outcome = RecordNormalizer(dataset_named("customers")).normalize(record, now_ms=1)
    return CLEAN(outcome.value) if isinstance(outcome, Normalized) else FAILED(outcome.value)


@given(logs, st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_repeated_cut_and_reordered_postgres_ends_as_the_oracle_says(
    migrated_settings: Settings, log: Any, data: st.DataObject
) -> None:
    records = raw_records(log)
    oracle = Oracle()
    for record in data.draw(st.permutations(records)):
        oracle.feed(record.place, record.key, record.value)
    # Deliveries: everything at least once, in any order, some of it again, in batches of any size.
    again = data.draw(st.lists(st.sampled_from(records), max_size=10))
    deliveries = data.draw(st.permutations([*records, *again]))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(deliveries)), max_size=5)) | {len(deliveries)})
    asyncio.run(_deliver_and_compare(migrated_settings, deliveries, cuts, oracle))


async def _deliver_and_compare(
    migrated_settings: Settings, deliveries: Sequence[Raw], cuts: Sequence[int], oracle: Oracle
) -> None:
    async with driver(migrated_settings) as sink:
        await sink.connection.execute("TRUNCATE customers, tombstones, coverage, ingest_failures")
        start = 0
        for cut in cuts:
            await sink.write(*[normalized(record) for record in deliveries[start:cut]])
            start = cut
        rows = await _rows(sink)
        assert_rows("Postgres", oracle.rows(), rows)
        failed = await sink.connection.fetch('SELECT "partition", "offset" FROM ingest_failures')
        assert {tuple(row) for row in failed} == oracle.rejected
        counts = await sink.counts()
        assert sum(counts.values()) == len(set(deliveries))
        assert counts.get("failed", 0) == len(oracle.rejected)

        await sink.write(*[normalized(record) for record in deliveries])
        assert await _rows(sink) == rows, "a repeat of everything moves nothing, updated_at and version included"
        assert await sink.counts() == counts


async def _rows(sink: Driver) -> dict[str, dict[str, Any]]:
    rows = await sink.connection.fetch("SELECT * FROM customers")
    return {row["customer_id"]: dict(row) for row in rows}
