"""An offset is not a record: what coverage and audit make of markers, aborted records, retention and compaction."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, ResourceType

from producers.delivery import Progress
from producers.publish import PublishReport
from runtime.kafka.clients import producer_config
from runtime.kafka.holes import HoleReader
from runtime.kafka.offset_ranges import Evidence, OffsetRanges
from runtime.kafka.topic_admin import Place, admin_client, end_offsets
from runtime.settings import Settings
from schemas.events import CleanRecord, Origin
from services.audits.audit import PartitionAudit, audit
from services.runs.run import NotTaken, Run, run_source
from sinks.postgres.void_offsets import VoidOffsets
from stores.epochs import note_epochs
from stores.postgres_engine import postgres_engine
from tests.integration.etl_runs import EmptySource
from tests.integration.postgres_sink_driver import Driver, customer, driver
from tests.transactions import Records, aborted, committed, hung, transactional_producer, write
from tests.waiting import eventually, eventually_async

RAW = "customers.raw"
RECORD = (b"key", b"{}")
TOMBSTONE = (b"key", None)
MANY = 500


def plain(settings: Settings, topic: str, records: Records) -> None:
    """Write records without a transaction."""
    write(Producer(producer_config(settings)), topic, records)


class Coverage:
    """The coverage of customers.raw/0 where only the sink's write step runs: the test says what came."""

    def __init__(self, settings: Settings, sink: Driver) -> None:
        self.settings = settings
        self.topic = settings.named(RAW)
        self.sink = sink
        self.void = VoidOffsets(settings)

    async def store(self, offsets: Iterable[int]) -> None:
        """The normalizer has brought the records at these offsets, and Postgres has stored them."""
        await self.sink.write(*(self._record(offset) for offset in offsets))

    async def written(self, end: int) -> None:
        """Wait until the last stable offset is there: a marker comes a moment after the commit."""
        place = TopicPartition(self.topic, 0)
        await asyncio.to_thread(
            eventually, lambda: end_offsets(self.settings, [self.topic])[place] == end, what=f"the end is {end}"
        )

    async def audit(self) -> PartitionAudit:
        """The audit of the partition."""
        engine = postgres_engine(self.settings)
        try:
            rows = await audit(self.settings, engine)
            return next(row for row in rows if (row.topic, row.partition) == (self.topic, 0))
        finally:
            await engine.dispose()

    async def audit_when_settled(self) -> PartitionAudit:
        """The audit after the groups of the raw topic have read all that there is."""
        await asyncio.to_thread(self._pass_all)
        return await self.audit()

    async def cover_lasting(self) -> None:
        """Look for holes, as the sink does now and then."""
        await self.void.cover_lasting(self.sink.connection)

    async def covered(self) -> tuple[str, int]:
        """The accounted ranges, and how many offsets of them carry no record."""
        row = await self.sink.connection.fetchrow(
            "SELECT ranges::text, void FROM coverage WHERE topic = $1 AND partition = 0", self.topic
        )
        return (row["ranges"], row["void"]) if row else ("{}", 0)

    def _record(self, offset: int) -> CleanRecord:
        return msgspec.structs.replace(customer(f"C{offset}", offset), origin=Origin(self.topic, 0, offset, 1))

    def _pass_all(self) -> None:
        end = end_offsets(self.settings, [self.topic])[TopicPartition(self.topic, 0)]
        self.normalizer_commits(end)

    def normalizer_commits(self, offset: int) -> None:
        """The normalizer has passed all that lies before this offset."""
        group = self.settings.named("normalizer")
        consumer = Consumer({"bootstrap.servers": self.settings.kafka_bootstrap_servers, "group.id": group})
        consumer.commit(offsets=[TopicPartition(self.topic, 0, offset)], asynchronous=False)
        consumer.close()

    def delete_before(self, offset: int) -> None:
        """Delete the records before, as retention would."""
        admin = admin_client(self.settings)  # kept until the answer is in: its end would cancel it
        deleted = admin.delete_records([TopicPartition(self.topic, 0, offset)])
        for answer in deleted.values():
            answer.result(30)


@pytest.fixture
async def coverage(pipeline_settings: Settings) -> AsyncIterator[Coverage]:
    await eventually_async(lambda: _noted(pipeline_settings), what="the new topics have leaders")
    async with driver(pipeline_settings) as sink:
        coverage = Coverage(pipeline_settings, sink)
        yield coverage
        await coverage.void.close()


