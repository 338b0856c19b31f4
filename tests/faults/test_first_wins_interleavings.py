"""The interleavings for a dataset whose first record wins: any order without deletes, the pipeline's with them.

Without deletes everything may be permuted. A delete is seen after what its partition held before it: that is what the
order of a partition, its confirmations and its books guarantee, through redeliveries and zombies too (decision 0015).
"""

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.settings import Settings
from schemas.events import CleanRecord, FailedRecord
from schemas.registry import dataset_named
from stream_processors.normalize import Normalized, RecordNormalizer
from tests.faults.oracle import Place
from tests.faults.orders import FirstWinsOracle, order, spoilt
from tests.faults.test_interleavings import CLEAN, FAILED, PARTITIONS, Raw, partitions
from tests.faults.workload import encoded
from tests.integration.postgres_sink_driver import Driver, driver

KEYS = ("A", "B", "C", "D")
FIELDS = ("customer_id", "product", "quantity", "price", "order_date")

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

keys = st.sampled_from(KEYS)
numbers = st.integers(0, 5)
good = st.tuples(keys, numbers).map(lambda drawn: (drawn[0], encoded(order(*drawn))))
bad = st.tuples(keys, numbers).map(lambda drawn: (drawn[0], spoilt(*drawn)))
deletes = keys.map(lambda key: (key, None))


def published(log: Sequence[tuple[int, int, tuple[str, bytes | None]]]) -> list[Raw]:
    """The raw records of what was published: partition, ms since the record before it, content."""
    ends, now, records = [0] * PARTITIONS, 1_000, []
    for partition, later, (key, value) in log:
        now += later
        records.append(Raw(Place(now, partition, ends[partition]), key.encode(), value, topic="orders.raw"))
        ends[partition] += 1
    return records


@given(st.lists(st.tuples(partitions, st.integers(0, 2), st.one_of(good, bad)), min_size=1, max_size=20), st.data())
@QUICK
def test_without_deletes_any_order_of_processing_ends_as_the_oracle_says(
    migrated_settings: Settings, log: Any, data: st.DataObject
) -> None:
    records = published(log)
    again = data.draw(st.lists(st.sampled_from(records), max_size=10))
    check(migrated_settings, records, data.draw(st.permutations([*records, *again])), data)


@given(st.lists(st.tuples(st.integers(0, 2), st.one_of(good, bad, deletes)), min_size=1, max_size=20), st.data())
@QUICK
def test_with_deletes_redeliveries_and_zombies_end_as_the_oracle_says(
    migrated_settings: Settings, log: Any, data: st.DataObject
) -> None:
    # A key keeps to its partition, as our producers see to.
    records = published([(KEYS.index(key) % PARTITIONS, later, (key, value)) for later, (key, value) in log])
    reads = [one for number in range(PARTITIONS) for one in _reads(records, number, data)]
    turns = data.draw(st.permutations([partition for partition, _ in reads]))
    queues = {number: [read for partition, read in reads if partition == number] for number in range(PARTITIONS)}
    check(migrated_settings, records, [raw for number in turns for raw in queues[number].pop(0)], data)


def _reads(records: Sequence[Raw], number: int, data: st.DataObject) -> list[tuple[int, Sequence[Raw]]]:
    """Stretches in which a partition is read to its end, each from anywhere before the end of the last."""
    partition = [record for record in records if record.partition == number]
    reads: list[tuple[int, Sequence[Raw]]] = []
    position = 0
    while position < len(partition):
        start = data.draw(st.integers(0, position))
        stop = data.draw(st.integers(start + 1, len(partition)))
        reads.append((number, partition[start:stop]))
        position = max(position, stop)
    return reads


def check(where: Settings, records: Sequence[Raw], deliveries: Sequence[Raw], data: st.DataObject) -> None:
    oracle = FirstWinsOracle()
    for record in data.draw(st.permutations(records)):
        assert record.key is not None
        oracle.feed(record.place, record.key, record.value)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(deliveries)), max_size=5)) | {len(deliveries)})
    asyncio.run(_deliver_and_compare(where, deliveries, cuts, oracle))


async def _deliver_and_compare(
    where: Settings, deliveries: Sequence[Raw], cuts: Sequence[int], oracle: FirstWinsOracle
) -> None:
    async with driver(where) as sink:
        await sink.connection.execute("TRUNCATE orders, tombstones, coverage, ingest_failures")
        start = 0
        for cut in cuts:
            await sink.write(*[normalized(record) for record in deliveries[start:cut]])
            start = cut
        rows = await _rows(sink)
        wanted = {key: [_as_text(content[name]) for name in FIELDS] for key, content in oracle.rows().items()}
        assert {key: [_as_text(row[name]) for name in FIELDS] for key, row in rows.items()} == wanted
        failed = await sink.connection.fetch('SELECT "partition", "offset" FROM ingest_failures')
        assert {tuple(row) for row in failed} == oracle.rejected
        counts = await sink.counts()
        assert sum(counts.values()) == len(set(deliveries))

        await sink.write(*[normalized(record) for record in deliveries])
        assert await _rows(sink) == rows, "a repeat of everything moves nothing, updated_at and version included"
        assert await sink.counts() == counts


async def _rows(sink: Driver) -> dict[str, dict[str, Any]]:
    return {row["order_id"]: dict(row) for row in await sink.connection.fetch("SELECT * FROM orders")}


def _as_text(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, Decimal) else str(value)


def normalized(record: Raw) -> CleanRecord | FailedRecord:
    outcome = RecordNormalizer(dataset_named("orders")).normalize(record, now_ms=1)
    return CLEAN(outcome.value) if isinstance(outcome, Normalized) else FAILED(outcome.value)
