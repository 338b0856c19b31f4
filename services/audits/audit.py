"""The audit of records: offsets that Postgres has booked, against those that the raw topics hold.

Costs one query and a few offset look-ups, however many records there are, and a reading of the offsets that Postgres
has not booked where nobody is behind any more: whether they carry a record only the broker can tell. An offset is not a
record (decision 0027).
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import asyncpg
from confluent_kafka.admin import OffsetSpec
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from runtime.kafka.offset_ranges import Evidence, OffsetRanges
from runtime.kafka.topic_admin import Incarnation, Place, admin_client, end_offsets, incarnations, list_offsets
from runtime.patience import Patience
from runtime.settings import Settings
from services.audits.moved_keys import MovedKeys, moved_keys
from stores.coverage import PartitionCoverage, cover_void, joining, read_apart, read_coverage
from stores.epochs import is_raw, raw_topics, read_epochs
from stores.passages import Passage, judge_missing, read_passages

if TYPE_CHECKING:
    from runtime.kafka.holes import HoleReader

READ_WHILE_BEHIND = 20_000
"""Unbooked offsets of a partition that are read while groups are behind. Of more of them nearly all are in flight."""

POLL_SECONDS = 0.5

NO_BOOKS = PartitionCoverage(OffsetRanges(), {})


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
    held: int = 0
    """Offsets behind `end`, written but not to be read before an open transaction ends. Neither in flight nor lost."""
    balanced: bool = True
    """As many outcomes are counted as records are covered: each exactly once."""
    declared: bool = True
    """Its dataset is still declared. Nobody takes the rest of another one: it stays in flight."""

    @property
    def clean(self) -> bool:
        """No record is lost, counted twice, unprovable, or held."""
        return self.balanced and not (self.holes or self.expired or self.unprovable or self.outcomes.get("held"))

    @property
    def on_its_way(self) -> int:
        """Records that may still come: in flight, or held by an open transaction."""
        return self.in_flight + self.held


async def audit(settings: Settings, engine: AsyncEngine) -> list[PartitionAudit]:
    """Audit every raw partition of this pipeline.

    Changes nothing but that it books what it has seen to carry no record: the log may lose the evidence. Raises
    KafkaException or SQLAlchemyError when one of the two does not answer.
    """
    now = await asyncio.to_thread(incarnations, settings, list(raw_topics(settings)))
    passages = await asyncio.to_thread(read_passages, settings)
    async with engine.connect() as connection:
        books = await read_coverage(connection)
        known = await read_epochs((await connection.get_raw_connection()).driver_connection, list(now))
    recreated = {topic for topic in now if topic in known and known[topic][-1].topic_id != now[topic].topic_id}
    # Of a topic that was created again, and that the sink has not met yet, nothing is booked.
    books = {place: kept for place, kept in books.items() if place[0] not in recreated}
    declared = raw_topics(settings)
    strangers = {topic for topic, _ in books if is_raw(topic, settings)} - declared.keys()
    passages |= await asyncio.to_thread(_undeclared, settings, sorted(strangers))
    # Imported here, since it loads a second Kafka client.
    from runtime.kafka.holes import HoleReader

    reader = HoleReader(settings)
    evidence: dict[Place, Evidence] = {}
    try:
        for place, passage in sorted(passages.items()):
            evidence[place] = await _evidence(reader, place, passage, books.get(place, NO_BOOKS))
    finally:
        await reader.close()
    empty = {place: joining(books.get(place, NO_BOOKS).accounted, shown.empty) for place, shown in evidence.items()}
    await _book(settings, engine, now, {place: offsets for place, offsets in empty.items() if offsets})
    return [
        replace(
            audit_partition(place, passages[place], books.get(place, NO_BOOKS), shown), declared=place[0] in declared
        )
        for place, shown in evidence.items()
    ]


async def audit_when_settled(
    settings: Settings, wait: float
) -> tuple[list[PartitionAudit], list[MovedKeys], dict[str, int]]:
    """Audit until nothing is on its way, or that gets no less for `wait` seconds.

    Returns the partitions, the keys that moved, and the outcomes of reprocessed records. Raises as `audit` does.
    """
    patience = Patience(wait)
    engine = create_async_engine(settings.async_database_url, pool_size=1)
    try:
        while True:
            rows = await audit(settings, engine)
            patience.note(sum(row.on_its_way for row in rows))
            if not patience.remaining or not any(row.on_its_way for row in rows):
                async with engine.connect() as connection:
                    return rows, await moved_keys(engine), await read_apart(connection)
            await asyncio.sleep(POLL_SECONDS)
    finally:
        await engine.dispose()


async def _book(
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


def _undeclared(settings: Settings, topics: list[str]) -> dict[Place, Passage]:
    """Topics whose datasets are no longer declared. Nobody takes their rest, so nothing is settled."""
    ends = end_offsets(settings, topics)
    earliest = {place: OffsetSpec.earliest() for place in ends}  # type: ignore[no-untyped-call]
    begins = list_offsets(admin_client(settings), earliest)
    return {(place.topic, place.partition): Passage(begins[place], end) for place, end in ends.items()}


async def _evidence(reader: "HoleReader", place: Place, passage: Passage, books: PartitionCoverage) -> Evidence:
    unread = unbooked(passage, books).within(passage.begin, passage.end)
    if not unread or (len(unread) > READ_WHILE_BEHIND and not passage.settled):
        return Evidence()
    return await reader.read(place, unread)


def audit_json(
    rows: Sequence[PartitionAudit],
    moved: Sequence[MovedKeys] = (),
    reprocessed: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, Any]:
    """The audit for scripts. Pure."""
    partitions = [{**row.__dict__, "outcomes": dict(row.outcomes), "clean": row.clean} for row in rows]
    moves = {one.dataset: {"keys": one.keys, "records": one.records} for one in moved}
    return {
        "clean": all(row.clean for row in rows),
        "partitions": partitions,
        "moved": moves,
        "reprocessed": dict(reprocessed),
    }


def audit_partition(place: Place, passage: Passage, books: PartitionCoverage, evidence: Evidence) -> PartitionAudit:
    """The verdict on one raw partition. Pure."""
    missing = judge_missing(passage, unbooked(passage, books), evidence)
    return PartitionAudit(
        *place,
        passage.begin,
        passage.end,
        covered=len(books.accounted) - books.void,
        in_flight=len(missing.in_flight),
        holes=tuple(missing.lost),
        outcomes=books.outcomes,
        void=books.void + len(missing.void),
        expired=len(missing.expired),
        unprovable=len(missing.unprovable),
        held=passage.held,
        balanced=sum(books.outcomes.values()) + books.void == len(books.accounted),
    )


def unbooked(passage: Passage, books: PartitionCoverage) -> OffsetRanges:
    """The offsets below the end that Postgres has not accounted for. Pure."""
    return OffsetRanges([(0, passage.end)]).without(books.accounted)