@pytest.fixture
def foreign(pipeline_settings: Settings) -> Producer:
    return transactional_producer(pipeline_settings)


async def test_the_markers_of_transactions_are_neither_in_flight_nor_lost(
    coverage: Coverage, foreign: Producer
) -> None:
    committed(foreign, coverage.topic, [RECORD, RECORD])
    await coverage.written(3)
    row = await coverage.audit()
    assert (row.end, row.in_flight, row.void, row.clean) == (3, 2, 1, True)

    await coverage.store([0, 1])
    row = await coverage.audit_when_settled()
    assert (row.covered, row.in_flight, row.void, row.clean) == (2, 0, 1, True)

    plain(coverage.settings, coverage.topic, [RECORD])
    await coverage.store([3])
    row = await coverage.audit_when_settled()
    assert (row.covered, row.in_flight, row.void, row.holes, row.clean) == (3, 0, 1, (), True)
    assert await coverage.covered() == ("{[0,4)}", 1), "what an audit has seen stays proven"
    await asyncio.to_thread(coverage.delete_before, 4)
    row = await coverage.audit_when_settled()
    assert (row.begin, row.covered, row.void, row.expired, row.clean) == (4, 3, 1, 0, True)


async def test_aborted_records_are_void_and_a_record_that_is_missing_between_them_is_lost(
    coverage: Coverage, foreign: Producer
) -> None:
    aborted(foreign, coverage.topic, [RECORD, TOMBSTONE])
    plain(coverage.settings, coverage.topic, [RECORD, RECORD])
    aborted(foreign, coverage.topic, [RECORD])
    await coverage.written(7)
    await coverage.store([3])
    assert (await coverage.audit()).in_flight == 1
    row = await coverage.audit_when_settled()
    assert (row.covered, row.void, row.holes, row.clean) == (1, 5, ((4, 5),), False)


async def test_what_an_open_transaction_holds_is_a_state_of_its_own(coverage: Coverage) -> None:
    with hung(coverage.settings, coverage.topic, [RECORD]) as producer:
        plain(coverage.settings, coverage.topic, [RECORD])
        row = await coverage.audit_when_settled()
        assert (row.end, row.held, row.in_flight, row.clean) == (0, 2, 0, True)
        producer.commit_transaction(30)
        await coverage.written(3)
        row = await coverage.audit()
        assert (row.end, row.held, row.in_flight, row.void) == (3, 0, 2, 1)
        producer.begin_transaction()


@pytest.mark.parametrize("behind", ["customers.clean", "failures"])
async def test_a_record_whose_outcome_waits_behind_a_strangers_open_transaction_is_not_lost(
    coverage: Coverage, behind: str
) -> None:
    plain(coverage.settings, coverage.topic, [RECORD])
    with hung(coverage.settings, coverage.settings.named(behind), [RECORD]):
        plain(coverage.settings, coverage.settings.named(behind), [RECORD])
        row = await coverage.audit_when_settled()
        assert (row.holes, row.in_flight, row.clean) == ((), 1, True)


async def test_nothing_is_lost_while_a_group_stands_behind_the_end_and_is_to_begin_again(coverage: Coverage) -> None:
    plain(coverage.settings, coverage.topic, [RECORD])
    await asyncio.to_thread(coverage.normalizer_commits, 1_000)
    row = await coverage.audit()
    assert (row.holes, row.in_flight, row.clean) == ((), 1, True)


async def test_a_record_in_a_partition_that_only_its_raw_topic_has_is_in_flight(coverage: Coverage) -> None:
    admin = admin_client(coverage.settings)
    added = coverage.settings.topic_partitions
    admin.create_partitions([NewPartitions(coverage.topic, added + 1)])[coverage.topic].result()
    await asyncio.to_thread(write, Producer(producer_config(coverage.settings)), coverage.topic, [RECORD], added)
    engine = postgres_engine(coverage.settings)
    found = await eventually_async(lambda: audit(coverage.settings, engine), what="the broker knows the partition")
    await engine.dispose()
    row = next(row for row in found if (row.topic, row.partition) == (coverage.topic, added))
    assert (row.end, row.in_flight, row.holes, row.clean) == (1, 1, (), True)


