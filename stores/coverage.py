"""Coverage, as the Postgres sink keeps it: what has been stored, what failed, what is still on its way."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from confluent_kafka import KafkaException
from sqlalchemy import BigInteger, Integer, Text, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runtime.kafka.offset_ranges import Evidence, OffsetRanges
from runtime.patience import Patience
from runtime.settings import Settings
from stores.failure_states import NOT_DOWNSTREAM, TAKEN_SINCE
from stores.passages import judge_missing, read_passages
from stores.tables import OUTCOMES, coverage, run_outcomes

Wanted = Mapping[tuple[str, int], OffsetRanges]
"""Per (physical raw topic, partition), the offsets in question: as a producer's delivery reports name them."""

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 0.5

STUCK_SECONDS = 5.0
"""When no record arrives in Postgres for so long, a wait asks Kafka whether it still has what is missing."""

_WANTED = "unnest(:topics, :partitions, :ranges) AS w (topic, partition, ranges)"

_PARAMETERS = (
    bindparam("topics", type_=ARRAY(Text)),
    bindparam("partitions", type_=ARRAY(Integer)),
    bindparam("ranges", type_=ARRAY(Text)),
)

_LEFT = f"""
    FROM {_WANTED} LEFT JOIN coverage c USING (topic, partition),
        unnest(w.ranges::int8multirange - coalesce(c.ranges, '{{}}')) AS part"""

_MISSING = text(f"SELECT w.topic, w.partition, lower(part), upper(part) {_LEFT}").bindparams(*_PARAMETERS)

_PENDING = text(f"SELECT coalesce(sum(upper(part) - lower(part)), 0)::bigint {_LEFT}").bindparams(*_PARAMETERS)

_FAILED = text(f"""
    SELECT count(*) FROM {_WANTED} JOIN ingest_failures f USING (topic, partition)
    WHERE f."offset" BETWEEN lower(w.ranges::int8multirange) AND upper(w.ranges::int8multirange)
        AND f."offset" <@ w.ranges::int8multirange AND {NOT_DOWNSTREAM}
        AND f.state NOT IN {TAKEN_SINCE}""").bindparams(*_PARAMETERS)  # noqa: S608


_OF_RUN = select(
    *(func.coalesce(func.sum(run_outcomes.c[outcome]), 0).cast(BigInteger).label(outcome) for outcome in OUTCOMES)
)

_CREATE = "INSERT INTO coverage (topic, partition, ranges) VALUES ($1, $2, '{}') ON CONFLICT DO NOTHING"

# Only in the coverage of the incarnation that was read.
_COVER = """
    UPDATE coverage c SET ranges = c.ranges + $3::text::int8multirange, void = c.void + (
        SELECT coalesce(sum(upper(part) - lower(part)), 0) FROM unnest($3::text::int8multirange - c.ranges) AS part)
    WHERE c.topic = $1 AND c.partition = $2 AND $4 = (
        SELECT e.topic_id FROM topic_epochs e WHERE e.topic = $1 ORDER BY e.epoch DESC LIMIT 1)"""


@dataclass(frozen=True)
class Outcome:
    """The wanted records: stored (superseded, unchanged and deleted too), failed (held too), unknown yet."""

    stored: int
    failed: int
    pending: int
    gone: int = 0
    """Pending records that nobody will bring any more: Kafka lost them before Postgres had them."""
    of_run: Mapping[str, int] = field(default_factory=dict)
    """The run's records by outcome; empty where no run was asked for."""

    def counts(self) -> dict[str, int]:
        """The counts to record of the run: its outcomes, and as `expired` those that Kafka has lost, if any."""
        return {**self.of_run, **({"expired": self.gone} if self.gone else {})}

    def why_gone(self) -> str:
        """A sentence on those that are gone, for people, with the way out."""
        return (
            f"{self.gone:,} published records are gone from Kafka, by retention or compaction, and Postgres never had "
            "them; publish them again (a run: with --full). `headrace audit` counts them, TOPIC_RETENTION_HOURS says "
            "how long Kafka keeps records, `headrace lag` who was behind"
        )


async def outcome(connection: AsyncConnection, wanted: Wanted, run: str | None = None) -> Outcome:
    """Count the wanted records by where they are; `run` is the run that they all are of, and that has no others."""
    pending = await _count_missing(connection, wanted)
    # Those that only Elasticsearch refused are stored.
    failures = int((await connection.execute(_FAILED, _arguments(wanted))).scalar_one())
    total = sum(map(len, wanted.values()))
    of_run = {}
    if run is not None:
        found = await connection.execute(_OF_RUN.where(run_outcomes.c.run_id == run))
        of_run = dict(found.mappings().one())
    return Outcome(max(0, total - pending - failures), failures, pending, of_run=of_run)


async def missing(connection: AsyncConnection, wanted: Wanted) -> dict[tuple[str, int], OffsetRanges]:
    """The wanted records that have reached no outcome yet."""
    found: dict[tuple[str, int], OffsetRanges] = {}
    for topic, partition, start, end in await connection.execute(_MISSING, _arguments(wanted)):
        found.setdefault((topic, partition), OffsetRanges()).add_range(start, end)
    return found


