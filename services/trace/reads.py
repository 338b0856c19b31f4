"""Thin reads of each store for a trace. Each is bounded in time; one that is away is a finding, not an error."""

import urllib.parse
from collections.abc import Collection, Iterable
from typing import Any

import httpx
import msgspec
from confluent_kafka.admin import AdminClient
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from runtime.kafka.browse import Budget, Reading, TopicMessage, bounds, browser, newest, partition_of
from runtime.kafka.lookup import Coordinates
from runtime.kafka.topic_admin import REQUEST_TIMEOUT_SECONDS
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.errors import HOSTILE
from schemas.events import ChangeEvent, CleanRecord, FailedRecord
from schemas.topics import FAILURES_TOPIC
from services.trace.findings import (
    ApiFinding,
    CacheFinding,
    DeadLetter,
    DocumentFinding,
    KafkaFindings,
    Landed,
    PostgresFindings,
    StoredRow,
    Tombstone,
)
from services.trace.model import SearchedTopic
from sinks.elasticsearch import Documents
from sinks.sink import StoreTrouble
from stores.cache import VersionedCache
from stores.epochs import real_partition, topic_of
from stores.redis_client import Redis, RedisError
from stores.search_server import SearchRefused, SearchServer, TransportError
from stores.tables import dataset_table, ingest_failures, outbox, tombstones

MOST_OF_A_KIND = 50
"""Messages of a topic, landed records and dead letters of a key that are shown: the newest."""

TOPIC_SECONDS = 2.0
TOPIC_BYTES = 16_777_216
"""Bounds of the search of one partition of one topic."""

MOST_LANDED = 100_000
"""Landed records of the partition among which those of the key are looked for: the newest."""

STORE_SECONDS = 3.0


async def read_postgres(
    connection: AsyncConnection, settings: Settings, dataset: Dataset, key: str, partition: int | None
) -> PostgresFindings:
    """The rows that tell of the key; landed records only of this partition. Raises what SQLAlchemy raises."""
    found = PostgresFindings()
    await _read_row(connection, settings, dataset, key, found)
    f = ingest_failures.c
    letters = await connection.execute(
        select(ingest_failures)
        .where(f.dataset == dataset.name, f.key == key)
        .order_by(f.id.desc())
        .limit(MOST_OF_A_KIND)
    )
    found.dead_letters = [_dead_letter(row) for row in letters.mappings()]
    if dataset.written_by == "api":
        o = outbox.c
        waiting = await connection.execute(
            select(o.written_at, o.version).where(o.dataset == dataset.name, o.key == key)
        )
        if (row := waiting.first()) is not None:
            found.waiting_since, found.waiting_version = row
        return found
    topic = settings.named(dataset.raw_topic)
    if partition is None:
        found.notes.append("landed records were not looked for: the partition of the key is not known without Kafka")
        return found
    for table in ("raw_api_data", "raw_csv_data"):
        newest_landed = f"""
            SELECT "offset", source_name, run_id, received_at, is_tombstone FROM (
                SELECT "offset", key, source_name, run_id, received_at, payload IS NULL AS is_tombstone FROM {table}
                WHERE topic = :topic AND partition = :partition ORDER BY "offset" DESC LIMIT {MOST_LANDED}) AS newest
            WHERE key = :key ORDER BY "offset" DESC LIMIT {MOST_OF_A_KIND}"""  # noqa: S608 (our own names)
        rows = await connection.execute(text(newest_landed), {"topic": topic, "partition": partition, "key": key})
        for offset, source, run, received_at, is_tombstone in rows:
            found.landed.append(Landed((topic, partition, offset), table, source, run, received_at, is_tombstone))
    return found


async def read_covered(connection: AsyncConnection, places: Collection[Coordinates]) -> dict[Coordinates, bool]:
    """Of each raw record, whether Postgres has dealt with it."""
    if not places:
        return {}
    statement = text("""
        SELECT w.topic, w.partition, w.place, coalesce(w.place <@ c.ranges, false)
        FROM unnest(CAST(:topics AS text[]), CAST(:partitions AS int[]), CAST(:places AS bigint[]))
            AS w (topic, partition, place)
        LEFT JOIN coverage c USING (topic, partition)""")
    topics, partitions, offsets = zip(*sorted(places), strict=True)
    arguments = {"topics": list(topics), "partitions": list(partitions), "places": list(offsets)}
    rows = await connection.execute(statement, arguments)
    return {(topic, partition, place): done for topic, partition, place, done in rows}


async def _read_row(
    connection: AsyncConnection, settings: Settings, dataset: Dataset, key: str, found: PostgresFindings
) -> None:
    table, raw_topic = dataset_table(dataset), settings.named(dataset.raw_topic)
    conditions = [table.c[name] == part for name, part in dataset.key_fields(key).items()]
    row: Any = (await connection.execute(select(table).where(*conditions))).mappings().first()
    if row is not None:
        names = [*(["id"] if dataset.serial_id else []), *(field.name for field in dataset.fields)]
        record = {name: row[name] for name in (*names, "created_at", "updated_at")}
        origin, ms = None, 0
        if dataset.written_by == "pipeline":
            origin, ms = _origin(raw_topic, row["raw_partition"], row["raw_offset"]), row["raw_timestamp"]
        found.row = StoredRow(row["version"], row["created_at"], row["updated_at"], record, origin, ms)
    t = tombstones.c
    gone: Any = await connection.execute(select(tombstones).where(t.dataset == dataset.name, t.key == key))
    if (one := gone.mappings().first()) is not None:
        origin = _origin(raw_topic, one["raw_partition"], one["raw_offset"])
        found.tombstone = Tombstone(one["version"], one["deleted_at"], origin, one["raw_timestamp"])