async def test_offsets_without_a_record_are_covered_once_they_have_lasted(
    coverage: Coverage, foreign: Producer
) -> None:
    committed(foreign, coverage.topic, [RECORD, RECORD])
    await coverage.written(3)
    await coverage.store([0])
    await coverage.cover_lasting()
    await coverage.cover_lasting()
    assert await coverage.covered() == ("{[0,1)}", 0), "a record is still to come before it"
    await coverage.store([1])
    for _ in range(2):
        await coverage.cover_lasting()
    assert await coverage.covered() == ("{[0,3)}", 1)

    aborted(foreign, coverage.topic, [RECORD])
    await coverage.written(5)
    for _ in range(3):
        await coverage.cover_lasting()
    assert await coverage.covered() == ("{[0,5)}", 3)
    await asyncio.to_thread(coverage.delete_before, 5)
    row = await coverage.audit_when_settled()
    assert (row.begin, row.covered, row.void, row.expired, row.clean) == (5, 2, 3, 0, True), "what is booked stays so"


async def test_offsets_of_a_partition_of_which_nothing_was_ever_stored_are_covered_too(
    coverage: Coverage, foreign: Producer
) -> None:
    aborted(foreign, coverage.topic, [RECORD])
    await coverage.written(2)
    for _ in range(2):
        await coverage.cover_lasting()
    assert await coverage.covered() == ("{[0,2)}", 2)


async def test_offsets_without_a_record_are_covered_only_for_the_topic_that_was_read(
    coverage: Coverage, foreign: Producer
) -> None:
    aborted(foreign, coverage.topic, [RECORD])
    await coverage.written(2)
    await coverage.cover_lasting()
    await coverage.sink.connection.execute(
        "UPDATE topic_epochs SET topic_id = 'another' WHERE topic = $1", coverage.topic
    )
    holes = OffsetRanges([(0, 2)])
    await coverage.void._prove(coverage.sink.connection, (coverage.topic, 0), holes, OffsetRanges())
    assert await coverage.covered() == ("{}", 0)


