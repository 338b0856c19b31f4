"""The audit of records: offsets that Postgres covers, against those that the raw topics hold.

Costs one query and a few offset look-ups, however many records there are, and a reading of the offsets that are not
covered where nobody is behind any more: whether they carry a record only the broker can tell. An offset is not a record
(decision 0027).
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import asyncpg
from confluent_kafka.admin import OffsetSpec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.kafka.offset_ranges import Evidence, OffsetRanges
from runtime.kafka.topic_admin import Incarnation, Place, admin_client, end_offsets, incarnations, list_offsets
from runtime.patience import Patience
from runtime.settings import Settings
from schemas.registry import ingested_datasets
from stores.coverage import PartitionCoverage, cover_void, joining, read_coverage, read_reprocessed
from stores.epochs import is_raw, raw_topics, read_epochs
from stores.passages import Passage, ends_of_logs, judge_missing, read_passages
from stores.postgres_engine import postgres_engine
from stores.tables import dataset_table

if TYPE_CHECKING:
    from runtime.kafka.holes import HoleReader

READ_WHILE_BEHIND = 20_000
"""Uncovered offsets of a partition that are read while groups are behind. Of more of them nearly all are in flight."""

POLL_SECONDS = 0.5

NO_COVERAGE = PartitionCoverage(OffsetRanges(), {})


@dataclass(frozen=True)
class PartitionAudit:
    """One raw partition. Ranges of offsets are half-open."""

    topic: str
    partition: int
    begin: int
    end: int
    covered: int
    """Records that have reached an outcome."""
    in_flight: int
    """Records that are on their way. Far behind, where offsets are not read one by one: at most so many."""
    holes: tuple[tuple[int, int], ...]
    """Records that nobody will bring any more: lost."""
    outcomes: Mapping[str, int]
    void: int = 0
    """Offsets that carry no record, as the broker has shown: transactions' markers and what was aborted."""
    expired: int = 0
    """Offsets that the broker has deleted before Postgres had them, by retention or by order."""
    unprovable: int = 0
    """Offsets that have vanished before Postgres had them, by compaction: nobody can tell what they carried."""
    beyond: int = 0
    """Offsets that Postgres has booked and the topic does not have: forged in a clean topic, or the log was cut off.
    A record that comes there will be taken for a repeat."""
    held: int = 0
    """Offsets behind `end`, written but not to be read before an open transaction ends. Neither in flight nor lost."""
    balanced: bool = True
    """As many outcomes are counted as records are covered: each exactly once."""
    declared: bool = True
    """Its dataset is still declared. Nobody takes the rest of another one: it stays in flight."""

    @property
    def clean(self) -> bool:
        """No record is lost, counted twice, unprovable, booked before there is one, or held."""
        wrong = self.holes or self.expired or self.unprovable or self.beyond or self.outcomes.get("held")
        return self.balanced and not wrong

    @property
    def on_its_way(self) -> int:
        """Records that may still come: in flight, or held by an open transaction."""
        return self.in_flight + self.held


@dataclass(frozen=True)
class MovedKeys:
    """Keys of a dataset that came in several partitions, and the records that replaced a row from another one.

    These are ordered by time, not by offset (decision 0013).
    """

    dataset: str
    keys: int
    records: int


@dataclass(frozen=True)
class Audit:
    """The audit of a pipeline."""

    partitions: list[PartitionAudit]
    moved: list[MovedKeys]
    reprocessed: dict[str, int]
    """Records that `headrace reprocess` has read again, by outcome."""

    def json(self) -> dict[str, Any]:
        """For scripts."""
        rows = [{**row.__dict__, "outcomes": dict(row.outcomes), "clean": row.clean} for row in self.partitions]
        return {
            "clean": all(row.clean for row in self.partitions),
            "partitions": rows,
            "moved": {one.dataset: {"keys": one.keys, "records": one.records} for one in self.moved},
            "reprocessed": self.reprocessed,
        }


async def audit_when_settled(settings: Settings, wait: float) -> Audit:
    """Audit until nothing is on its way, or that gets no less for `wait` seconds. Raises as `audit` does."""
    patience = Patience(wait)
    engine = postgres_engine(settings, pool_size=1)
    try:
        while True:
            found = await whole_audit(settings, engine)
            left = sum(row.on_its_way for row in found.partitions)
            patience.note(left)
            if not left or not patience.remaining:
                return found
            await asyncio.sleep(POLL_SECONDS)
    finally:
        await engine.dispose()


async def whole_audit(settings: Settings, engine: AsyncEngine) -> Audit:
    """Audit every raw partition, and count moved keys and reprocessed records. Raises as `audit` does."""
    partitions = await audit(settings, engine)
    async with engine.connect() as connection:
        return Audit(partitions, await moved_keys(connection), await read_reprocessed(connection))


