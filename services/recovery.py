"""Sets the sinks of Postgres back after it was restored from a backup, so that they read again what it has not.

Their groups stand in Kafka where the lost database was. The restored one knows by its coverage which raw records it has
not, and what its sinks read twice changes nothing (decision 0059).
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from runtime.errors import Explained
from runtime.kafka.browse import Budget, bounds, browser, offsets_at, onward
from runtime.kafka.clients import SESSION_TIMEOUT_MS, reason
from runtime.kafka.offset_ranges import OffsetRanges
from runtime.kafka.topic_admin import Place, admin_client, committed_offsets, partition_counts
from runtime.settings import Settings
from schemas.sinks import POSTGRES, sink_named
from schemas.topics import topics_read_by
from services.audits.audit import NO_COVERAGE
from services.audits.store_repair import raise_versions
from sinks.postgres.connection import SinkConnection
from stores.coverage import read_coverage
from stores.epochs import note_epochs, raw_topics
from stores.postgres_connection import Connection
from stores.postgres_engine import postgres_engine

LANDING = sink_named("landing")

VERSIONS_APART = 10**12
"""Search and cache may hold versions that the lost database drew. New ones begin behind the next multiple of this: far
more than it can have drawn since the backup, and room for thousands of restored backups below 2^53."""

CLOCKS_APART_MS = 600_000
"""The broker stamps raw records, the normalizer what follows from them: their clocks may differ by so much."""

LEFT_SECONDS = SESSION_TIMEOUT_MS / 1000 + 5
"""A static member that has stopped stays in its group until its session is over."""

LOOK_SECONDS = 60.0
LOOK_BYTES = 1_073_741_824
ALTER_SECONDS = 10.0


@dataclass(frozen=True)
class SetBack:
    """A partition that a group reads again from `offset` on, instead of going on at `committed`."""

    group: str
    topic: str
    partition: int
    committed: int
    offset: int


@dataclass(frozen=True)
class Recovery:
    """Work of one recovery."""

    uncovered: int
    """Offsets of raw topics that the log still has and Postgres has not accounted for."""
    since_ms: int | None
    """Time from which clean and failed records are read again, in ms since the epoch; None: nothing is missing."""
    set_back: Sequence[SetBack]
    first_version: int
    """Every version that is drawn from now on is above this one."""


async def recover(settings: Settings, since_ms: int | None = None) -> Recovery:
    """Set the groups of the Postgres and the landing sink back to what Postgres lacks, and raise the rows' versions.

    `since_ms`: read clean and failed records again from this time on, by default from that of the oldest raw record
    that Postgres lacks. Idempotent; moves no group forward. Raises Explained while one of the sinks runs,
    KafkaException, and what asyncpg and SQLAlchemy raise.
    """
    places = await asyncio.to_thread(_places, settings, POSTGRES.group)
    await asyncio.to_thread(_require_stopped, settings)
    await note_epochs(settings)
    first_version = await _raise_versions(settings)
    missing, landed = await _missing(settings), await _landed(settings)
    admin = admin_client(settings)
    if since_ms is None:
        since_ms = await asyncio.to_thread(_oldest, settings, admin, missing)
    wanted = await asyncio.to_thread(offsets_at, admin, places, since_ms) if since_ms is not None else {}
    back = [
        *await asyncio.to_thread(_set_back, settings, admin, POSTGRES.group, wanted),
        *await asyncio.to_thread(_set_back, settings, admin, LANDING.group, landed),
    ]
    return Recovery(sum(map(len, missing.values())), since_ms, back, first_version)


def _require_stopped(settings: Settings) -> None:
    """Wait until both groups are empty. Blocking. Raises Explained if they are not once every session is over."""
    admin = admin_client(settings)
    groups = [settings.named(sink.group) for sink in (POSTGRES, LANDING)]
    deadline = time.monotonic() + LEFT_SECONDS
    while True:
        described = admin.describe_consumer_groups(groups)
        members = [str(one.group_instance_id) for group in groups for one in described[group].result().members]
        if not members:
            return
        if time.monotonic() > deadline:
            raise Explained(
                f"{', '.join(sorted(members))} still run: a group can be set back only while nobody reads. Stop "
                f"{POSTGRES.group} and {LANDING.group} first (`headrace down`, then `headrace up --servers-only`; "
                "`docker compose stop`; `kubectl scale --replicas=0`), and call this again"
            )
        time.sleep(0.5)


async def _raise_versions(settings: Settings) -> int:
    database = SinkConnection(settings)
    try:
        connection, _ = await database.open()
        drawn = await connection.fetchval("SELECT last_value FROM row_version")
        above = (drawn // VERSIONS_APART + 1) * VERSIONS_APART
        await raise_versions(connection, above)
    finally:
        await database.close()
    return int(above)


async def _missing(settings: Settings) -> dict[Place, OffsetRanges]:
    """Of each raw partition, the offsets that the log still has and Postgres does not account for."""
    held = await asyncio.to_thread(_raw_bounds, settings)
    engine = postgres_engine(settings, pool_size=1)
    try:
        async with engine.connect() as connection:
            covered = await read_coverage(connection)
    finally:
        await engine.dispose()
    found = {
        place: OffsetRanges([within]).without(covered.get(place, NO_COVERAGE).accounted)
        for place, within in held.items()
        if within[0] < within[1]
    }
    return {place: offsets for place, offsets in found.items() if offsets}


def _raw_bounds(settings: Settings) -> dict[Place, tuple[int, int]]:
    return bounds(admin_client(settings), _places_of(settings, list(raw_topics(settings))))


async def _landed(settings: Settings) -> dict[Place, int]:
    """Of each raw partition, the offset behind the last record that has landed. The sink lands them in order."""
    places = await asyncio.to_thread(_places, settings, LANDING.group)
    database = SinkConnection(settings)
    try:
        connection, _ = await database.open()
        return {place: await _behind_landed(connection, place) for place in places}
    finally:
        await database.close()


async def _behind_landed(connection: Connection, place: Place) -> int:
    last = 'SELECT max("offset") FROM {} WHERE topic = $1 AND "partition" = $2'
    query = f"SELECT greatest(({last.format('raw_api_data')}), ({last.format('raw_csv_data')})) + 1"
    return await connection.fetchval(query, *place) or 0


def _oldest(settings: Settings, admin: AdminClient, missing: Mapping[Place, OffsetRanges]) -> int | None:
    """The time from which all that follows from the missing records has been written; None if no record is missing."""
    ends = bounds(admin, list(missing)) if missing else {}
    ranges = {place: (next(iter(offsets))[0], ends[place][1]) for place, offsets in missing.items()}
    if not ranges:
        return None
    with browser(settings) as consumer:
        look = onward(consumer, ranges, 1, Budget(LOOK_SECONDS, LOOK_BYTES))
    if look.stopped:
        raise Explained(f"Kafka did not show the first record that Postgres lacks: {look.stopped}; call this again")
    return max(0, look.messages[0].timestamp - CLOCKS_APART_MS) if look.messages else None


def _set_back(settings: Settings, admin: AdminClient, group: str, wanted: Mapping[Place, int]) -> list[SetBack]:
    """Commit these offsets for the group (its logical name) where they are before what it has committed. Blocking."""
    name = settings.named(group)
    committed = committed_offsets(settings, name, list(wanted)) if wanted else {}
    back = [
        SetBack(group, *place, committed[place], offset)
        for place, offset in wanted.items()
        if 0 <= offset < committed.get(place, 0)  # -1: nothing was written since then
    ]
    if not back:
        return []
    places = [TopicPartition(one.topic, one.partition, one.offset) for one in back]
    altered = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(name, places)])[name]
    try:
        refused = [place.error for place in altered.result(ALTER_SECONDS).topic_partitions if place.error]
    except KafkaException as error:
        refused = [error.args[0]]
    if refused:
        raise Explained(f"Kafka does not set {name} back: {reason(refused[0])}; if one of its processes runs, stop it")
    return back


def _places(settings: Settings, group: str) -> list[Place]:
    return _places_of(settings, [settings.named(topic) for topic in topics_read_by(group)])


def _places_of(settings: Settings, topics: Sequence[str]) -> list[Place]:
    counts = partition_counts(settings)
    return [(topic, number) for topic in topics for number in range(counts.get(topic, 0))]
