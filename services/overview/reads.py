"""Thin reads for the overview, each cheap: indexed counts, one row a source, one a partition, the newest changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from confluent_kafka.admin import AdminClient
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from runtime.kafka.browse import Budget, bounds, browser, newest
from runtime.kafka.topic_admin import REQUEST_TIMEOUT_SECONDS
from runtime.settings import Settings
from schemas.errors import HOSTILE
from schemas.events import ChangeEvent
from schemas.registry import ingested_datasets
from services.overview.model import Latency, LettersOfReason, OpenLetters

LATEST_CHANGES = 100
LATENCY_SECONDS = 2.0
LATENCY_BYTES = 4_194_304

_LETTERS = text("""
    SELECT count(*) FILTER (WHERE state <> 'held'), count(*) FILTER (WHERE state = 'held'), min(failed_at)
    FROM ingest_failures WHERE state IN ('open', 'queued', 'replayed', 'parked', 'held')""")

_REASONS = text("""
    SELECT dataset, reason, count(*) FROM ingest_failures WHERE state IN ('open', 'queued', 'replayed', 'parked')
    GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 5""")

# One look-up in the index for each source: it jumps from one to the next.
_RUNS = text("""
    WITH RECURSIVE sources AS (
        (SELECT source FROM etl_runs ORDER BY source LIMIT 1)
        UNION ALL
        SELECT (SELECT r.source FROM etl_runs r WHERE r.source > s.source ORDER BY r.source LIMIT 1)
        FROM sources s WHERE s.source IS NOT NULL)
    SELECT l.source, l.dataset, l.status, l.started_at, l.finished_at, l.published, l.failure_reason
    FROM sources s CROSS JOIN LATERAL (
        SELECT * FROM etl_runs r WHERE r.source = s.source ORDER BY r.started_at DESC LIMIT 1) AS l
    WHERE s.source IS NOT NULL""")

_COVERAGE = text("""
    SELECT topic, partition, upper(ranges), (SELECT count(*) FROM unnest(ranges)),
        (SELECT coalesce(sum(upper(part) - lower(part)), 0) FROM unnest(ranges) AS part)
    FROM coverage WHERE topic = ANY(CAST(:topics AS text[]))""")


@dataclass(frozen=True)
class LastRun:
    """The last run of a source."""

    source: str
    dataset: str
    status: str
    started_at: datetime
    finished_at: datetime | None
    published: int | None
    failure_reason: str | None


@dataclass(frozen=True)
class Covered:
    """The coverage of a raw partition: up to `upper`, in so many ranges."""

    topic: str
    partition: int
    upper: int
    ranges: int
    offsets: int


@dataclass(frozen=True)
class Outbox:
    """Changes of rows that the API has written, which the relay has not published yet."""

    waiting: int
    oldest: datetime | None


async def read_letters(connection: AsyncConnection) -> OpenLetters:
    """The dead letters that are open."""
    open_, held, oldest = (await connection.execute(_LETTERS)).one()
    reasons = [LettersOfReason(*row) for row in await connection.execute(_REASONS)] if open_ else []
    return OpenLetters(open_, held, oldest, reasons)


async def read_outbox(connection: AsyncConnection) -> Outbox:
    """The changes that wait for the relay."""
    return Outbox(*(await connection.execute(text("SELECT count(*), min(written_at) FROM outbox"))).one())


async def read_last_runs(connection: AsyncConnection) -> list[LastRun]:
    """The last run of each source, by name."""
    return [LastRun(*row) for row in await connection.execute(_RUNS)]


async def read_covered(connection: AsyncConnection, settings: Settings) -> list[Covered]:
    """The coverage of each raw partition, in numbers."""
    topics = [settings.named(dataset.raw_topic) for dataset in ingested_datasets()]
    rows = await connection.execute(_COVERAGE, {"topics": topics})
    return [Covered(topic, partition, upper or 0, count, int(total)) for topic, partition, upper, count, total in rows]


def read_latency(settings: Settings, admin: AdminClient) -> Latency:
    """Of the newest changes, how long their records took. Blocking, 2 s at most. Raises KafkaException."""
    topics = [settings.named(dataset.changed_topic) for dataset in ingested_datasets()]
    metadata = admin.list_topics(timeout=REQUEST_TIMEOUT_SECONDS).topics
    places = [(topic, number) for topic in topics if topic in metadata for number in metadata[topic].partitions]
    kept = {place: ends for place, ends in bounds(admin, places).items() if ends[0] < ends[1]}
    with browser(settings) as consumer:
        look = newest(consumer, kept, LATEST_CHANGES, Budget(LATENCY_SECONDS, LATENCY_BYTES))
    return latency_of([message.value or b"" for message in look.messages])


def latency_of(changes: Sequence[bytes]) -> Latency:
    """The latency that these change events tell of. Pure."""
    found: dict[tuple[str, int], tuple[float, datetime]] = {}
    for value in changes:
        try:
            change = msgspec.json.decode(value, type=ChangeEvent)
            stored_at = _stored_at(change)
        except HOSTILE:
            continue
        if change.origin is None or stored_at is None:
            continue
        seconds = stored_at.timestamp() - change.origin.timestamp / 1000
        if seconds >= 0:  # an unchanged record has the time of the one before it
            found.setdefault((change.key, change.version), (round(seconds, 3), stored_at))
    ordered = sorted(seconds for seconds, _ in found.values())
    if not ordered:
        return Latency(None, None, 0, None)
    latest = max(stored_at for _, stored_at in found.values())
    return Latency(ordered[len(ordered) // 2], ordered[-1], len(ordered), latest.astimezone(UTC))


def _stored_at(change: ChangeEvent) -> datetime | None:
    if change.op != "stored":
        return None
    times = msgspec.json.decode(change.data, type=_Times)
    return times.updated_at or times.created_at


class _Times(msgspec.Struct):
    created_at: datetime | None = None
    updated_at: datetime | None = None
