"""Rows of datasets that the API writes. A row, its tombstone and its entry in the outbox are of one transaction.

Writers of one key take turns, from before they look until they commit, so that its versions grow in the order of the
commits: a follower who has seen the last version has seen the last state.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Table, and_, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from api.queries.records import Row, VersionedRow, read_one, served_columns
from runtime.tracing import traceparent
from schemas.dataset import Dataset
from schemas.events import ChangeEvent
from stores.advisory_locks import lock_until_commit
from stores.outages import TableMisfit
from stores.tables import OUTBOX_CHANNEL, dataset_table, outbox, row_version, tombstones

NO_RAW_RECORD = -1
"""In the coordinates of a tombstone behind which there is no raw record."""

NOT_KEPT = "it takes the row and keeps nothing of it; a trigger drops it"

_encode = msgspec.json.Encoder().encode


class KeyTaken(Exception):
    """There is a record with that key already."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


@dataclass(frozen=True)
class Written:
    """A row as it now stands, None if it was deleted; and the new version of every key that changed."""

    row: Row | None
    versions: Mapping[str, int] = field(default_factory=dict)


async def insert_row(connection: AsyncConnection, dataset: Dataset, content: Row) -> Written:
    """Store a record whose fields are in normal form. Raises KeyTaken or TableMisfit. In the caller's transaction, as
    all here.
    """
    key = dataset.key_text(content)
    await _take_turns(connection, dataset, [key])
    table = dataset_table(dataset)
    values = {**content, "search_text": dataset.search_text(content), "version": row_version.next_value()}
    statement = insert(table).values(values).on_conflict_do_nothing(index_elements=dataset.key)
    found = await connection.execute(statement.returning(*served_columns(dataset), table.c.version))
    stored = found.mappings().one_or_none()
    if stored is None:
        if await read_one(connection, dataset, dataset.key_fields(key)):
            raise KeyTaken(key)
        raise TableMisfit(NOT_KEPT)
    row = dict(stored)
    version = row.pop("version")
    await _forget_tombstone(connection, dataset, key)
    await _announce(connection, dataset, [_stored(key, version, row)])
    return Written(row, {key: version})


async def update_row(connection: AsyncConnection, dataset: Dataset, key: str, changes: Row) -> Written | None:
    """Change fields of a record, its key among them; None if there is none. Raises KeyTaken or TableMisfit.

    What changes nothing leaves no trace. A record that gets another key keeps its `created_at`.
    """
    fields = dataset.key_fields(key)
    new_key = dataset.key_text({**fields, **changes})
    await _take_turns(connection, dataset, {key, new_key})
    before = await read_one(connection, dataset, fields)
    if before is None:
        return None
    content = {one.name: changes.get(one.name, before.row[one.name]) for one in dataset.fields}
    if all(before.row[name] == value for name, value in content.items()):
        return Written(before.row)
    if new_key != key and await read_one(connection, dataset, dataset.key_fields(new_key)):
        raise KeyTaken(new_key)
    after = await _replace(connection, dataset, fields, content)
    events = [_stored(new_key, after.version, after.row)]
    if new_key != key:
        await _forget_tombstone(connection, dataset, new_key)
        events.append(ChangeEvent(key, "deleted", await _bury(connection, dataset, key)))
    await _announce(connection, dataset, events)
    return Written(after.row, {event.key: event.version for event in events})


async def delete_row(connection: AsyncConnection, dataset: Dataset, key: str) -> Written | None:
    """Delete a record and leave a tombstone; None if there is no such record."""
    await _take_turns(connection, dataset, [key])
    table = dataset_table(dataset)
    gone = await connection.execute(delete(table).where(_is(table, dataset.key_fields(key))))
    if not gone.rowcount:
        return None
    version = await _bury(connection, dataset, key)
    await _announce(connection, dataset, [ChangeEvent(key, "deleted", version)])
    return Written(None, {key: version})


async def _take_turns(connection: AsyncConnection, dataset: Dataset, keys: Iterable[str]) -> None:
    """Until the transaction ends. In one order, so that two who want the same keys do not wait for each other."""
    for key in sorted(keys):
        await lock_until_commit(connection, f"{dataset.name}:{key}")


async def _replace(
    connection: AsyncConnection, dataset: Dataset, fields: Mapping[str, str], content: Row
) -> VersionedRow:
    table = dataset_table(dataset)
    statement = (
        update(table)
        .where(_is(table, fields))
        .values(
            **content,
            search_text=dataset.search_text(content),
            version=row_version.next_value(),
            updated_at=func.now(),
        )
        .returning(*served_columns(dataset), table.c.version)
    )
    stored = (await connection.execute(statement)).mappings().one_or_none()
    if stored is None:
        raise TableMisfit(NOT_KEPT)
    row = dict(stored)
    return VersionedRow(version=row.pop("version"), row=row)


async def _bury(connection: AsyncConnection, dataset: Dataset, key: str) -> int:
    """Leave a tombstone; returns the version of the delete."""
    statement = insert(tombstones).values(
        dataset=dataset.name,
        key=key,
        version=row_version.next_value(),
        deleted_at=func.now(),
        **dict.fromkeys(("raw_partition", "raw_offset", "raw_timestamp"), NO_RAW_RECORD),
    )
    newer = {name: statement.excluded[name] for name in ("version", "deleted_at")}
    upsert = statement.on_conflict_do_update(index_elements=["dataset", "key"], set_=newer)
    return int((await connection.execute(upsert.returning(tombstones.c.version))).scalar_one())


async def _forget_tombstone(connection: AsyncConnection, dataset: Dataset, key: str) -> None:
    grave = and_(tombstones.c.dataset == dataset.name, tombstones.c.key == key)
    await connection.execute(delete(tombstones).where(grave))


async def _announce(connection: AsyncConnection, dataset: Dataset, events: Iterable[ChangeEvent]) -> None:
    """Put events into the outbox, in place of older ones of their keys, and wake the relay when all is committed."""
    trace = traceparent()
    entries = [
        {
            "dataset": dataset.name,
            "key": event.key,
            "version": event.version,
            "event": _encode(event),
            "trace": trace,
        }
        for event in sorted(events, key=lambda event: event.key)
    ]
    statement = insert(outbox).values(entries)
    newer = {name: statement.excluded[name] for name in ("version", "event", "written_at", "trace")}
    await connection.execute(statement.on_conflict_do_update(index_elements=["dataset", "key"], set_=newer))
    await connection.execute(select(func.pg_notify(OUTBOX_CHANNEL, "")))


def _stored(key: str, version: int, row: Row) -> ChangeEvent:
    return ChangeEvent(key, "stored", version, data=msgspec.Raw(_encode(row)))


def _is(table: Table, key: Mapping[str, Any]) -> ColumnElement[bool]:
    return and_(*(table.c[name] == value for name, value in key.items()))
