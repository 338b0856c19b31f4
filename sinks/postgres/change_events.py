"""The events on `<dataset>.changed`: a row's content as JSON, the times at which it was stored, and its version."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from runtime.kafka.confirmed import BY_KEY, Outgoing
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.events import ChangeEvent, Origin
from sinks.postgres import statements as sql
from sinks.postgres.deletions import Deletions
from sinks.postgres.merge import Stored
from stores.epochs import real_partition
from stores.postgres_connection import Connection
from stores.tables import OUTBOX_CHANNEL

_PUT = """
    INSERT INTO outbox AS o (dataset, key, version, event)
    SELECT $1, key, version, event FROM unnest($2::text[], $3::bigint[], $4::bytea[]) AS e (key, version, event)
    ON CONFLICT (dataset, key) DO UPDATE
        SET version = excluded.version, event = excluded.event, written_at = excluded.written_at
        WHERE o.version < excluded.version"""

_encode = msgspec.json.Encoder().encode


def stored_events(dataset: Dataset, stored: Iterable[Stored], settings: Settings) -> Iterator[Outgoing]:
    """Events of rows whose content is the arrival's: its JSON is passed through. Pure, lazy."""
    # Written as bytes, since data and times are bytes already; the same as encoding a ChangeEvent, at half the cost.
    topic = settings.named(dataset.changed_topic)
    places: dict[tuple[str, int], tuple[int, bytes]] = {}  # of raw partitions: real partition, beginning of the origin
    created_at = updated_at = None  # one transaction, few distinct times
    created = updated = b"null"
    for item in stored:
        arrival = item.arrival
        if item.outcome == "deleted":
            yield change_message(topic, ChangeEvent(arrival.key, "deleted", item.version, arrival.origin))
            continue
        if item.created_at != created_at:
            created_at, created = item.created_at, _encode(item.created_at)
        if item.updated_at != updated_at:
            updated_at, updated = item.updated_at, _encode(item.updated_at)
        origin = arrival.origin
        place = (origin.topic, origin.partition)
        if place not in places:
            beginning = b'{"topic":%b,"partition":%d' % (_encode(origin.topic), origin.partition)
            places[place] = real_partition(origin.partition), beginning
        partition, beginning = places[place]
        identity = b"" if item.id is None else b',"id":%d' % item.id
        value = (
            b'{"key":%b,"op":"stored","version":%d,"origin":%b,"offset":%d,"timestamp":%d},'
            b'"data":%b%b,"created_at":%b,"updated_at":%b}}'
        ) % (
            _encode(arrival.key),
            item.version,
            beginning,
            origin.offset,
            origin.timestamp,
            arrival.data.rstrip()[:-1],
            identity,
            created,
            updated,
        )
        yield Outgoing(topic, partition, arrival.key.encode(), value)


async def row_events(
    connection: Connection, dataset: Dataset, keys: Sequence[str], settings: Settings
) -> list[Outgoing]:
    """Events of rows, or tombstones, as they stand now, for keys whose arrivals changed nothing."""
    if not keys:
        return []
    topic = settings.named(dataset.changed_topic)
    events = []
    for key, version, *place, data in await connection.fetch(sql.rows(dataset), *sql.key_columns(dataset, keys)):
        origin = origin_at(dataset, settings, *place)
        events.append(change_message(topic, ChangeEvent(key, "stored", version, origin, msgspec.Raw(data.encode()))))
    if len(events) < len(keys):
        for key, version, *place in (await Deletions(connection, dataset).tombstones(keys)).values():
            origin = origin_at(dataset, settings, *place)
            events.append(change_message(topic, ChangeEvent(key, "deleted", version, origin)))
    return events


def origin_at(dataset: Dataset, settings: Settings, partition: int, offset: int, timestamp: int) -> Origin | None:
    """The origin that these coordinates tell of; None where the API writes the rows. Pure."""
    if dataset.written_by == "api":
        return None
    return Origin(settings.named(dataset.raw_topic), partition, offset, timestamp)


def change_message(topic: str, event: ChangeEvent) -> Outgoing:
    """The message of an event, on the partition that its record came from. Pure."""
    partition = real_partition(event.origin.partition) if event.origin else BY_KEY
    return Outgoing(topic, partition, event.key.encode(), _encode(event))


async def put_into_outbox(connection: Connection, dataset: Dataset, events: Sequence[ChangeEvent]) -> None:
    """Have the relay publish these events once the caller's transaction has committed."""
    keys, versions = [event.key for event in events], [event.version for event in events]
    await connection.execute(_PUT, dataset.name, keys, versions, [_encode(event) for event in events])
    await connection.execute("SELECT pg_notify($1, '')", OUTBOX_CHANNEL)