async def test_hundreds_of_transactions_leave_one_range(
    coverage: Coverage, foreign: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.postgres.void_offsets.MANY_HOLES", 50)
    for _ in range(MANY):
        committed(foreign, coverage.topic, [RECORD])
    await coverage.written(2 * MANY)
    for start in range(0, 2 * MANY, 200):
        await coverage.store(range(start, start + 200, 2))
        coverage.void.note({(coverage.topic, 0): 100})
        await coverage.void.relieve()
        assert (await coverage.covered())[0].count("[") <= 1, "a batch leaves no more ranges than it found"
    for _ in range(2):
        await coverage.cover_lasting()
    assert await coverage.covered() == (f"{{[0,{2 * MANY})}}", MANY)
    assert (await coverage.audit_when_settled()).clean


async def test_holes_between_records_that_are_still_to_come_are_not_covered_piece_by_piece(
    coverage: Coverage, foreign: Producer
) -> None:
    aborted(foreign, coverage.topic, [RECORD])
    for _ in range(3):
        committed(foreign, coverage.topic, [RECORD])
    await coverage.written(8)
    for _ in range(3):
        await coverage.cover_lasting()
    assert (await coverage.audit()).void == 5
    assert await coverage.covered() == ("{[0,2)}", 2)
    await coverage.store([2, 6])
    for _ in range(2):
        await coverage.cover_lasting()
    assert await coverage.covered() == ("{[0,4),[5,8)}", 5)
    await coverage.store([4])
    assert await coverage.covered() == ("{[0,8)}", 5)


async def test_holes_that_records_are_to_fill_are_not_read_again_and_again(
    coverage: Coverage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.postgres.void_offsets.MANY_HOLES", 10)
    plain(coverage.settings, coverage.topic, [RECORD] * 60)
    reads: list[int] = []
    read = HoleReader.read

    async def counted(reader: HoleReader, place: Place, holes: OffsetRanges, most: int | None = None) -> Evidence:
        reads.append(len(holes))
        return await read(reader, place, holes, most)

    monkeypatch.setattr(HoleReader, "read", counted)
    for start in range(0, 60, 4):
        await coverage.store([start])
        coverage.void.note({(coverage.topic, 0): 3})
        await coverage.void.relieve()
    assert len(reads) <= 2, reads


async def test_what_retention_took_before_postgres_had_it_is_expired_and_fails_its_run(
    coverage: Coverage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stores.coverage.STUCK_SECONDS", 0.2)
    plain(coverage.settings, coverage.topic, [RECORD] * 4)
    await coverage.store([0])
    await asyncio.to_thread(coverage.delete_before, 3)
    row = await coverage.audit()
    assert (row.covered, row.expired, row.in_flight, row.clean) == (1, 2, 1, False)

    async def published(*_: object, progress: Callable[[Progress], None], **__: object) -> PublishReport:
        progress(Progress("letters", sent=4, confirmed=4))
        return PublishReport("run", 4, 0, {(coverage.topic, 0): OffsetRanges([(0, 4)])}, 0.1)

    monkeypatch.setattr("services.runs.run.publish", published)
    completion = asyncio.create_task(run_source(Run(EmptySource()), coverage.settings, "test"))
    await eventually_async(lambda: _is_waiting(coverage), what="the run waits for Postgres")
    await coverage.store([3])
    with pytest.raises(NotTaken, match="2 published records are gone from Kafka, by retention or compaction"):
        await completion
    failed = await coverage.sink.connection.fetchrow("SELECT status, failure_reason, outcomes FROM etl_runs")
    assert failed["status"] == "failed"
    assert "publish them again" in failed["failure_reason"]
    assert json.loads(failed["outcomes"])["expired"] == 2
    row = await coverage.audit_when_settled()
    assert (row.covered, row.expired, row.in_flight, row.holes, row.clean) == (2, 2, 0, (), False)


async def test_a_record_that_the_normalizer_has_passed_is_waited_for_although_retention_took_it(
    coverage: Coverage,
) -> None:
    plain(coverage.settings, coverage.topic, [RECORD] * 2)
    clean = coverage.settings.named("customers.clean")
    plain(coverage.settings, clean, [RECORD])
    await asyncio.to_thread(coverage.normalizer_commits, 2)
    await asyncio.to_thread(coverage.delete_before, 2)
    row = await coverage.audit()
    assert (row.expired, row.in_flight, row.clean) == (0, 2, True), "its clean record is on its way"
    await coverage.store([0, 1])
    row = await coverage.audit()
    assert (row.covered, row.expired, row.in_flight, row.clean) == (2, 0, 0, True)


async def test_what_compaction_took_before_postgres_had_it_is_unprovable(
    coverage: Coverage, foreign: Producer, quick_cleaner: None
) -> None:
    compacted = {
        "cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01",
        "max.compaction.lag.ms": "100", "delete.retention.ms": "0",
    }  # fmt: skip
    await asyncio.to_thread(configure, coverage.settings, ResourceType.TOPIC, coverage.topic, compacted)
    plain(coverage.settings, coverage.topic, [(b"same", b"1"), (b"same", b"2"), (b"other", b"3")])
    committed(foreign, coverage.topic, [(b"same", b"4")])
    await coverage.written(5)
    await coverage.store([0])

    async def is_compacted() -> bool:
        # A segment is closed by the next record that comes after its time.
        plain(coverage.settings, coverage.topic, [(b"closing", b"")])
        evidence = await reader.read((coverage.topic, 0), OffsetRanges([(0, 4)]))
        return evidence.records == OffsetRanges([(2, 4)])

    reader = HoleReader(coverage.settings)
    await eventually_async(is_compacted, what="the older records of a key have vanished", every=0.5)
    await reader.close()
    row = await coverage.audit()
    assert (row.covered, row.unprovable >= 1, row.expired, row.clean) == (1, True, 0, False)
    await coverage.store([1, 2, 3])
    assert (await coverage.audit()).void == 1, "the marker is still there to be read"


@pytest.fixture
def quick_cleaner(pipeline_settings: Settings) -> Iterator[None]:
    """The broker's cleaner looks for work every 0.1 s, not every 15 s."""
    broker = next(iter(admin_client(pipeline_settings).list_topics(timeout=30).brokers))
    configure(pipeline_settings, ResourceType.BROKER, str(broker), {"log.cleaner.backoff.ms": "100"})
    yield
    configure(pipeline_settings, ResourceType.BROKER, str(broker), {"log.cleaner.backoff.ms": "15000"})


def configure(settings: Settings, kind: ResourceType, name: str, values: dict[str, str]) -> None:
    """Set what an admin may set."""
    entries = [ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in values.items()]
    resource = ConfigResource(kind, name, incremental_configs=entries)
    admin = admin_client(settings)  # kept until the answer is in: its end would cancel it
    for answer in admin.incremental_alter_configs([resource]).values():
        answer.result(30)


async def _noted(settings: Settings) -> bool:
    await note_epochs(settings)
    return True


async def _is_waiting(coverage: Coverage) -> bool:
    return bool(await coverage.sink.connection.fetchval("SELECT count(*) FROM etl_runs WHERE published = 4"))
