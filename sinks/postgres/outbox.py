"""The outbox: events that a transaction puts in, and the relay, one at a time, takes out once they are published."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.events import ChangeEvent
from sinks.postgres.connection import Connection, SinkConnection
from stores.advisory_locks import RELAY, try_lock
from stores.tables import OUTBOX_CHANNEL

_PUT = """
    INSERT INTO outbox AS o (dataset, key, version, event)
    SELECT $1, key, version, event FROM unnest($2::text[], $3::bigint[], $4::bytea[]) AS e (key, version, event)
    ON CONFLICT (dataset, key) DO UPDATE
        SET version = excluded.version, event = excluded.event, written_at = excluded.written_at
        WHERE o.version < excluded.version"""

_NEXT = "SELECT dataset, key, version, event, written_at FROM outbox ORDER BY version LIMIT $1"

# An entry that a writer is replacing at this moment is passed over: what it says next is still to be published. So the
# relay never waits for a writer, nor a writer for the relay for longer than this statement takes.
_REMOVE = """
    DELETE FROM outbox WHERE version IN (
        SELECT version FROM outbox WHERE version = ANY($1::bigint[]) FOR UPDATE SKIP LOCKED)"""


_encode = msgspec.json.Encoder().encode


async def put_into_outbox(connection: Connection, dataset: Dataset, events: Sequence[ChangeEvent]) -> None:
    """Have the relay publish these events once the caller's transaction has committed."""
    keys, versions = [event.key for event in events], [event.version for event in events]
    await connection.execute(_PUT, dataset.name, keys, versions, [_encode(event) for event in events])
    await connection.execute("SELECT pg_notify($1, '')", OUTBOX_CHANNEL)


class Entry(NamedTuple):
    """A change event that is to be published."""

    dataset: str
    key: str
    version: int
    event: bytes
    written_at: datetime


class Outbox:
    """One session at a time has the turn, until it ends. Every call raises Backpressure while Postgres is away."""

    def __init__(self, settings: Settings) -> None:
        self._connection = SinkConnection(settings)
        self._news = asyncio.Event()
        self._took_turn = False

    @property
    def has_turn(self) -> bool:
        """True while this session publishes and others stand by."""
        return self._took_turn and self._connection.is_open

    async def next(self, limit: int) -> list[Entry]:
        """The oldest entries; none while another session has the turn."""
        self._news.clear()
        async with self._connection.use() as (connection, new):
            if new:
                self._took_turn = False
                await connection.add_listener(OUTBOX_CHANNEL, self._hear)
            if not self._took_turn:
                self._took_turn = await try_lock(connection, RELAY)
            return [Entry(*row) for row in await connection.fetch(_NEXT, limit)] if self._took_turn else []

    async def remove(self, entries: Sequence[Entry]) -> None:
        """Take out what has been published, unless something newer of its key has taken its place. Idempotent."""
        async with self._connection.use() as (connection, _):
            await connection.execute(_REMOVE, [entry.version for entry in entries])

    async def news(self, seconds: float) -> None:
        """Wait for a commit that put something in since the last `next`, for so long at most, or for `wake`."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    def wake(self) -> None:
        """End a `news` under way."""
        self._news.set()

    async def close(self) -> None:
        """End the session, and with it the turn."""
        await self._connection.close()

    def _hear(self, _connection: Connection, _process: int, _channel: str, _payload: Any) -> None:
        self._news.set()
