"""The change events that repair a store: of rows as they are, of rows under new versions, and of deletes."""

# ruff: noqa: S608 (only names of ours are put into SQL)

import time
from collections.abc import Sequence

from runtime.kafka.confirmed import Outgoing
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.events import ChangeEvent
from sinks.postgres import statements as sql
from sinks.postgres.change_events import change_message, origin_at, row_events
from sinks.postgres.connection import Connection
from sinks.postgres.deletions import Deletions
from stores.tables import same_key

NO_PLACE = -1
"""Partition (the key decides) and offset of an event that no raw record is behind."""


async def raise_versions(connection: Connection, above: int) -> None:
    """Let every version that is drawn from now on be above this one. Idempotent; never lowers the next one."""
    async with connection.transaction():
        # Changes nothing, but takes the lock that keeps others from drawing between the look and the setting.
        await connection.execute("ALTER SEQUENCE row_version OWNED BY NONE")
        if await connection.fetchval("SELECT last_value FROM row_version") < above:
            await connection.execute("SELECT setval('row_version', $1)", above)


async def renumber(
    connection: Connection, dataset: Dataset, keys: Sequence[str], above: int, settings: Settings
) -> list[Outgoing]:
    """Give rows that are not above that version a new one; returns their events. Contents and `updated_at` stay.

    Call `raise_versions` first.
    """
    arrays = ", ".join(f"${number}::text[]" for number in range(2, len(dataset.key) + 2))
    names = ", ".join(f'"{name}"' for name in dataset.key)
    async with connection.transaction():
        await _hold_writers(connection, dataset)
        await connection.execute(
            f"""UPDATE "{dataset.table}" t SET version = nextval('row_version')
                FROM unnest({arrays}) AS w ({names}) WHERE {same_key(dataset, "w")} AND t.version <= $1""",
            above,
            *sql.key_columns(dataset, keys),
        )
    return await row_events(connection, dataset, keys, settings)


async def delete_again(
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
    fields = []
    for key in keys:
        try:
            fields.append(dataset.key_fields(key))
        except ValueError:
            continue  # no row can have it
    columns = [[one[name] for one in fields] for name in dataset.key]
    return {row[0] for row in await connection.fetch(sql.alive(dataset), *columns)}


async def _hold_writers(connection: Connection, dataset: Dataset) -> None:
    """Wait for the writers at work and keep others out until the transaction ends, milliseconds later."""
    await connection.execute(f'LOCK TABLE "{dataset.table}" IN SHARE ROW EXCLUSIVE MODE')