async def wait_until_covered(
    settings: Settings,
    engine: AsyncEngine,
    wanted: Wanted,
    patience: Patience,
    progress: Callable[[int], None] | None = None,
    run: str | None = None,
) -> Outcome:
    """Wait until every wanted record has reached an outcome, or the patience is over; `pending` says how many have not.

    Asks a few times a second, holding no connection meanwhile. `progress` is called with the number still pending.
    When none comes for a while, Kafka is asked whether it still has them, and the wait ends when it has none (`gone`).
    Raises what SQLAlchemy raises when Postgres is gone. That Kafka does not answer ends nothing.
    """
    stuck_at = time.monotonic() + STUCK_SECONDS
    pause, before = FIRST_PAUSE_SECONDS, None
    while True:
        async with engine.connect() as connection:
            pending = await _count_missing(connection, wanted)
            if progress is not None:
                progress(pending)
            patience.note(pending)
            now = time.monotonic()
            if pending == 0 or not patience.remaining:
                return await outcome(connection, wanted, run)
            stuck = pending == before and now >= stuck_at
            uncovered = await missing(connection, wanted) if stuck else {}
        if pending != before or stuck:
            before, stuck_at = pending, now + STUCK_SECONDS
        if stuck and await _gone(settings, uncovered) >= pending:
            async with engine.connect() as connection:
                found = await outcome(connection, wanted, run)
                return replace(found, gone=found.pending)
        await asyncio.sleep(min(pause, patience.remaining))
        pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)


async def _gone(settings: Settings, uncovered: Wanted) -> int:
    """The number of missing records that nobody will bring any more; 0 if Kafka cannot be asked."""
    # Imported here, since it loads a second Kafka client, and most who read coverage look into no hole.
    from runtime.kafka.holes import HoleReader

    reader, gone = HoleReader(settings), 0
    try:
        passages = await asyncio.to_thread(read_passages, settings, list(uncovered))
        for place, offsets in uncovered.items():
            passage = passages[place]
            kept = offsets.within(passage.begin, passage.end)
            evidence = await reader.read(place, kept) if kept and passage.settled else Evidence()
            judged = judge_missing(passage, offsets, evidence)
            gone += len(judged.expired) + len(judged.unprovable)
    except KafkaException:
        return 0
    finally:
        await reader.close()
    return gone


async def _count_missing(connection: AsyncConnection, wanted: Wanted) -> int:
    return int((await connection.execute(_PENDING, _arguments(wanted))).scalar_one())


def _arguments(wanted: Wanted) -> dict[str, object]:
    places = sorted(wanted)
    return {
        "topics": [topic for topic, _ in places],
        "partitions": [partition for _, partition in places],
        "ranges": [wanted[place].multirange() for place in places],
    }


def reprocessing_topic(job: str, topic: str) -> str:
    """The name under which a job that reprocesses a topic counts outcomes; no topic of Kafka's can have it. Pure."""
    return f"#{job}#{topic}#"


async def read_reprocessed(connection: AsyncConnection, job: str | None = None) -> dict[str, int]:
    """The records of a reprocessing, or of all so far, by outcome; zeros are left out."""
    columns = [func.coalesce(func.sum(coverage.c[outcome]), 0).label(outcome) for outcome in OUTCOMES]
    query = select(*columns).where(coverage.c.topic.startswith("#" if job is None else f"#{job}#", autoescape=True))
    (row,) = (await connection.execute(query)).mappings()
    return {outcome: int(number) for outcome, number in row.items() if number}


@dataclass(frozen=True)
class PartitionCoverage:
    """The coverage of one raw partition."""

    accounted: OffsetRanges
    """Offsets of records that have reached an outcome, and of none: those carry no record, as the broker has shown."""
    outcomes: Mapping[str, int]
    void: int = 0
    """The number of offsets that carry no record."""


async def read_coverage(connection: AsyncConnection) -> dict[tuple[str, int], PartitionCoverage]:
    """The coverage of every partition that has any, by physical topic and partition. One query."""
    rows = (await connection.execute(select(coverage))).mappings()
    return {
        (row["topic"], row["partition"]): PartitionCoverage(
            OffsetRanges((part.lower, part.upper) for part in row["ranges"]),
            {outcome: row[outcome] for outcome in OUTCOMES},
            row["void"],
        )
        for row in rows
    }


def joining(accounted: OffsetRanges, empty: OffsetRanges) -> OffsetRanges:
    """The empty offsets that join what is covered, or begin the partition. Pure.

    The others would only be more ranges to carry along: between records that are still to come there may be as many as
    there are transactions.
    """
    joined = OffsetRanges(sorted([*accounted, *empty]))
    kept = OffsetRanges()
    for start, end in joined:
        covered = accounted.first_from(start)
        if start == 0 or (covered is not None and covered[0] < end):
            kept.add_range(start, end)
    return kept.common(empty)


async def cover_void(connection: Any, place: tuple[str, int], empty: OffsetRanges, topic_id: str) -> None:
    """Account for these offsets of the topic with this id, which must have been it before they were read and after.

    `connection` is asyncpg's. Idempotent; changes nothing if Postgres keeps the coverage of another incarnation. Raises
    what asyncpg raises.
    """
    await connection.execute(_CREATE, *place)
    await connection.execute(_COVER, *place, empty.multirange(), topic_id)
