"""Coverage: the raw offsets that have reached an outcome, and how many of each, written in the rows' own transaction.

What became of each run's records is counted beside it, a row per run and raw partition, so that only who has locked the
partition's coverage writes it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runtime.kafka.offset_ranges import OffsetRanges
from runtime.kafka.topic_admin import Place
from schemas.events import FailedRecord, Origin
from sinks.postgres.arrivals import Arrival
from stores.failure_states import NOT_DOWNSTREAM
from stores.postgres_connection import Connection
from stores.tables import OUTCOMES

_LOCK = """
    SELECT c.topic, c.partition, c.ranges * w.ranges::int8multirange, c.held
    FROM coverage c JOIN unnest($1::text[], $2::int[], $3::text[]) AS w (topic, partition, ranges)
        ON c.topic = w.topic AND c.partition = w.partition
    ORDER BY c.topic, c.partition FOR UPDATE OF c"""

_CREATE = """
    INSERT INTO coverage (topic, partition, ranges) SELECT topic, partition, '{}'
    FROM unnest($1::text[], $2::int[]) AS w (topic, partition) ORDER BY topic, partition
    ON CONFLICT DO NOTHING"""

_EXTEND = f"""
    UPDATE coverage c SET ranges = c.ranges + w.ranges::int8multirange,
        {", ".join(f"{outcome} = c.{outcome} + w.{outcome}" for outcome in OUTCOMES)}
    FROM unnest($1::text[], $2::int[], $3::text[], {", ".join(f"${4 + n}::int[]" for n in range(len(OUTCOMES)))})
        AS w (topic, partition, ranges, {", ".join(OUTCOMES)})
    WHERE c.topic = w.topic AND c.partition = w.partition"""  # noqa: S608 (column names of ours)


_HELD = """
    SELECT f.topic, f."partition", f."offset" FROM ingest_failures f
    JOIN unnest($1::text[], $2::int[], $3::text[]) AS w (topic, partition, ranges) USING (topic, partition)
    WHERE f."offset" BETWEEN lower(w.ranges::int8multirange) AND upper(w.ranges::int8multirange)
        AND f."offset" <@ w.ranges::int8multirange AND f.state = 'held'"""

_FAILED = f"""
    SELECT f.topic, f."partition", f."offset" FROM ingest_failures f
    JOIN unnest($1::text[], $2::int[], $3::bigint[]) AS w (topic, partition, "offset")
        USING (topic, partition, "offset")
    WHERE f.state IN ('open', 'parked') AND f.edited_payload IS NULL AND {NOT_DOWNSTREAM}"""  # noqa: S608

_RELEASED = """
    UPDATE ingest_failures f SET state = 'released', updated_at = now()
    FROM unnest($1::text[], $2::int[], $3::bigint[]) AS w (topic, partition, "offset")
    WHERE (f.topic, f."partition", f."offset") = (w.topic, w.partition, w."offset")
        AND f.state IN ('held', 'open', 'parked')"""


_ADD_OF_RUN = f"""
    INSERT INTO run_outcomes AS r (run_id, topic, partition, {", ".join(OUTCOMES)}, updated_at)
    SELECT w.*, now() FROM unnest($1::text[], $2::text[], $3::int[],
        {", ".join(f"${4 + n}::int[]" for n in range(len(OUTCOMES)))}) AS w ORDER BY 1, 2, 3
    ON CONFLICT (run_id, topic, partition) DO UPDATE
        SET {", ".join(f"{outcome} = r.{outcome} + excluded.{outcome}" for outcome in OUTCOMES)}, updated_at = now()"""  # noqa: S608 (column names of ours)

KEPT_DAYS = 7
"""Since the last record of a run. Who waits for a run copies its counts into `etl_runs`."""

_PURGE = f"""
    DELETE FROM run_outcomes r WHERE updated_at < now() - make_interval(days => {KEPT_DAYS})
        AND NOT EXISTS (SELECT FROM etl_runs e WHERE e.run_id = r.run_id AND e.status = 'running')"""  # noqa: S608 (a number)

LONGEST_RUN_ID = 100
"""Characters. Ours are UUIDs; what a foreign producer takes for one is counted if an index can hold it."""


Covered = Arrival | FailedRecord


class CoverageUpdate:
    """The coverage that one transaction adds: opened with the offsets in hand, closed with their outcomes.

    Opening locks the raw partitions, in one order, until the transaction ends: of two writers of the same records (one
    of them a zombie) the second waits, and then sees that the offsets are covered.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._covered: dict[Place, OffsetRanges] = {}
        self._reopened: dict[Place, dict[int, str]] = defaultdict(dict)
        """Covered offsets that may reach another outcome, and the one that they are counted under."""
        self._released: list[tuple[str, int, int]] = []
        self._reached: dict[Place, set[int]] = defaultdict(set)
        self._counts: Counter[tuple[Place, str]] = Counter()
        self._of_runs: dict[tuple[str, str, int], Counter[str]] = defaultdict(Counter)
        self.all_new = False
        """No record in hand is a repeat, of an earlier transaction or of another one in hand."""
        self.parts: dict[Place, int] = {}
        """After closing: in how many ranges lie the offsets that were reached. Between them are holes, for now."""

    async def open(self, origins: Sequence[Origin]) -> None:
        """Lock the coverage of these records' raw partitions and read which of their offsets are covered."""
        offsets: dict[Place, set[int]] = defaultdict(set)
        for origin in origins:
            offsets[origin.topic, origin.partition].add(origin.offset)
        distinct = sum(len(numbers) for numbers in offsets.values())
        wanted = {place: _ranges(numbers) for place, numbers in offsets.items()}
        holding = []
        for topic, partition, covered, held in await self._lock(wanted):
            self._covered[topic, partition] = OffsetRanges((part.lower, part.upper) for part in covered)
            if held and covered:
                holding.append((topic, partition))
        if holding:
            await self._read_held(holding)
        self.all_new = distinct == len(origins) and not any(self._covered.values())

    async def lock(self, places: Iterable[Place]) -> None:
        """Lock the coverage of these raw partitions, to move what is counted there."""
        await self._lock(dict.fromkeys(places, OffsetRanges()))

    async def _lock(self, wanted: Mapping[Place, OffsetRanges]) -> Sequence[tuple[str, int, Any, int]]:
        places = list(wanted)
        topics, partitions = [topic for topic, _ in places], [partition for _, partition in places]
        ranges = [wanted[place].multirange() for place in places]
        rows: list[tuple[str, int, Any, int]] = await self._connection.fetch(_LOCK, topics, partitions, ranges)
        if len(rows) < len(places):
            await self._connection.execute(_CREATE, topics, partitions)
            rows = await self._connection.fetch(_LOCK, topics, partitions, ranges)
        return rows

    async def _read_held(self, places: Sequence[Place]) -> None:
        topics, partitions = [topic for topic, _ in places], [partition for _, partition in places]
        ranges = [self._covered[place].multirange() for place in places]
        for topic, partition, offset in await self._connection.fetch(_HELD, topics, partitions, ranges):
            self._reopened[topic, partition][offset] = "held"

    def is_covered(self, origin: Origin) -> bool:
        """True if the record has reached an outcome, earlier or in this transaction: then this one is a repeat.

        A record that was held earlier, or is reopened, has not: whatever arrives under its coordinates is its outcome.
        """
        place, offset = (origin.topic, origin.partition), origin.offset
        covered = self._covered[place]
        earlier = bool(covered and offset in covered) and offset not in self._reopened[place]
        return earlier or offset in self._reached[place]

    async def reopen(self, origins: Sequence[Origin]) -> None:
        """Let those of these records that have failed, and that nobody has acted on since, reach another outcome."""
        places = [origin.coordinates for origin in origins if self.is_covered(origin)]
        if places:
            for topic, partition, offset in await self._connection.fetch(
                _FAILED, *map(list, zip(*places, strict=True))
            ):
                if offset not in self._reached[topic, partition]:
                    self._reopened[topic, partition][offset] = "failed"

    def is_held(self, origin: Origin) -> bool:
        return self._reopened[origin.topic, origin.partition].get(origin.offset) == "held"

    def reached(self, outcome: str, records: Iterable[Covered]) -> None:
        """These records have reached an outcome. Name each once, and none that is covered.

        What was held, or is reopened, is counted there no longer.
        """
        offsets: dict[tuple[str, int, str | None], list[int]] = defaultdict(list)
        for record in records:
            origin = record.origin
            offsets[origin.topic, origin.partition, record.run].append(origin.offset)
            if self._reopened and (before := self._reopened[origin.topic, origin.partition].get(origin.offset)):
                self._uncount(before, record)
                if outcome != "failed":
                    self._released.append(origin.coordinates)
        for (topic, partition, run), numbers in offsets.items():
            place = (topic, partition)
            self._reached[place].update(numbers)
            self._counts[place, outcome] += len(numbers)
            self._count_of_run(run, place, outcome, len(numbers))

    def moved(self, before: str, outcome: str, records: Sequence[Covered]) -> None:
        """These records, counted so before, have reached another outcome."""
        for record in records:
            self._uncount(before, record)
        self.reached(outcome, records)

    def _uncount(self, before: str, record: Covered) -> None:
        place = (record.origin.topic, record.origin.partition)
        self._counts[place, before] -= 1
        self._count_of_run(record.run, place, before, -1)

    def _count_of_run(self, run: str | None, place: Place, outcome: str, number: int) -> None:
        if run is not None and len(run) <= LONGEST_RUN_ID and "\x00" not in run:
            self._of_runs[run, *place][outcome] += number

    async def close(self) -> None:
        places = sorted(place for place, offsets in self._reached.items() if offsets)
        if not places:
            return
        counts = [[self._counts[place, outcome] for place in places] for outcome in OUTCOMES]
        reached = [_ranges(self._reached[place]) for place in places]
        self.parts = {place: ranges.parts() for place, ranges in zip(places, reached, strict=True)}
        await self._connection.execute(
            _EXTEND,
            [topic for topic, _ in places],
            [partition for _, partition in places],
            [ranges.multirange() for ranges in reached],
            *counts,
        )
        if self._of_runs:
            runs = [list(column) for column in zip(*self._of_runs, strict=True)]
            counts = [[counted[outcome] for counted in self._of_runs.values()] for outcome in OUTCOMES]
            await self._connection.execute(_ADD_OF_RUN, *runs, *counts)
        if self._released:
            await self._connection.execute(_RELEASED, *map(list, zip(*self._released, strict=True)))


def _ranges(offsets: set[int]) -> OffsetRanges:
    ranges = OffsetRanges()
    for offset in sorted(offsets):
        ranges.add(offset)
    return ranges


async def purge_run_outcomes(connection: Connection) -> None:
    """Forget the counts of runs that have long had all their records. Idempotent."""
    await connection.execute(_PURGE)
