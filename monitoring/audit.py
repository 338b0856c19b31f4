"""Is every record accounted for? What Postgres has booked, against what the raw topics hold.

Costs one query and a few offset look-ups, however many records there are. Raw topics hold records only: our producers
are idempotent but not transactional, so every offset is a record.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec
from sqlalchemy.ext.asyncio import AsyncEngine

from monitoring.lag import PartitionLag, Place, read_lag
from monitoring.moved_keys import MovedKeys
from runtime.coverage import Books, read_books
from runtime.epochs import raw_topics, read_epochs
from runtime.offset_ranges import OffsetRanges
from runtime.settings import Settings
from runtime.topic_admin import admin_client, end_offsets, incarnations, list_offsets
from schemas.registry import ingested_datasets
from schemas.topics import FAILURES_TOPIC

NO_BOOKS = Books(OffsetRanges(), {})


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
    """Records that are on their way: not covered yet, and the groups still lag."""
    holes: tuple[tuple[int, int], ...]
    """Records that nobody will bring any more: lost."""
    outcomes: Mapping[str, int]

    @property
    def balanced(self) -> bool:
        """Whether as many outcomes are counted as records are covered: each exactly once."""
        return sum(self.outcomes.values()) == self.covered

    @property
    def clean(self) -> bool:
        """Whether no record is lost or counted twice."""
        return not self.holes and self.balanced


async def audit(settings: Settings, engine: AsyncEngine) -> list[PartitionAudit]:
    """Audit every raw partition of this pipeline. Changes nothing.

    Raises KafkaException or SQLAlchemyError when one of the two does not answer.
    """
    # In this order: what was below the ends when a group had no lag must be in the books that are read afterwards.
    begins, ends = await asyncio.to_thread(_raw_offsets, settings)
    now = await asyncio.to_thread(incarnations, settings, list(raw_topics(settings)))
    settled = settled_partitions(await read_lag(settings), settings)
    async with engine.connect() as connection:
        books = await read_books(connection)
        known = await read_epochs((await connection.get_raw_connection()).driver_connection, list(now))
    anew = {topic for topic in now if topic in known and known[topic][-1].topic_id != now[topic].topic_id}
    # Of a topic that was made anew, and that the sink has not met yet, nothing is booked.
    books = {place: kept for place, kept in books.items() if place[0] not in anew}
    return [
        audit_partition(place, begins.get(place, 0), end, books.get(place, NO_BOOKS), settled=place in settled)
        for place, end in sorted(ends.items())
    ]


def audit_json(rows: Sequence[PartitionAudit], moved: Sequence[MovedKeys] = ()) -> dict[str, Any]:
    """The audit for scripts. Pure."""
    partitions = [
        {**row.__dict__, "outcomes": dict(row.outcomes), "balanced": row.balanced, "clean": row.clean} for row in rows
    ]
    moves = {one.dataset: {"keys": one.keys, "records": one.records} for one in moved}
    return {"clean": all(row.clean for row in rows), "partitions": partitions, "moved": moves}


def audit_partition(place: Place, begin: int, end: int, books: Books, *, settled: bool) -> PartitionAudit:
    """The verdict on one raw partition. Pure.

    `settled`: no group has anything left to do for it, so whatever is not covered is lost. Before that, only what
    retention has deleted uncovered is.
    """
    uncovered = missing_ranges(books.covered, end)
    holes = uncovered if settled else [(start, min(stop, begin)) for start, stop in uncovered if start < begin]
    lost = sum(stop - start for start, stop in holes)
    total = sum(stop - start for start, stop in uncovered)
    return PartitionAudit(*place, begin, end, len(books.covered), total - lost, tuple(holes), books.outcomes)


def missing_ranges(covered: OffsetRanges, end: int) -> list[tuple[int, int]]:
    """The parts of [0, end) that are not covered. Pure."""
    missing, position = [], 0
    for start, stop in covered:
        if start > position:
            missing.append((position, min(start, end)))
        position = max(position, stop)
        if position >= end:
            return [gap for gap in missing if gap[0] < gap[1]]
    return [gap for gap in [*missing, (position, end)] if gap[0] < gap[1]]


def settled_partitions(lags: Iterable[PartitionLag], settings: Settings) -> set[Place]:
    """Raw partitions for which neither the normalizer nor the Postgres sink has anything left to do. Pure.

    Stages write to the partition that they read from, so the partition number says which ones belong together.
    """
    behind = {(row.topic, row.partition) for row in lags if row.lag}
    seen = {(row.topic, row.partition) for row in lags}
    settled = set()
    for dataset in ingested_datasets():
        raw, *others = (settings.named(topic) for topic in (dataset.raw_topic, dataset.clean_topic, FAILURES_TOPIC))
        settled |= {
            (topic, partition)
            for topic, partition in seen
            if topic == raw and not behind & {(name, partition) for name in (raw, *others)}
        }
    return settled


def _raw_offsets(settings: Settings) -> tuple[dict[Place, int], dict[Place, int]]:
    topics = [settings.named(dataset.raw_topic) for dataset in ingested_datasets()]
    ends = end_offsets(settings, topics)
    earliest = {place: OffsetSpec.earliest() for place in ends}  # type: ignore[no-untyped-call]
    begins = list_offsets(admin_client(settings), earliest)
    return _by_place(begins), _by_place(ends)


def _by_place(offsets: Mapping[TopicPartition, int]) -> dict[Place, int]:
    return {(place.topic, place.partition): offset for place, offset in offsets.items()}
