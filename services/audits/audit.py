"""Is every record accounted for? What Postgres has booked, against what the raw topics hold.

Costs one query and a few offset look-ups, however many records there are, and a reading of the offsets that Postgres
has not booked where nobody is behind any more: whether they carry a record only the broker can tell. An offset is not a
record (decision 0027).
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import asyncpg
from confluent_kafka.admin import OffsetSpec
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.kafka.holes import Evidence, HoleReader
from runtime.kafka.offset_ranges import OffsetRanges
from runtime.kafka.topic_admin import Incarnation, Place, admin_client, end_offsets, incarnations, list_offsets
from runtime.settings import Settings
from services.audits.moved_keys import MovedKeys
from stores.coverage import PartitionCoverage, cover_void, joining, read_coverage
from stores.epochs import is_raw, raw_topics, read_epochs
from stores.passages import Passage, judge_missing, read_passages

READ_WHILE_BEHIND = 20_000
"""Unbooked offsets of a partition that are read while groups are behind. Of more of them nearly all are in flight."""

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
    """Whether as many outcomes are counted as records are covered: each exactly once."""
    declared: bool = True
    """Whether its dataset is declared still. Of another one nobody takes the rest: it stays in flight."""

    @property
    def clean(self) -> bool:
        """Whether no record is lost or counted twice, of none it is unknown, and none waits for somebody (held)."""
        return self.balanced and not (self.holes or self.expired or self.unprovable or self.outcomes.get("held"))

    @property
    def on_its_way(self) -> int:
        """What may still come: in flight, or held by an open transaction."""
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
    anew = {topic for topic in now if topic in known and known[topic][-1].topic_id != now[topic].topic_id}
    # Of a topic that was made anew, and that the sink has not met yet, nothing is booked.
    books = {place: kept for place, kept in books.items() if place[0] not in anew}
    declared = raw_topics(settings)
    strangers = {topic for topic, _ in books if is_raw(topic, settings)} - declared.keys()
    passages |= await asyncio.to_thread(_undeclared, settings, sorted(strangers))
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
    """What there is of topics whose datasets are declared no more. Nobody takes the rest, so nothing is settled."""
    ends = end_offsets(settings, topics)
    earliest = {place: OffsetSpec.earliest() for place in ends}  # type: ignore[no-untyped-call]
    begins = list_offsets(admin_client(settings), earliest)
    return {(place.topic, place.partition): Passage(begins[place], end) for place, end in ends.items()}


async def _evidence(reader: HoleReader, place: Place, passage: Passage, books: PartitionCoverage) -> Evidence:
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
