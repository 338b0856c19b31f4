"""Random mixes of plain records, transactions, deletes and retention, through real stages: the audit says what a model
says, and what is stored is what was committed and read in time.
"""

import asyncio
import functools
import random
from collections import defaultdict
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Message, Producer, TopicPartition

from runtime.kafka.clients import producer_config
from runtime.kafka.topic_admin import admin_client, end_offsets
from runtime.settings import Settings
from services.audits.audit import PartitionAudit, audit
from stores.postgres_engine import postgres_engine
from tests.e2e.stores import rows
from tests.faults.oracle import Oracle, Place
from tests.faults.verify import assert_rows
from tests.faults.workload import Sent, Workload
from tests.processes import Pipeline
from tests.transactions import transactional_producer
from tests.waiting import eventually

RAW = "customers.raw"
PARTITIONS = 3
STEPS = 25
"""Of one round; a step is a handful of records or the end of a transaction."""


class Mix:
    """Writes at random, and remembers what every offset carries."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.topic = settings.named(RAW)
        self._chance = random.Random(seed)
        self._sent = Workload(2**62, 60, seed, movers=0)
        self._plain = Producer(producer_config(settings, **{"linger.ms": 0}))
        self._foreign = [transactional_producer(settings) for _ in range(2)]
        self._open: dict[int, list[tuple[Place, Sent]]] = {}
        self.records: dict[Place, Sent] = {}
        """Committed records, by place."""

    def run(self, steps: int) -> None:
        """So many steps, and then the end of what is open."""
        for _ in range(steps):
            number = self._chance.randrange(-2, len(self._foreign))
            if number < 0:
                self.records |= dict(self._write(self._plain))
            elif number in self._open and self._chance.random() < 0.6:
                self._finish(number)
            else:
                if number not in self._open:
                    self._foreign[number].begin_transaction()
                self._open.setdefault(number, []).extend(self._write(self._foreign[number]))
        for number in list(self._open):
            self._finish(number)

    def _finish(self, number: int) -> None:
        written = self._open.pop(number)
        if self._chance.random() < 0.5:
            self._foreign[number].abort_transaction(30)
        else:
            self._foreign[number].commit_transaction(30)
            self.records |= dict(written)

    def _write(self, producer: Producer) -> list[tuple[Place, Sent]]:
        written: list[tuple[Place, Sent]] = []

        def confirm(error: KafkaError | None, message: Message, sent: Sent) -> None:
            assert error is None, error
            partition, offset = message.partition(), message.offset()
            assert partition is not None
            assert offset is not None
            written.append((Place(message.timestamp()[1], partition, offset), sent))

        for _ in range(self._chance.randrange(1, 5)):
            sent = next(self._sent)
            # One key, one partition, as every producer of ours has it.
            partition = sum(sent.key) % PARTITIONS
            on_delivery = functools.partial(confirm, sent=sent)
            producer.produce(self.topic, sent.value, sent.key, partition, on_delivery=on_delivery)
        assert producer.flush(30) == 0
        return written


@pytest.mark.parametrize("seed", [20261129])
def test_the_audit_of_a_random_mix_agrees_with_the_model(
    pipeline_settings: Settings, tmp_path: Path, seed: int
) -> None:
    settings, mix, chance = pipeline_settings, Mix(pipeline_settings, seed), random.Random(seed)
    with Pipeline(settings, tmp_path, ("normalizer", "sink postgres")) as pipeline:
        mix.run(STEPS)
        found = settle(settings)
        assert {partition: row.covered for partition, row in found.items()} == counted(mix)
        assert all(row.clean and row.covered + row.void == row.end for row in found.values()), found
        for partition, row in found.items():
            delete_before(settings, partition, chance.randrange(row.end + 1))
        after = settle(settings)
        assert {partition: row.covered for partition, row in after.items()} == counted(mix), "stored stays stored"
        assert all(row.clean for row in after.values()), after

        for role in ("normalizer", "sink postgres"):
            assert pipeline[role].stop() == 0
        stored = set(mix.records)
        mix.run(STEPS)
        gone = {}
        for partition, row in after.items():
            gone[partition] = chance.randrange(row.end, ends(settings)[partition] + 1)
            delete_before(settings, partition, gone[partition])
        for role in ("normalizer", "sink postgres"):
            pipeline[role].start()
        found = settle(settings)

    expired = {place for place in mix.records if place not in stored and place.offset < gone[place.partition]}
    for place in expired:
        del mix.records[place]
    assert {partition: row.covered for partition, row in found.items()} == counted(mix)
    for partition, row in found.items():
        assert row.covered + row.void + row.expired == row.end, row
        lost = sum(place.partition == partition for place in expired)
        assert row.expired >= lost, "markers and aborted records between them are not told from them any more"
        assert row.clean == (row.expired == 0)
        assert row.expired > 0 or lost == 0
    oracle = Oracle()
    for place, sent in mix.records.items():
        oracle.feed(place, sent.key, sent.value)
    held = {row["customer_id"]: row for row in rows(settings, "SELECT * FROM customers")}
    assert_rows("Postgres", oracle.rows(), held)
    failed = {
        (row["partition"], row["offset"]) for row in rows(settings, 'SELECT "partition", "offset" FROM ingest_failures')
    }
    assert failed == oracle.rejected


def settle(settings: Settings) -> dict[int, PartitionAudit]:
    """The audit of each partition, once nothing is on its way."""

    def settled() -> dict[int, PartitionAudit] | None:
        found = {row.partition: row for row in asyncio.run(audited(settings))}
        return None if any(row.on_its_way for row in found.values()) else found

    return eventually(settled, what="nothing is in flight", every=0.3) or {}


async def audited(settings: Settings) -> list[PartitionAudit]:
    """The audit of the partitions that are written to."""
    engine = postgres_engine(settings)
    try:
        topic = settings.named(RAW)
        return [row for row in await audit(settings, engine) if row.topic == topic and row.partition < PARTITIONS]
    finally:
        await engine.dispose()


def ends(settings: Settings) -> dict[int, int]:
    """The last stable offset of each partition."""
    return {place.partition: end for place, end in end_offsets(settings, [settings.named(RAW)]).items()}


def delete_before(settings: Settings, partition: int, offset: int) -> None:
    """Delete records as retention does, at once."""
    admin = admin_client(settings)  # kept until the answer is in: its end would cancel it
    for answer in admin.delete_records([TopicPartition(settings.named(RAW), partition, offset)]).values():
        answer.result(30)


def counted(mix: Mix) -> dict[int, int]:
    """Number of records per partition."""
    counts: dict[int, int] = defaultdict(int, dict.fromkeys(range(PARTITIONS), 0))
    for place in mix.records:
        counts[place.partition] += 1
    return dict(counts)