def _origin(topic: str, partition: int, offset: int) -> Coordinates:
    return topic_of(topic, partition), real_partition(partition), offset


def _dead_letter(row: Any) -> DeadLetter:
    place = row["topic"], real_partition(row["partition"]), row["offset"]
    return DeadLetter(
        row["id"], place, row["stage"], row["reason"], row["message"], row["state"], row["failed_at"],
        row["source_name"], row["run_id"], row["claim"] is not None, row["blocked_by"],
    )  # fmt: skip


def read_topics(settings: Settings, admin: AdminClient, dataset: Dataset, key: str) -> KafkaFindings:
    """The messages of a key on the topics of its dataset, and on `failures`: its partition of each, back from the end.

    Blocking, some seconds at most. Raises KafkaException.
    """
    metadata = admin.list_topics(timeout=REQUEST_TIMEOUT_SECONDS).topics
    encoded = key.encode("utf-8", "surrogatepass")
    topics = [settings.named(dataset.changed_topic)]
    if dataset.written_by == "pipeline":
        before = (dataset.raw_topic, dataset.clean_topic, FAILURES_TOPIC)
        topics = [*map(settings.named, before), *topics]
    there = [topic for topic in topics if topic in metadata]
    found = KafkaFindings(partition_of(encoded, len(metadata[there[0]].partitions)) if there else 0)
    places = [(topic, partition_of(encoded, len(metadata[topic].partitions))) for topic in there]
    kept = bounds(admin, places)
    with browser(settings) as consumer:
        for place in places:
            budget = Budget(TOPIC_SECONDS, TOPIC_BYTES)
            look = newest(consumer, {place: kept[place]}, MOST_OF_A_KIND, budget, lambda one: one.key == encoded)
            stopped = look.stopped
            if not stopped and look.looked[place][0] > kept[place][0]:
                stopped = f"the newest {MOST_OF_A_KIND} messages of the key were found"
            found.searched.append(SearchedTopic(*place, *look.looked[place], kept[place][0], stopped))
            for message in reversed(look.messages):
                _take(settings, dataset, message, found)
    return found


def read_raw_at(settings: Settings, places: Iterable[Coordinates], found: KafkaFindings) -> None:
    """Add the raw records at these coordinates that the topic still has. Blocking. Raises KafkaException."""
    searched = {(one.topic, one.partition): one for one in found.searched}
    wanted = []
    for place in places:
        one = searched.get(place[:2])
        if one is None or place in found.raw or place[2] < one.kept_from:
            continue
        # Those that the search has passed over are no records of this key, or none; unless it was cut short among them.
        if place[2] < one.first or one.stopped:
            wanted.append(place)
    if not wanted:
        return
    with browser(settings) as consumer:
        for topic, partition, offset in wanted[:MOST_OF_A_KIND]:
            ranges = {(topic, partition): (offset, offset + 1)}
            for message in Reading(consumer, ranges, Budget(TOPIC_SECONDS, TOPIC_BYTES)):
                found.raw[topic, partition, message.offset] = message


def _take(settings: Settings, dataset: Dataset, message: TopicMessage, found: KafkaFindings) -> None:
    if message.topic == settings.named(dataset.raw_topic):
        found.raw[message.topic, message.partition, message.offset] = message
        return
    try:
        if message.topic == settings.named(dataset.clean_topic):
            found.clean.append((message, msgspec.json.decode(message.value or b"", type=CleanRecord)))
        elif message.topic == settings.named(dataset.changed_topic):
            found.changes.append((message, msgspec.json.decode(message.value or b"", type=ChangeEvent)))
        else:
            failed = msgspec.json.decode(message.value or b"", type=FailedRecord)
            if failed.dataset == dataset.name:
                found.failed.append((message, failed))
    except HOSTILE:
        return  # a foreign message: `headrace topics peek` shows it


async def read_document(server: SearchServer, settings: Settings, dataset: Dataset, key: str) -> DocumentFinding:
    """The version of the key's document. Raises SearchRefused, TransportError, StoreTrouble."""
    held = await Documents(server, settings).versions(dataset, [key])
    return DocumentFinding(held[key].version if key in held else None)


async def read_cache(client: Redis, settings: Settings, dataset: Dataset, key: str) -> CacheFinding:
    """The entry of the key in the cache. Raises RedisError, OSError."""
    entry = VersionedCache(client, settings).entry(dataset.name, key)
    pipeline = client.pipeline(transaction=False)
    pipeline.hmget(entry, ["version", "floor", "data"])
    pipeline.pttl(entry)
    (version, floor, data), left = await pipeline.execute()
    return CacheFinding(
        None if data is None or version is None else int(version),
        None if floor is None else int(floor),
        bool(data),
        left / 1000 if left >= 0 else None,
    )


async def read_api(client: httpx.AsyncClient, dataset: Dataset, key: str) -> ApiFinding:
    """The answer to a reader of the key. As any read does, it may fill the cache. Raises httpx.HTTPError."""
    answer = await client.get(f"/datasets/{dataset.name}/{urllib.parse.quote(key, safe='')}", timeout=STORE_SECONDS)
    record = None
    if answer.status_code == httpx.codes.OK:
        try:
            record = msgspec.json.decode(answer.content)
        except HOSTILE:
            record = None
    return ApiFinding(answer.status_code, answer.headers.get("X-Cache"), answer.headers.get("ETag"), record)


STORE_ERRORS = (RedisError, SearchRefused, TransportError, OSError, TimeoutError, StoreTrouble, httpx.HTTPError)
"""All that a store that is away makes its client raise, Postgres and Kafka aside."""