async def audit(settings: Settings, engine: AsyncEngine) -> list[PartitionAudit]:
    """Audit every raw partition of this pipeline.

    Changes nothing but that it covers what it has seen to carry no record: the log may lose the evidence. Raises
    KafkaException or SQLAlchemyError when one of the two does not answer.
    """
    now = await asyncio.to_thread(incarnations, settings, list(raw_topics(settings)))
    passages = await asyncio.to_thread(read_passages, settings)
    async with engine.connect() as connection:
        coverage = await read_coverage(connection)
        known = await read_epochs((await connection.get_raw_connection()).driver_connection, list(now))
    recreated = {topic for topic in now if topic in known and known[topic][-1].topic_id != now[topic].topic_id}
    # Of a topic that was created again, and that the sink has not met yet, nothing is covered.
    coverage = {place: covered for place, covered in coverage.items() if place[0] not in recreated}
    declared = raw_topics(settings)
    undeclared = {topic for topic, _ in coverage if is_raw(topic, settings)} - declared.keys()
    passages |= await asyncio.to_thread(_undeclared_passages, settings, sorted(undeclared))
    coverage = {place: coverage.get(place, NO_COVERAGE) for place in sorted(passages)}
    passages |= await asyncio.to_thread(_up_to_date, settings, passages, coverage)
    from runtime.kafka.holes import HoleReader  # here, since it loads a second Kafka client

    reader = HoleReader(settings)
    try:
        evidence = {place: await _evidence(reader, place, passages[place], coverage[place]) for place in coverage}
    finally:
        await reader.close()
    empty = {place: joining(coverage[place].accounted, shown.empty) for place, shown in evidence.items()}
    await _cover(settings, engine, now, {place: offsets for place, offsets in empty.items() if offsets})
    return [
        replace(audit_partition(place, passages[place], coverage[place], shown), declared=place[0] in declared)
        for place, shown in evidence.items()
    ]


async def moved_keys(connection: AsyncConnection) -> list[MovedKeys]:
    """Datasets with such keys. One query each, on an index of such rows alone. Raises SQLAlchemyError."""
    found = []
    for dataset in ingested_datasets():
        moves = dataset_table(dataset).c.raw_moves
        query = select(func.count(), func.coalesce(func.sum(moves), 0)).where(moves > 0)
        keys, records = (await connection.execute(query)).one()
        if keys:
            found.append(MovedKeys(dataset.name, keys, int(records)))
    return found


def audit_partition(place: Place, passage: Passage, coverage: PartitionCoverage, evidence: Evidence) -> PartitionAudit:
    """The verdict on one raw partition. Pure."""
    missing = judge_missing(passage, uncovered(passage, coverage), evidence)
    return PartitionAudit(
        *place,
        passage.begin,
        passage.end,
        covered=len(coverage.accounted) - coverage.void,
        in_flight=len(missing.in_flight),
        holes=tuple(missing.lost),
        outcomes=coverage.outcomes,
        void=coverage.void + len(missing.void),
        expired=len(missing.expired),
        unprovable=len(missing.unprovable),
        beyond=len(coverage.accounted.within(passage.top, coverage.accounted.end())),
        held=passage.held,
        balanced=sum(coverage.outcomes.values()) + coverage.void == len(coverage.accounted),
    )


def uncovered(passage: Passage, coverage: PartitionCoverage) -> OffsetRanges:
    """The offsets below the end that Postgres has not accounted for. Pure."""
    return OffsetRanges([(0, passage.end)]).without(coverage.accounted)


async def _evidence(reader: "HoleReader", place: Place, passage: Passage, coverage: PartitionCoverage) -> Evidence:
    unread = uncovered(passage, coverage).within(passage.begin, passage.end)
    if not unread or (len(unread) > READ_WHILE_BEHIND and not passage.settled):
        return Evidence()
    return await reader.read(place, unread)


async def _cover(
    settings: Settings, engine: AsyncEngine, read: Mapping[str, Incarnation], empty: Mapping[Place, OffsetRanges]
) -> None:
    if not empty:
        return
    now = await asyncio.to_thread(incarnations, settings, list(read))
    # A Postgres that takes no writes for now can be audited all the same.
    with contextlib.suppress(asyncpg.PostgresError):
        async with engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            for place, offsets in empty.items():
                if place[0] in now and now[place[0]].topic_id == read[place[0]].topic_id:
                    await cover_void(driver, place, offsets, now[place[0]].topic_id)


def _up_to_date(
    settings: Settings, passages: Mapping[Place, Passage], coverage: Mapping[Place, PartitionCoverage]
) -> dict[Place, Passage]:
    """Those passages of which more is covered than there was: records have come since, if the topic has them now."""
    overtaken = [place for place in coverage if coverage[place].accounted.end() > passages[place].top]
    ends = ends_of_logs(settings, overtaken) if overtaken else {}
    return {place: replace(passages[place], seen_to=end) for place, end in ends.items()}


def _undeclared_passages(settings: Settings, topics: list[str]) -> dict[Place, Passage]:
    """Of topics whose datasets are no longer declared. Nobody takes their rest, so nothing is settled."""
    ends = end_offsets(settings, topics)
    earliest = {place: OffsetSpec.earliest() for place in ends}  # type: ignore[no-untyped-call]
    begins = list_offsets(admin_client(settings), earliest)
    return {(place.topic, place.partition): Passage(begins[place], end) for place, end in ends.items()}
