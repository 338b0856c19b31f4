"""Repairs stores that differ from Postgres: publishes change events again, and the sinks do the rest."""

# ruff: noqa: S608 (only names of ours are put into SQL)

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

import msgspec

from runtime.errors import DeliveryFailed
from runtime.kafka.confirmed import Outgoing, Publisher
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.events import ChangeEvent
from schemas.registry import dataset_named
from services.audits.store_comparison import MISSING, NEWER, ORPHANED, StoreAudit
from sinks.elasticsearch import REQUEST_SECONDS, TRIES, Documents
from sinks.postgres import statements as sql
from sinks.postgres.change_events import change_message, origin_at, row_events
from sinks.postgres.connection import SinkConnection
from sinks.postgres.deletions import Deletions
from sinks.sink import StoreTrouble
from stores.postgres_connection import Connection
from stores.search_index import alias_name
from stores.search_server import SearchServer
from stores.tables import same_key

KEYS_AT_ONCE = 5_000
"""Bounds the memory, and how long writers are held up by a change of versions: some tenths of a second."""

CONFIRM_SECONDS = 60.0

_CURRENT = re.compile(r"current version \[(\d+)\]")
"""In the reason of a version conflict, the only place where it is told."""

_encode = msgspec.json.Encoder().encode

NO_PLACE = -1
"""Partition (the key decides) and offset of an event that no raw record is behind."""

Difference = tuple[str, str, str]
"""Dataset, store, key."""


@dataclass
class Repair:
    """The repair of one dataset, in keys."""

    dataset: str
    republished: int = 0
    """Rows published again as they are."""
    renumbered: int = 0
    """Rows given a new version, above those that a store held, and then published."""
    deleted: int = 0
    """Deletes published, again or for the first time."""


def differences(results: Iterable[StoreAudit]) -> set[Difference]:
    """Every difference in every store. Pure."""
    return {(one.dataset, one.store, key) for one in results for key in one.differences}


async def repair(settings: Settings, results: Sequence[StoreAudit], again: set[Difference]) -> list[Repair]:
    """Publish an event for every difference, confirmed.

    `again`: differences that an event with the row's version did not repair. Elasticsearch remembers the versions of
    documents that were deleted, where nobody sees them; these get a new version. Raises what asyncpg raises, and
    DeliveryFailed if the broker does not confirm.
    """
    above = max(max(one.highest for one in results), await _hidden(settings, results, again))
    by_dataset: dict[str, dict[str, str]] = defaultdict(dict)
    for one in results:
        for key, kind in one.differences.items():
            renumbered = kind == NEWER or (kind != ORPHANED and (one.dataset, one.store, key) in again)
            # A key may differ in two stores: what also repairs the other one wins.
            if renumbered or kind == ORPHANED or key not in by_dataset[one.dataset]:
                by_dataset[one.dataset][key] = NEWER if renumbered else kind
    async with AsyncExitStack() as stack:
        database, publisher = SinkConnection(settings), Publisher(settings)
        stack.push_async_callback(database.close)
        stack.push_async_callback(publisher.close)
        connection, _ = await database.open()
        if any(kind in {NEWER, ORPHANED} for kinds in by_dataset.values() for kind in kinds.values()):
            await raise_versions(connection, above)
        return [
            await _repair_dataset(settings, connection, publisher, dataset_named(name), kinds, above)
            for name, kinds in by_dataset.items()
            if kinds
        ]


async def _hidden(settings: Settings, results: Sequence[StoreAudit], again: set[Difference]) -> int:
    """The highest version that Elasticsearch remembers of documents that are missing still."""
    if not settings.elasticsearch_url or not again:
        return 0
    highest = 0
    async with SearchServer(settings, REQUEST_SECONDS, TRIES) as server:
        for one in results:
            missing = [
                key
                for key, kind in one.differences.items()
                if kind == MISSING and one.store == Documents.name and (one.dataset, one.store, key) in again
            ]
            for keys in _paged(missing):
                found = await _highest_deleted_version(server, settings, dataset_named(one.dataset), keys)
                highest = max(highest, found)
    return highest


async def _highest_deleted_version(
    server: SearchServer, settings: Settings, dataset: Dataset, keys: Sequence[str]
) -> int:
    """The highest version under which one of these documents, all missing, was deleted; 0 if none was.

    Asks for their deletion as version 0. Whatever was deleted before, or has come since, is newer: a conflict, which
    names its version. Of what never was, nothing but this version 0 is remembered, and every row is newer than that.
    """
    index = alias_name(dataset, settings)
    lines = [{"delete": {"_index": index, "_id": key, "version": 0, "version_type": "external"}} for key in keys]
    answer = await server.ask("POST", "/_bulk?require_alias=true", b"".join(_encode(line) + b"\n" for line in lines))
    highest = 0
    for item in answer["items"]:
        if item["delete"]["status"] == 409:
            said = item["delete"]["error"]["reason"]
            found = _CURRENT.search(said)
            if found is None:
                raise StoreTrouble(f"names no version in its conflict: {said}")
            highest = max(highest, int(found[1]))
    return highest


