"""Covers raw offsets that carry no record, once the broker has shown that they don't (decision 0027).

Otherwise every transaction would leave a hole in its partition's range, and each batch would cost as much as there are
holes. Beside the sink's writes, holes that last are read now and then, so that a marker at the end of a partition is
covered before retention can take it; between two batches they are read as soon as they are many.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import OffsetSpec

from runtime.errors import Backpressure
from runtime.kafka.clients import reason
from runtime.kafka.holes import HoleReader
from runtime.kafka.offset_ranges import OffsetRanges
from runtime.kafka.topic_admin import LastingAdmin, Place, end_offsets, list_offsets, topic_ids
from runtime.settings import Settings
from sinks.postgres.connection import SinkConnection
from stores.coverage import cover_void, joining
from stores.epochs import raw_topics, refresh_epochs
from stores.postgres_connection import Connection

log = structlog.get_logger()

READ_EVERY_SECONDS = 2.0
"""Between two readings of holes that last. A hole that is new may still be filled."""

MANY_HOLES = 1_000
"""Holes in the range of a partition from which on they cost more to carry along than to read."""

MOST_OFFSETS = 100_000
"""Offsets of a partition that are read at once; the next reading goes on."""

_COVERAGE = "SELECT topic, partition, ranges FROM coverage WHERE topic = ANY($1::text[])"


@dataclass
class _Seen:
    """Offsets of a partition that were read and are not covered: they need not be read again."""

    topic_id: str
    records: OffsetRanges = field(default_factory=OffsetRanges)
    empty: OffsetRanges = field(default_factory=OffsetRanges)


class VoidOffsets:
    """The void offsets that one sink process finds; several may run at once. Connects on first use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reader = HoleReader(settings)
        self._connection = SinkConnection(settings)
        self._admin = LastingAdmin(settings)
        self._one_at_a_time = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._parts: Counter[Place] = Counter()
        self._missing: dict[Place, OffsetRanges] = {}
        self._ends: dict[Place, int] = {}
        self._seen: dict[Place, _Seen] = {}
        self._told = False

    def watch(self) -> None:
        """Begin to read holes that last. Idempotent."""
        self._watching = self._watching or asyncio.create_task(self._watch())

    def note(self, parts: Mapping[Place, int]) -> None:
        """A batch has reached offsets in so many ranges per partition."""
        for place, count in parts.items():
            self._parts[place] += count - 1

    async def relieve(self) -> None:
        """Read the holes between covered offsets where they may be many. Raises what ended the watch, if anything."""
        if self._watching is not None and self._watching.done():
            self._watching.result()
        if crowded := [place for place, parts in self._parts.items() if parts > MANY_HOLES]:
            await self._attempt(lambda connection: self._close_holes(connection, crowded))

    async def cover_lasting(self, connection: Connection) -> None:
        """Read and cover the holes that were there the last time too. Raises KafkaException and what asyncpg raises."""
        topics = list(raw_topics(self._settings))
        ends = await asyncio.to_thread(end_offsets, self._settings, topics)
        earliest = {place: OffsetSpec.earliest() for place in ends}  # type: ignore[no-untyped-call]
        begins = await asyncio.to_thread(self._admin.ask, lambda client: list_offsets(client, earliest))
        covered = await self._coverage(connection, topics)
        lasting: dict[Place, tuple[OffsetRanges, OffsetRanges]] = {}
        for at, end in ends.items():
            place, accounted = (at.topic, at.partition), covered.get((at.topic, at.partition), OffsetRanges())
            missing = OffsetRanges([(begins[at], end)]).without(accounted)
            still = missing.common(self._missing.get(place, OffsetRanges()))
            covered_to = accounted.end()
            if self._ends.get(place) != covered_to:  # records are coming in: what lies ahead is on its way
                still = still.within(0, covered_to)
            self._missing[place], self._ends[place] = missing, covered_to
            if still:
                lasting[place] = still, accounted
            else:
                self._seen.pop(place, None)
        if lasting:
            await refresh_epochs(connection, self._settings)
            for place, (holes, accounted) in lasting.items():
                await self._prove(connection, place, holes, accounted)

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._watching
        await self._reader.close()
        await self._connection.close()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(READ_EVERY_SECONDS)
            await self._attempt(self.cover_lasting)

    async def _attempt(self, work: Callable[[Connection], Awaitable[None]]) -> None:
        """Do it unless a store is away: it can wait. Raises what is no outage."""
        async with self._one_at_a_time:
            try:
                async with self._connection.use() as (connection, _):
                    await work(connection)
                self._told = False
            except (Backpressure, KafkaException) as error:
                if not self._told:
                    why = error.reason if isinstance(error, Backpressure) else reason(error)
                    log.warning("void_offsets_not_read", reason=why)
                self._told = True

    async def _close_holes(self, connection: Connection, places: list[Place]) -> None:
        for place in places:
            self._parts[place] = 0
            accounted = await self._accounted(connection, place)
            if accounted.parts() > MANY_HOLES:
                holes = OffsetRanges([(0, accounted.end())]).without(accounted)
                await self._prove(connection, place, holes, accounted)
                # Of those that stay, records still come: no need to look again before there are twice as many.
                self._parts[place] = -(await self._accounted(connection, place)).parts()

    async def _prove(self, connection: Connection, place: Place, holes: OffsetRanges, accounted: OffsetRanges) -> None:
        topic_id = await self._topic_id(place[0])
        seen = self._seen.get(place)
        if seen is None or seen.topic_id != topic_id:
            seen = self._seen[place] = _Seen(topic_id)
        # What lies behind a record that is still to come joins nothing yet, and may be a long way to read.
        if awaited := seen.records.first_from(accounted.end()):
            holes = holes.within(0, awaited[0])
        between = holes.within(0, accounted.end()).without(seen.records).without(seen.empty)
        ahead = holes.within(accounted.end(), holes.end()).without(seen.empty)
        for unread, most in ((between, MOST_OFFSETS), (ahead, 1)):
            if unread:
                evidence = await self._reader.read(place, unread, most)
                seen.records = OffsetRanges(sorted([*seen.records, *evidence.records])).without(accounted)
                seen.empty = OffsetRanges(sorted([*seen.empty, *evidence.empty])).without(accounted)
        if await self._topic_id(place[0]) != topic_id:
            del self._seen[place]
        elif empty := joining(accounted, seen.empty):
            await cover_void(connection, place, empty, topic_id)
            log.debug("void_offsets_booked", topic=place[0], partition=place[1], offsets=len(empty))

    async def _accounted(self, connection: Connection, place: Place) -> OffsetRanges:
        return (await self._coverage(connection, [place[0]])).get(place, OffsetRanges())

    async def _coverage(self, connection: Connection, topics: list[str]) -> dict[Place, OffsetRanges]:
        return {
            (topic, partition): OffsetRanges((part.lower, part.upper) for part in ranges)
            for topic, partition, ranges in await connection.fetch(_COVERAGE, topics)
        }

    async def _topic_id(self, topic: str) -> str:
        return (await asyncio.to_thread(self._admin.ask, lambda client: topic_ids(client, [topic])))[topic]