async def _repair_dataset(
    settings: Settings,
    connection: Connection,
    publisher: Publisher,
    dataset: Dataset,
    kinds: dict[str, str],
    above: int,
) -> Repair:
    done = Repair(dataset.name)
    for keys in _paged([key for key, kind in kinds.items() if kind == ORPHANED]):
        done.deleted += await _publish(publisher, await _delete_again(connection, dataset, keys, settings))
    for keys in _paged([key for key, kind in kinds.items() if kind == NEWER]):
        done.renumbered += await _publish(publisher, await _renumber(connection, dataset, keys, above, settings))
    for keys in _paged([key for key, kind in kinds.items() if kind not in {NEWER, ORPHANED}]):
        done.republished += await _publish(publisher, await row_events(connection, dataset, keys, settings))
    return done


async def raise_versions(connection: Connection, above: int) -> None:
    """Let every version that is drawn from now on be above this one. Idempotent; never lowers the next one."""
    async with connection.transaction():
        # Changes nothing, but takes the lock that keeps others from drawing between the look and the setting.
        await connection.execute("ALTER SEQUENCE row_version OWNED BY NONE")
        if await connection.fetchval("SELECT last_value FROM row_version") < above:
            await connection.execute("SELECT setval('row_version', $1)", above)


async def _renumber(
    connection: Connection, dataset: Dataset, keys: Sequence[str], above: int, settings: Settings
) -> list[Outgoing]:
    """Give rows that are not above that version a new one; returns their events. Contents and `updated_at` stay.

    Call `raise_versions` first.
    """
    fields = [dataset.key_fields(key) for key in keys]
    columns = [[one[name] for one in fields] for name in dataset.key]
    arrays = ", ".join(f"${number}::text[]" for number in range(2, len(dataset.key) + 2))
    names = ", ".join(f'"{name}"' for name in dataset.key)
    async with connection.transaction():
        await _hold_writers(connection, dataset)
        await connection.execute(
            f"""UPDATE "{dataset.table}" t SET version = nextval('row_version')
                FROM unnest({arrays}) AS w ({names}) WHERE {same_key(dataset, "w")} AND t.version <= $1""",
            above,
            *columns,
        )
    return await row_events(connection, dataset, keys, settings)


async def _delete_again(
    connection: Connection, dataset: Dataset, keys: Sequence[str], settings: Settings
) -> list[Outgoing]:
    """Delete events, with new versions, of those of the keys that have no row. Call `raise_versions` first."""
    async with connection.transaction():
        # A row that is stored later draws a later version, so this event can't remove it from a store.
        await _hold_writers(connection, dataset)
        alive = await _alive(connection, dataset, keys)
        gone = [key for key in keys if key not in alive]
        versions = await connection.fetch("SELECT nextval('row_version') FROM generate_series(1, $1)", len(gone))
        tombstones = await Deletions(connection, dataset).tombstones(gone)
    topic = settings.named(dataset.changed_topic)
    now = round(time.time() * 1000)
    events = []
    for key, (version,) in zip(gone, versions, strict=True):
        known = tombstones.get(key)
        place = (known.partition, known.offset, known.timestamp) if known else (NO_PLACE, NO_PLACE, now)
        origin = origin_at(dataset, settings, *place)
        events.append(change_message(topic, ChangeEvent(key, "deleted", version, origin)))
    return events


async def _alive(connection: Connection, dataset: Dataset, keys: Sequence[str]) -> set[str]:
    fit = []
    for key in keys:
        with suppress(ValueError):  # no row can have it
            dataset.key_fields(key)
            fit.append(key)
    return {row[0] for row in await connection.fetch(sql.alive(dataset), *sql.key_columns(dataset, fit))}


async def _hold_writers(connection: Connection, dataset: Dataset) -> None:
    """Wait for the writers at work and keep others out until the transaction ends, milliseconds later."""
    await connection.execute(f'LOCK TABLE "{dataset.table}" IN SHARE ROW EXCLUSIVE MODE')


async def _publish(publisher: Publisher, events: list[Outgoing]) -> int:
    try:
        async with asyncio.timeout(CONFIRM_SECONDS):
            await (await publisher.publish(events)).confirmed()
    except TimeoutError as error:
        raise DeliveryFailed(f"no confirmation within {CONFIRM_SECONDS:.0f} s") from error
    return len(events)


def _paged(keys: Sequence[str]) -> list[Sequence[str]]:
    return [keys[start : start + KEYS_AT_ONCE] for start in range(0, len(keys), KEYS_AT_ONCE)]
